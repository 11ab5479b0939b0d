//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/testenv"
)

// ownInitrd is the test closure in a store of its own, with a top level that names an initrd, a store
// path too.
type ownInitrd struct {
	root   string // for --store-root
	list   string // for --closure
	system string
}

const (
	initrdPath = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-initrd"
	systemPath = "/nix/store/1123456789abcdfghijklmnpqrsvwxyz-system"
)

func withOwnInitrd(t *testing.T) ownInitrd {
	t.Helper()
	c := testenv.Closure(t)
	o := ownInitrd{root: t.TempDir(), system: systemPath}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(o.root+"/nix/store", 0o755))
	var list bytes.Buffer
	for _, p := range c.Paths(t) {
		to := p
		if p == c.System {
			to = systemPath
		}
		out, err := exec.Command("cp", "-a", p, o.root+to).CombinedOutput()
		if err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
		list.WriteString(to + "\n")
	}
	list.WriteString(initrdPath + "\n")
	must(os.Mkdir(o.root+initrdPath, 0o755))
	code, _, errs := isopress(t, "initrd", "--kernel-modules", o.root+systemPath+"/kernel-modules",
		"-o", o.root+initrdPath+"/initrd", "-q")
	if code != exitDone {
		t.Fatal(errs)
	}
	// The init names its own store path.
	init, err := os.ReadFile(c.System + "/init")
	must(err)
	must(os.Chmod(o.root+systemPath, 0o755))
	must(os.Remove(o.root + systemPath + "/init"))
	must(os.WriteFile(o.root+systemPath+"/init", bytes.ReplaceAll(init, []byte(c.System), []byte(systemPath)), 0o755))
	must(os.Symlink(initrdPath+"/initrd", o.root+systemPath+"/initrd"))
	o.list = filepath.Join(o.root, "list")
	must(os.WriteFile(o.list, list.Bytes(), 0o644))
	return o
}

// args press the closure.
func (o ownInitrd) args(out string, more ...string) []string {
	return append([]string{"build", "--closure", o.list, "--store-root", o.root, "--system", o.system, "-o", out}, more...)
}

// bootsTo boots an image to the closure's marker.
func bootsTo(t *testing.T, image string, way string, more ...string) {
	t.Helper()
	firmware, attach, _ := strings.Cut(way, " ")
	t.Run(way, func(t *testing.T) {
		code, out, errs := isopress(t, append([]string{"boot", image, "--firmware", firmware, "--attach", attach,
			"--expect", "^ISOPRESS-DEMO: [0-9]+ store paths", "--timeout", "5m"}, more...)...)
		if code != exitDone {
			t.Errorf("exit code %d: %s\n%s", code, errs, out)
		}
	})
}

// Kernel and initrd that are store paths lie in the squashfs and nowhere else, and boot from there; the
// kernel's squashfs reads them as any other file.
func TestInPlace(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64", "unsquashfs", "xorriso", "sgdisk")
	o := withOwnInitrd(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "image.iso")
	r := press(t, o.args(image, "--compression", "zstd:3")...)
	places := map[string]builder.ManifestEntry{}
	for _, f := range r.Files {
		places[f.Path] = f
	}
	store := places["nix-store.squashfs"]
	if overhead := r.Size - store.Size; overhead > 500_000 {
		t.Errorf("%d bytes beside the squashfs", overhead)
	}
	run(t, "xorriso", "-osirrox", "on", "-indev", image, "-extract", "/", filepath.Join(dir, "iso"))
	run(t, "unsquashfs", "-no-progress", "-d", filepath.Join(dir, "store"), filepath.Join(dir, "iso/nix-store.squashfs"))
	kernel, err := filepath.EvalSymlinks(testenv.Closure(t).Kernel)
	if err != nil {
		t.Fatal(err)
	}
	for name, inside := range map[string]string{"boot/kernel": kernel, "boot/initrd": initrdPath + "/initrd"} {
		f := places[name]
		if f.Within != store.Path || f.Size == 0 {
			t.Errorf("%s lies within %q", name, f.Within)
		}
		host := o.root + inside
		for _, copy := range []string{filepath.Join(dir, "iso", name), filepath.Join(dir, "store", strings.TrimPrefix(inside, "/nix/store/"))} {
			if digest(t, copy) != digest(t, host) || digest(t, copy) != f.SHA256 {
				t.Errorf("%s is not %s", copy, host)
			}
		}
	}
	if out := run(t, "sgdisk", "-v", image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	bootsTo(t, image, "bios cdrom", "--memory", "256M")
	bootsTo(t, image, "uefi cdrom", "--memory", "256M")
	bootsTo(t, image, "uefi usb")
}

// FAT32, and systemd's stub, start what lies in the squashfs, too, and so does such an image that is repacked: it is
// what a build gives.
func TestFAT32AndSystemdStub(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	o := withOwnInitrd(t)
	image := filepath.Join(t.TempDir(), "image.iso")
	if _, err := os.Stat("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"); err != nil {
		testenv.Missing(t, "systemd-boot-efi is not installed")
	}
	r := press(t, o.args(image, "--compression", "zstd:3", "--fat32", "--efi-stub", "systemd")...)
	if r.Boot.EFIStub == "" || !r.Options.FAT32 {
		t.Errorf("the manifest does not tell of the stub and of FAT32: %+v, %+v", r.Boot, r.Options)
	}
	old, again := filepath.Join(t.TempDir(), "old.iso"), filepath.Join(t.TempDir(), "again.iso")
	press(t, o.args(old, "--compression", "gzip:1", "--fat32", "--efi-stub", "systemd")...)
	if code, _, errs := isopress(t, "repack", old, "-o", again, "--compression", "zstd:3"); code != exitDone || digest(t, again) != digest(t, image) {
		t.Errorf("repacked, exit code %d: another image than a build's: %s", code, errs)
	}
	bootsTo(t, again, "uefi ahci")
}

// An excluded kernel, or one that the tree does not have, lies beside the squashfs; a copy of one that it
// has is found there.
func TestWhatIsInPlace(t *testing.T) {
	o := withOwnInitrd(t)
	dir := t.TempDir()
	kernel := testenv.Closure(t).Kernel
	copied, other := filepath.Join(dir, "copy"), filepath.Join(dir, "other")
	b, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{copied: b, other: append(bytes.Clone(b), 0)} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const both = "boot/kernel boot/initrd"
	for name, tt := range map[string]struct {
		more []string
		want string // what lies within the squashfs
	}{
		"own":                 {nil, both},
		"a copy":              {[]string{"--kernel", copied}, both},
		"another":             {[]string{"--kernel", other}, "boot/initrd"},
		"excluded":            {[]string{"--exclude", "bzImage"}, "boot/initrd"},
		"in what is left out": {[]string{"--exclude", "*-linux"}, "boot/initrd"},
		"packed by us":        {[]string{"--initrd", "auto"}, "boot/kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			r := press(t, o.args(filepath.Join(t.TempDir(), "image"), append(tt.more, "--compression", "lz4")...)...)
			for _, f := range r.Files {
				if boots := strings.Contains(both, f.Path); boots && (f.Within != "") != strings.Contains(tt.want, f.Path) {
					t.Errorf("%s lies within %q", f.Path, f.Within)
				}
			}
		})
	}
	t.Run("a tree", func(t *testing.T) {
		tree := filepath.Join(t.TempDir(), "tree")
		for _, d := range []string{"/boot", "/sbin"} {
			if err := os.MkdirAll(tree+d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		run(t, "cp", "-L", kernel, tree+"/boot/vmlinuz")
		run(t, "cp", o.root+initrdPath+"/initrd", tree+"/boot/initrd.img")
		image := filepath.Join(t.TempDir(), "image")
		r := press(t, "build", "--root", tree, "--kernel", tree+"/boot/vmlinuz", "--initrd", tree+"/boot/initrd.img", "-o", image, "--compression", "lz4")
		for _, f := range r.Files {
			if strings.HasPrefix(f.Path, "boot/") && f.Within != "rootfs.squashfs" {
				t.Errorf("%s lies within %q", f.Path, f.Within)
			}
		}
	})
}
