// Isopress-init is the /init of isopress's initrd. It loads the kernel modules
// that the initrd lists, finds the medium by its ISO 9660 volume ID, mounts what
// the medium holds as the root, and becomes the system's own init.
//
// With /nix-store.squashfs on the medium, the root is a tmpfs, with the store at
// /nix/store in the places where NixOS has it: the medium at /iso, the squashfs
// at /nix/.ro-store, a tmpfs at /nix/.rw-store, an overlay of both. With
// /rootfs.squashfs, the root is an overlay of that and a tmpfs.
//
// From the kernel command line it takes
//
//	root=LABEL=ID           the volume ID (\x20 is a space); or root=/dev/NAME
//	init=PATH               what to run; without it, a root has /sbin/init, /etc/init, /init or /bin/sh
//	copytoram               to copy the medium's files to memory and unmount it; also copytoram=y, 1, auto; not with n, 0
//	isopress.timeout=N      seconds until it says that the medium is missing, 60 at first
//	isopress.debug          to say each step
//	panic=N                 to restart N seconds after a last word, as the kernel does after a panic
//	MODULE.PARAMETER=VALUE  for the modules it loads, and modprobe.blacklist=
//
// With copytoram, the files in the medium's top directory, which are the squashfs
// and the manifest, are copied to a tmpfs that takes the medium's place, so that
// /iso is the copy and the medium can be removed. A medium that cannot be read is
// a last word then; where memory does not hold the copy, the medium is used.
//
// If something fails, it says on every console what, what it has seen and what
// to try, and waits, since a process 1 that ends is a kernel panic that pushes
// the message off the screen. A medium that comes after its time is still used.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "isopress-init: is an initrd's /init, and does nothing unless it is process 1")
		os.Exit(2)
	}
	b := &boot{start: time.Now()}
	defer func() {
		if p := recover(); p != nil {
			b.stop(fmt.Errorf("a bug in isopress-init: %v\n%s", p, debug.Stack()))
		}
	}()
	b.stop(b.run())
}

// boot is the state of one boot.
type boot struct {
	cfg     config
	cmdline string
	start   time.Time
	modules modules
	failed  []string // modules that did not load, with the reason
	devices prober
}

// run returns only with what went wrong.
func (b *boot) run() error {
	keepSignals()
	if err := mountEarly(); err != nil {
		return err
	}
	if err := openConsole(); err != nil {
		say("no console: %v", err)
	}
	if err := b.readCmdline(); err != nil {
		return err
	}
	b.loadModules()
	if err := b.cfg.check(); err != nil {
		b.look()
		return err
	}
	m := b.waitForMedium()
	if b.cfg.copy {
		if err := b.copyToRAM(); err != nil {
			return err
		}
	}
	if err := b.mountRoot(m); err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return err
	}
	return b.execInit(m.store)
}

// keepSignals: Go's runtime would end the process on these. Notify, unlike
// Ignore, leaves nothing behind in the program that is executed.
func keepSignals() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
}

func (b *boot) readCmdline() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	b.cmdline = string(line)
	var bad []error
	b.cfg, bad = parseCmdline(b.cmdline)
	for _, err := range bad {
		say("kernel command line: %v", err)
	}
	return nil
}

// say writes a line to the console.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "isopress: "+format+"\n", args...)
}

// debugf is for what only isopress.debug wants to see.
func (b *boot) debugf(format string, args ...any) {
	if b.cfg.debug {
		say("%6.2fs "+format, append([]any{time.Since(b.start).Seconds()}, args...)...)
	}
}

// openConsole makes /dev/console standard input, output and error. A kernel
// without /dev/console in its own initramfs has started us with none.
func openConsole() error {
	// Not os.OpenFile, which makes a terminal non-blocking, and so init's.
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for std := range 3 {
		if fd == std {
			continue
		}
		if err := unix.Dup3(fd, std, 0); err != nil {
			return err
		}
	}
	if fd > 2 {
		return unix.Close(fd)
	}
	return nil
}
