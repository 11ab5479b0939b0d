package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/isopress/isopress/builder"
)

var buildVerb = verb{
	name:  "build",
	args:  "SOURCE -o OUT.iso [OPTIONS]",
	about: "Press a closure or a tree into a bootable hybrid ISO",
	run:   runBuild,
	flags: func(f *flags) {
		f.addOutput()
		f.addSource()
		f.addBoot()
		f.addPack()
	},
	quiet:    quietPress,
	parallel: true,
	more:     packHelp,
}

// bootFlags say how an ISO boots.
type bootFlags struct {
	kernel     string
	modules    string
	initrd     string
	initBinary string
	init       string
	cmdline    []string
	volumeID   string
	joliet     bool
	fat32      bool
	efiStub    string
	loader     string
	grubDirs   []string
}

func (f *flags) addBoot() {
	b := &f.boot
	f.set.StringVar(&b.kernel, "kernel", "", "Linux bzImage `FILE` (default: the system's)")
	f.set.StringVar(&b.modules, "kernel-modules", "", "`DIR` with lib/modules/<version>, for isopress's own initrd (default: the system's)")
	f.set.StringVar(&b.initrd, "initrd", "", "initrd `FILE`, or auto for isopress's own (default: the system's, or auto where it has none)")
	f.set.StringVar(&b.initBinary, "init-binary", "", "host `FILE`, isopress-init, that becomes /init of isopress's own initrd (default: beside isopress)")
	f.set.StringVar(&b.init, "init", "", "first program, a `PATH` in the image (default: the system's); the initrd's own /init is --init-binary")
	f.set.StringArrayVar(&b.cmdline, "cmdline", nil, "kernel `PARAMETERS`, appended to the system's"+repeatable)
	f.set.StringVar(&b.volumeID, "volume-id", "", "volume `ID` (default: root=LABEL= of the command line, or ISOPRESS)")
	f.set.BoolVar(&b.joliet, "joliet", false, "add a Joliet tree, for Windows")
	f.set.StringVar(&b.efiStub, "efi-stub", "", "UEFI stub `FILE` in place of isopress's own, or systemd for systemd's (of the closure, else of this machine)")
	f.set.BoolVar(&b.fat32, "fat32", false, "make the EFI system partition FAT32, for firmware that does not read FAT16")
	f.set.StringVar(&b.loader, "boot-loader", builder.LoaderStub, "`LOADER`: stub starts the system, grub shows a menu first")
	f.set.StringArrayVar(&b.grubDirs, "grub-dir", nil, "`DIR` of GRUB, with i386-pc or x86_64-efi in it (default: the closure's, or /usr/lib/grub)"+repeatable)
}

func runBuild(ctx context.Context, a *app, f *flags, args []string) error {
	o, err := a.options(f, args)
	if err != nil {
		return err
	}
	o.Boot = f.bootOptions()
	if err := o.Boot.Validate(); err != nil {
		return err
	}
	if o.Source, err = a.source(ctx, &f.source); err != nil {
		return err
	}
	init, err := findInit(ctx, "--init-binary", f.boot.initBinary)
	if err != nil {
		return err
	}
	defer init.remove()
	o.Boot.InitBinary = init.path
	return a.press(ctx, f, o, builder.Build)
}

func (f *flags) bootOptions() builder.Boot {
	b := f.boot
	return builder.Boot{
		System: f.source.system, Kernel: b.kernel, KernelModules: b.modules, Initrd: b.initrd, Init: b.init,
		Cmdline: strings.Join(b.cmdline, " "), VolumeID: b.volumeID, Joliet: b.joliet, FAT32: b.fat32, EFIStub: b.efiStub,
		Loader: b.loader, GRUBDirs: b.grubDirs,
	}
}

// initBinary is an isopress-init that was found, or built for the moment.
type initBinary struct {
	path string // "" where there is none
	temp string // directory to remove
}

func (b initBinary) remove() {
	if b.temp != "" {
		os.RemoveAll(b.temp)
	}
}

const initName = "isopress-init"

// findInit looks for isopress-init beside the executable. Under go run the
// executable lies alone in a temporary directory: there it is built. The option
// is the one that names another.
func findInit(ctx context.Context, option, given string) (initBinary, error) {
	if given != "" {
		_, err := os.Stat(given)
		return initBinary{path: given}, ofOption(option, given, err)
	}
	exe, err := os.Executable()
	if err != nil {
		return initBinary{}, err
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	beside := filepath.Join(filepath.Dir(exe), initName)
	_, err = os.Stat(beside)
	switch {
	case err == nil:
		return initBinary{path: beside}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return initBinary{}, err
	case strings.Contains(exe, string(filepath.Separator)+"go-build"):
		return compileInit(ctx)
	}
	return initBinary{}, nil // who needs one says so
}

// compileInit builds isopress-init as the README does: the same from every checkout.
func compileInit(ctx context.Context) (initBinary, error) {
	dir, err := os.MkdirTemp("", "isopress-init-")
	if err != nil {
		return initBinary{}, err
	}
	b := initBinary{filepath.Join(dir, initName), dir}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
		"-o", b.path, "github.com/isopress/isopress/cmd/"+initName)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64")
	cmd.WaitDelay = killDelay
	if out, err := cmd.CombinedOutput(); err != nil {
		b.remove()
		if ctx.Err() != nil {
			return initBinary{}, ctx.Err()
		}
		return initBinary{}, fmt.Errorf("building %s: %w: %s", initName, err, strings.TrimSpace(string(out)))
	}
	return b, nil
}
