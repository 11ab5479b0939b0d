package iso

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Options decide every byte of the image but the files' contents.
type Options struct {
	// VolumeID is the volume's name, 1-32 characters of printable ASCII without '/', and without
	// spaces at its ends, as Linux finds it in /dev/disk/by-label. (ECMA-119 allows A-Z, 0-9 and _
	// only; every reader takes more.)
	VolumeID string

	// ModTime is every date in the image, in UTC and to the second. Its year is 1900-2155, with Boot
	// at most 2107; FAT begins in 1980 and holds that for earlier ones. The zero Time is the epoch.
	ModTime time.Time

	// Joliet adds a second tree with names in UCS-2, for Windows. It holds names of up to 103
	// characters, as xorriso's relaxed rules do.
	Joliet bool

	// Files in the order in which their data lies in the image. A Boot's kernel and initrd, wherever
	// they are in the list, lie ahead of the others.
	Files []File

	// Boot makes the image bootable; nil leaves it a plain ISO 9660 file system.
	Boot *Boot
}

// File is a file of the image. The data is not part of it: see [Writer].
type File struct {
	// Path is slash-separated, without a leading slash; directories are implied, at any depth
	// (ECMA-119 allows eight levels; Linux, Windows and macOS read more). A name is at most 255
	// bytes; Linux cuts one over 253 to 250 (fs/isofs/rock.c).
	Path string

	// Size in bytes; where Grow is set, the most that it may take.
	Size int64

	// Grow says that the size is known only once the file is written. The files behind it are
	// placed, and can be written, only then.
	Grow bool

	// Align is the alignment of the data's position, a power of two of at least 2048; 0 means 2048.
	Align int64

	// Within, where not empty, is the path of another File whose bytes from Offset on, a multiple of
	// 2048, are this one's: it is written with the other, and has no Align and no Grow.
	Within string
	Offset int64
}

// Boot says how the image boots: by our own stubs, which start one kernel, or by GRUB.
type Boot struct {
	// Kernel and Initrd are paths of Files of known size. Initrd may be empty. One that lies Within
	// another file is a multiple of [ClusterSize] from its start.
	Kernel, Initrd string

	// Cmdline is the kernel's command line: printable ASCII, at most 2047 bytes.
	Cmdline string

	// EFIStub is the PE file that is made the head of the unified kernel image; nil means ours. It
	// finds the sections .cmdline, .initrd and .linux in its own image, as systemd's stub does.
	EFIStub []byte

	// FAT32 makes the EFI system partition FAT32, which the UEFI specification names first, where
	// FAT16, which it has for removable media, is not read. It takes 0.5 MiB more.
	FAT32 bool

	// GRUB, where not nil, takes the place of the stubs. Kernel, Initrd, Cmdline and EFIStub are
	// empty then: its menu, one of Files, names what it starts.
	GRUB *GRUB
}

// GRUB is the boot loader, as grub-mkimage makes it, with what it needs to find its menu in it.
type GRUB struct {
	MBR      []byte // boot_hybrid.img: loads ElTorito from a disk
	ElTorito []byte // of format i386-pc-eltorito
	EFI      []byte // of format x86_64-efi: the EFI system partition's one file
}

const (
	maxVolumeID = 32
	maxCmdline  = 2047 // the x86 kernel's COMMAND_LINE_SIZE, less the NUL
	maxName     = 255
	maxAlign    = 1 << 30
)

func checkVolumeID(id string) error {
	if len(id) < 1 || len(id) > maxVolumeID {
		return fmt.Errorf("iso: volume ID %q: %d characters, must be 1-%d", id, len(id), maxVolumeID)
	}
	for _, c := range id {
		if c < ' ' || c > '~' || c == '/' {
			return fmt.Errorf("iso: volume ID %q: holds %q, must be printable ASCII without '/'", id, c)
		}
	}
	if strings.Trim(id, " ") != id {
		return fmt.Errorf("iso: volume ID %q: begins or ends with a space", id)
	}
	return nil
}

// checkModTime returns the date that the image holds for t.
func checkModTime(t time.Time, fat bool) (time.Time, error) {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	t = t.UTC().Truncate(time.Second)
	if t.Year() < 1900 || t.Year() > 2155 {
		return t, fmt.Errorf("iso: date %s: ISO 9660 holds the years 1900-2155", t.Format(time.DateOnly))
	}
	if fat && t.Year() > 2107 {
		return t, fmt.Errorf("iso: date %s: the EFI system partition holds years up to 2107", t.Format(time.DateOnly))
	}
	return t, nil
}

func checkFile(f File) error {
	if err := checkPath(f.Path); err != nil {
		return fmt.Errorf("iso: %q: %w", f.Path, err)
	}
	if f.Size < 0 {
		return fmt.Errorf("iso: %s: size is negative", f.Path)
	}
	if f.Size > maxImage {
		return fmt.Errorf("iso: %s: %d bytes, an image holds %d", f.Path, f.Size, int64(maxImage))
	}
	if f.Within == "" && f.Offset != 0 || f.Within != "" && (f.Grow || f.Align != 0) {
		return fmt.Errorf("iso: %s: Offset goes with Within, Grow and Align do not", f.Path)
	}
	if f.Offset < 0 || f.Offset%sectorSize != 0 {
		return fmt.Errorf("iso: %s: lies at %d of %s, no multiple of %d", f.Path, f.Offset, f.Within, sectorSize)
	}
	if a := f.Align; a != 0 && (a < sectorSize || a > maxAlign || a&(a-1) != 0) {
		return fmt.Errorf("iso: %s: alignment %d is no power of two from %d to %d", f.Path, a, sectorSize, maxAlign)
	}
	return nil
}

func checkPath(path string) error {
	for _, name := range strings.Split(path, "/") {
		switch {
		case name == "":
			return errors.New("path is empty, or has an empty part")
		case name == "." || name == "..":
			return errors.New("path has a part . or ..")
		case len(name) > maxName:
			return fmt.Errorf("name of %d bytes, at most %d fit", len(name), maxName)
		case strings.IndexByte(name, 0) >= 0:
			return errors.New("path holds a NUL")
		}
	}
	return nil
}

func checkCmdline(s string) error {
	if len(s) > maxCmdline {
		return fmt.Errorf("iso: command line: %d bytes, the kernel takes %d", len(s), maxCmdline)
	}
	for i, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("iso: command line: byte %d is %q, must be printable ASCII", i, c)
		}
	}
	return nil
}
