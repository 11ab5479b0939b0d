// Package qemu runs a disk image under QEMU and watches its serial console.
//
// The image is never written to: it is attached read-only, or behind a temporary overlay where the
// kind of device knows no read-only media, and without QEMU's lock, so that several runs may share it.
package qemu

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Firmware is what the guest starts with.
type Firmware string

// The firmwares: SeaBIOS, which QEMU brings, and OVMF, which has to be found.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Attach is the kind of device that the image is shown to the guest as.
type Attach string

// The ways to attach an image.
const (
	CDROM  Attach = "cdrom"  // IDE CD on the i440fx machine
	AHCI   Attach = "ahci"   // CD on the q35 machine's AHCI controller
	USB    Attach = "usb"    // USB stick on an xHCI controller
	IDE    Attach = "ide"    // IDE hard disk
	Virtio Attach = "virtio" // virtio-blk disk
	NVMe   Attach = "nvme"   // NVMe disk
)

// Attaches lists the ways to attach an image.
func Attaches() []Attach { return []Attach{CDROM, AHCI, USB, IDE, Virtio, NVMe} }

// Accel says how the guest's instructions are run.
type Accel string

// The accelerators; the zero value is KVM where it is usable, else TCG.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// Config says what to run, and when to stop.
type Config struct {
	Image    string   // raw disk image to boot; may be empty with Kernel
	Firmware Firmware // default BIOS
	Attach   Attach   // default CDROM
	Memory   int64    // bytes, rounded down to whole MiB; default 1 GiB
	CPUs     int      // default 1
	Disks    []string // further raw images of whole sectors, read-only virtio-blk: /dev/vda on, the image first if it is one

	Kernel, Initrd, Append string // boot this kernel directly, without firmware's help

	Stdin   io.Reader // to the serial console; nil is an empty one. A blocked Read outlives Run
	Console io.Writer // every byte of the serial console, as it comes; may be nil

	// Expect ends the run when a line of the console matches it, escape sequences removed. An
	// unfinished line (a "login:" prompt) is tried once the console has been quiet for a moment.
	// With nil, the run ends with the guest.
	Expect *regexp.Regexp

	// ScreenshotPath is a PNG to write of the guest's screen when the run ends, however it does.
	ScreenshotPath string

	Accel   Accel    // default: KVM where usable, else TCG
	QEMU    string   // the emulator; default qemu-system-x86_64 on PATH
	OVMF    string   // directory with OVMF's code and variables, or the code's file; default: where distributions put them
	Extra   []string // further arguments for QEMU
	TempDir string   // where temporary files go; default os.TempDir()
}

// Result tells how a run went. It is filled in as far as possible beside an error, too.
type Result struct {
	Line     string        // console line that Expect matched
	Match    string        // the part of it that matched
	Shutdown string        // QMP's reason when the guest ended by itself: guest-shutdown, guest-reset, …
	Tail     string        // the console's last lines, escape sequences removed
	Elapsed  time.Duration // from start to match or end
	Accel    Accel         // accelerator asked for
}

// Ways in which a guest disappoints; test with errors.Is.
var (
	ErrTimeout = errors.New("timed out")    // the context's deadline passed
	ErrPanic   = errors.New("kernel panic") // the console said "Kernel panic - not syncing"
	ErrStopped = errors.New("boot stopped") // isopress's own loader or initrd gave up, and said why
	ErrEnded   = errors.New("guest ended before the expected output")
)

// NotFoundError says that something which a run needs is not installed.
type NotFoundError struct {
	What    string // the program or firmware
	Where   string // where it was looked for
	Package string // the Debian package that has it
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("qemu: %s not found in %s: install it (Debian: apt install %s)", e.What, e.Where, e.Package)
}

// ExitError is QEMU's own failure, with what it said on stderr.
type ExitError struct {
	Err    error
	Stderr string
}

func (e *ExitError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("qemu: the emulator failed: %v", e.Err)
	}
	return fmt.Sprintf("qemu: the emulator failed: %v: %s", e.Err, e.Stderr)
}

func (e *ExitError) Unwrap() error { return e.Err }

// Validate reports what is wrong with the values themselves. Run does so, too.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

// withDefaults fills in what is left out and refuses what cannot be.
func (c Config) withDefaults() (Config, error) {
	if c.Firmware == "" {
		c.Firmware = BIOS
	}
	if c.Attach == "" {
		c.Attach = CDROM
	}
	if c.Memory == 0 {
		c.Memory = 1 << 30
	}
	if c.CPUs == 0 {
		c.CPUs = 1
	}
	if c.QEMU == "" {
		c.QEMU = "qemu-system-x86_64"
	}
	if c.Accel == "" {
		c.Accel = bestAccel()
	}
	if err := c.check(); err != nil {
		return c, err
	}
	return c.absolute()
}

func (c Config) check() error {
	switch {
	case c.Firmware != BIOS && c.Firmware != UEFI:
		return fmt.Errorf("qemu: unknown firmware %q: bios or uefi", c.Firmware)
	case !slices.Contains(Attaches(), c.Attach):
		return fmt.Errorf("qemu: unknown way to attach %q: %s", c.Attach, joinAttaches())
	case c.Accel != KVM && c.Accel != TCG:
		return fmt.Errorf("qemu: unknown accelerator %q: kvm or tcg", c.Accel)
	case c.Memory < 16<<20:
		return fmt.Errorf("qemu: %d bytes of memory are too few: at least 16 MiB", c.Memory)
	case c.CPUs < 1:
		return fmt.Errorf("qemu: %d CPUs: at least 1", c.CPUs)
	case c.Image == "" && c.Kernel == "":
		return errors.New("qemu: neither an image nor a kernel to boot")
	}
	return nil
}

func joinAttaches() string {
	var names []string
	for _, a := range Attaches() {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

// absolute makes every path absolute: QEMU takes what stands before a colon for a protocol, and
// relative names such as "a:b.iso" would be one.
func (c Config) absolute() (Config, error) {
	c.Disks = slices.Clone(c.Disks)
	paths := []*string{&c.Image, &c.Kernel, &c.Initrd}
	for i := range c.Disks {
		paths = append(paths, &c.Disks[i])
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		a, err := filepath.Abs(*p)
		if err != nil {
			return c, fmt.Errorf("qemu: %w", err)
		}
		*p = a
	}
	return c, nil
}
