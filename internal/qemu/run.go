package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Run boots the image and watches the serial console until Expect matches, the guest ends, its kernel
// panics, or ctx is done. The emulator and all temporary files are gone when it returns.
//
// The error is nil on a match or, without Expect, when the guest has powered off or rebooted. It wraps
// ErrTimeout at ctx's deadline, ErrPanic, ErrStopped, ErrEnded (a guest that ended without the expected output), or
// ctx's error when it is cancelled; it is a *NotFoundError when something is not installed, and an
// *ExitError when QEMU fails.
func Run(ctx context.Context, c Config) (Result, error) {
	c, err := c.withDefaults()
	if err != nil {
		return Result{}, err
	}
	if err := c.checkFiles(); err != nil {
		return Result{}, err
	}
	emulator, err := findEmulator(c.QEMU)
	if err != nil {
		return Result{}, err
	}
	var fw firmwareFiles
	if c.Firmware == UEFI {
		if fw, err = findOVMF(c.OVMF, emulator); err != nil {
			return Result{}, err
		}
	}
	dir, err := os.MkdirTemp(c.TempDir, "isopress-qemu-")
	if err != nil {
		return Result{}, fmt.Errorf("qemu: %w", err)
	}
	defer os.RemoveAll(dir)
	if fw, err = fw.prepare(dir); err != nil {
		return Result{}, err
	}
	return c.boot(ctx, emulator, fw, dir)
}

// checkFiles refuses files that are not there, in words better than QEMU's.
func (c Config) checkFiles() error {
	for _, path := range append([]string{c.Image, c.Kernel, c.Initrd}, c.Disks...) {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("qemu: %w", err)
		}
		f.Close()
	}
	return nil
}

// boot runs the emulator to the end of one guest.
func (c Config) boot(ctx context.Context, emulator string, fw firmwareFiles, dir string) (Result, error) {
	begin := time.Now()
	p, err := start(emulator, c.args(fw), dir)
	if err != nil {
		return Result{}, err
	}
	defer p.kill()
	if c.Stdin != nil {
		go feed(p.stdin, c.Stdin)
	} else {
		p.stdin.Close()
	}
	w := &watcher{Config: c, process: p, console: console{expect: c.Expect}}
	err = w.watch(ctx)
	result := w.result()
	result.Elapsed = time.Since(begin)
	if c.ScreenshotPath != "" && !errors.As(err, new(*ExitError)) {
		if serr := p.monitor.screenshot(dir, c.ScreenshotPath); err == nil {
			err = serr
		}
	}
	p.kill()
	result.Shutdown = p.monitor.shutdownReason()
	return result, err
}

// feed copies the input to the guest, until either ends.
func feed(stdin io.WriteCloser, from io.Reader) {
	_, _ = io.Copy(stdin, from) // a guest that has gone is noticed elsewhere
	stdin.Close()
}
