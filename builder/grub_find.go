package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// grubPlatform is one half of a GRUB: what it has for one kind of firmware.
type grubPlatform struct {
	name    string   // of its directory
	format  string   // of the image, as grub-mkimage names it
	debian  string   // the Debian package that has it
	nixpkgs string   // and the attribute of nixpkgs
	needs   []string // files that tell that it is whole
	modules []string // of the image, beside grubModules
}

// grubHybridMBR is GRUB's boot sector for images that are both CD and disk.
const grubHybridMBR = "boot_hybrid.img"

// grubModules are in both images: what it takes to find the ISO, to show a menu
// on the screen and the serial line, and to start Linux from it. There is no
// directory to load others from.
var grubModules = []string{
	"memdisk", "tar", "iso9660", "part_gpt", "part_msdos", "fat", "loopback",
	"search", "search_label", "normal", "configfile", "test", "regexp", "echo", "sleep", "ls", "cat",
	"terminal", "serial", "boot", "linux", "reboot", "halt",
}

var (
	grubBIOS = grubPlatform{
		name: "i386-pc", format: "i386-pc-eltorito", debian: "grub-pc-bin", nixpkgs: "grub2",
		needs:   []string{grubHybridMBR, "cdboot.img", "kernel.img", "moddep.lst"},
		modules: []string{"biosdisk"},
	}
	// efi_gop: the kernel gets the firmware's framebuffer from GRUB, in the mode that it is in.
	grubEFI = grubPlatform{
		name: "x86_64-efi", format: "x86_64-efi", debian: "grub-efi-amd64-bin", nixpkgs: "grub2_efi",
		needs:   []string{"kernel.img", "moddep.lst"},
		modules: []string{"efi_gop", "efifwsetup"},
	}
)

// grubSystemDir is where distributions have GRUB.
const grubSystemDir = "/usr/lib/grub"

const grubMkimage = "grub-mkimage"

// grubHalf is a platform that was found.
type grubHalf struct {
	grubPlatform
	dir     string // host directory
	mkimage string // the program
}

func (h *grubHalf) file(name string) string { return filepath.Join(h.dir, name) }

// findGRUB looks for both halves: in Boot.GRUBDirs, or else in the closure, or
// else where distributions have them.
func (o *Options) findGRUB() (bios, efi *grubHalf, err error) {
	if bios, err = o.findGRUBHalf(grubBIOS); err != nil {
		return nil, nil, err
	}
	efi, err = o.findGRUBHalf(grubEFI)
	return bios, efi, err
}

func (o *Options) findGRUBHalf(p grubPlatform) (*grubHalf, error) {
	dir, ours, err := o.grubDir(p)
	if err != nil {
		return nil, err
	}
	for _, name := range p.needs {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("GRUB: %w", err)
		}
	}
	h := &grubHalf{grubPlatform: p, dir: dir}
	h.mkimage, err = findMkimage(dir, ours)
	return h, err
}

// grubDir is the directory of a platform; ours says that the host's own programs
// lie beside it, rather than those of another root.
func (o *Options) grubDir(p grubPlatform) (dir string, ours bool, err error) {
	for _, d := range o.Boot.GRUBDirs {
		if isDir(filepath.Join(d, p.name)) {
			return filepath.Join(d, p.name), true, nil
		}
	}
	if len(o.Boot.GRUBDirs) > 0 {
		return "", false, p.missing("in " + strings.Join(o.Boot.GRUBDirs, " or "))
	}
	if c := o.Source.Closure; c != nil {
		if dir, err := c.grubDir(p); dir != "" || err != nil {
			return dir, c.root == "/", err
		}
	}
	if dir := filepath.Join(grubSystemDir, p.name); isDir(dir) {
		return dir, true, nil
	}
	return "", false, p.missing("in the closure or in " + grubSystemDir)
}

func (p grubPlatform) missing(where string) error {
	return fmt.Errorf("GRUB: no %s %s: install %s (Debian) or take %s of nixpkgs, and name the directory that has %s in it with --grub-dir",
		p.name, where, p.debian, p.nixpkgs, p.name)
}

// grubDir is the one directory lib/grub/<platform> of a store path, or "".
func (c *Closure) grubDir(p grubPlatform) (string, error) {
	var found []string
	for _, store := range c.paths {
		_, host, err := c.resolve(store + "/lib/grub/" + p.name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !isDir(host) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("GRUB: %w", err)
		}
		found = append(found, host)
	}
	if len(found) > 1 {
		return "", fmt.Errorf("GRUB: the closure has %s more than once: %s; choose with --grub-dir", p.name, strings.Join(found, ", "))
	}
	return strings.Join(found, ""), nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// findMkimage looks for grub-mkimage beside GRUB's directory, where it is of the same
// version (<prefix>/lib/grub/<platform> and <prefix>/bin), and then on PATH.
func findMkimage(dir string, ours bool) (string, error) {
	if ours {
		beside := filepath.Join(dir, "../../../bin", grubMkimage)
		if _, err := exec.LookPath(beside); err == nil {
			return beside, nil
		}
	}
	found, err := exec.LookPath(grubMkimage)
	if err != nil {
		return "", fmt.Errorf("GRUB: %w; install grub-common (Debian) or grub2 of nixpkgs", err)
	}
	return found, nil
}
