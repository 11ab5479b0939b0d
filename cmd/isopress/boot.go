package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/isopress/isopress/internal/qemu"
)

var bootVerb = verb{
	name:  "boot",
	args:  "IMAGE [OPTIONS]",
	about: "Boot an image under QEMU, its serial console on the terminal",
	run:   runBoot,
	flags: func(f *flags) {
		r := &f.run
		f.set.StringVar(&r.firmware, "firmware", "bios", "`NAME`: bios or uefi")
		f.set.StringVar(&r.attach, "attach", "cdrom", "`HOW` the guest sees the image: cdrom (IDE), ahci (CD on q35), usb (stick), virtio, ide or nvme (disks)")
		f.set.StringVar(&r.memory, "memory", "1G", "the guest's memory, a `SIZE`")
		f.set.IntVar(&r.cpus, "cpus", 1, "the guest's processors, a `NUMBER`")
		f.set.StringVar(&r.expect, "expect", "", "end when a line of the console matches `REGEXP`: exit 0; without a match 1")
		f.set.DurationVar(&r.timeout, "timeout", 0, "give up after this `TIME`, such as 90s, 5m or 1h30m (default: 5m with --expect, else none)")
		f.set.StringVar(&r.screenshot, "screenshot", "", "write the guest's screen to this PNG `FILE` at the end")
	},
	quiet: "neither the guest's console nor a summary",
}

// runFlags say how to run an image.
type runFlags struct {
	firmware, attach, memory string
	cpus                     int
	expect                   string
	timeout                  time.Duration
	screenshot               string
}

// expectTimeout is how long an expected line may take where nobody says so.
const expectTimeout = 5 * time.Minute

func runBoot(ctx context.Context, a *app, f *flags, args []string) error {
	c, err := a.bootConfig(f, args)
	if err != nil {
		return err
	}
	timeout := f.run.timeout
	if timeout == 0 && c.Expect != nil {
		timeout = expectTimeout
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	res, err := a.runQEMU(ctx, c)
	switch {
	case errors.Is(err, qemu.ErrTimeout):
		err = fmt.Errorf("%w after %s; %s", err, timeout, consoleHint(res.Tail))
	case errors.Is(err, qemu.ErrEnded):
		err = fmt.Errorf("%w; %s", err, consoleHint(res.Tail))
	}
	if f.json {
		return errors.Join(err, a.printJSON(bootResult(res, err)))
	}
	if err == nil && c.Expect != nil && !f.quiet {
		fmt.Fprintf(a.stderr, "\nisopress: matched after %s: %s\n", res.Elapsed.Round(100*time.Millisecond), res.Line)
	}
	return err
}

// runQEMU runs a guest, with the terminal as its console where nothing is expected of it.
func (a *app) runQEMU(ctx context.Context, c qemu.Config) (qemu.Result, error) {
	if c.Expect != nil {
		return qemu.Run(ctx, c)
	}
	left, quit := context.WithCancel(ctx)
	defer quit()
	input, restore, err := a.interactive(quit)
	if err != nil {
		return qemu.Result{}, err
	}
	defer restore()
	c.Stdin = input
	res, err := qemu.Run(left, c)
	if left.Err() != nil && ctx.Err() == nil {
		return res, nil // the user has left
	}
	return res, err
}

func (a *app) bootConfig(f *flags, args []string) (c qemu.Config, err error) {
	if len(args) != 1 {
		return c, usagef("give one image to boot")
	}
	c = qemu.Config{
		Image: args[0], Firmware: qemu.Firmware(f.run.firmware), Attach: qemu.Attach(f.run.attach),
		CPUs: f.run.cpus, ScreenshotPath: f.run.screenshot, Console: a.stdout, OVMF: a.getenv("OVMF_FD"),
	}
	if f.json {
		c.Console = a.stderr
	}
	if f.quiet {
		c.Console = nil
	}
	if c.Memory, err = parseSize(f.run.memory); err != nil {
		return c, usagef("--memory: %w", err)
	}
	if f.run.timeout < 0 {
		return c, usagef("--timeout %s: must be positive", f.run.timeout)
	}
	if f.run.cpus < 1 {
		return c, usagef("--cpus %d: must be 1 or more", f.run.cpus)
	}
	if err := c.Validate(); err != nil {
		return c, usageError{err}
	}
	if f.run.expect != "" {
		if c.Expect, err = regexp.Compile(f.run.expect); err != nil {
			return c, usagef("--expect: %w", err)
		}
	}
	if shot := f.run.screenshot; shot != "" {
		if _, err := os.Stat(filepath.Dir(shot)); err != nil {
			return c, ofOption("--screenshot", shot, err)
		}
	}
	return c, nil
}

// consoleHint is about a console that did not say what was expected.
func consoleHint(tail string) string {
	return fmt.Sprintf("the console's last line: %q (is it on the serial port? console=ttyS0)", lastLine(tail))
}

func lastLine(text string) string {
	text = strings.TrimRight(text, "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// bootReport is a boot as JSON.
type bootReport struct {
	Matched  bool    `json:"matched"`
	Line     string  `json:"line,omitempty"`
	Shutdown string  `json:"shutdown,omitempty"`
	Seconds  float64 `json:"seconds"`
	Accel    string  `json:"accel"`
	Error    string  `json:"error,omitempty"`
}

func bootResult(r qemu.Result, err error) bootReport {
	b := bootReport{Matched: r.Line != "", Line: r.Line, Shutdown: r.Shutdown,
		Seconds: r.Elapsed.Seconds(), Accel: string(r.Accel)}
	if err != nil {
		b.Error = err.Error()
	}
	return b
}
