// Command isopress presses a Nix closure, or any tree, into a bootable hybrid ISO.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/isopress/isopress/builder"
)

// Exit codes; usage repeats them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), endSignals()...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what the first could not
	// A reader of our messages that has gone away is a failed write like another:
	// the signal would leave the temporary file behind.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		collectSeldom()
	}
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(a.main(ctx, os.Args[1:]))
}

// uncollected is how much memory is used before any of it is collected, in bytes.
const uncollected = 64 << 20

// collectSeldom sets the garbage collector up. The codecs' own time is hundreds of times the
// collector's: memory counts for more. But where all is known beforehand a build takes less
// than a second, and is over before there is much to collect.
func collectSeldom() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(uncollected)
	runtime.AddCleanup(new([16]byte), func(int) { // by the first collection
		debug.SetGCPercent(40)
		debug.SetMemoryLimit(math.MaxInt64)
	}, 0)
}

// endSignals are those that interrupt us, without what nohup wants ignored.
func endSignals() []os.Signal {
	var signals []os.Signal
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signals = append(signals, s)
		}
	}
	return signals
}

// app is the program's surroundings. Only cmd knows of the environment.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	printed bool // the result as JSON, be it of a failure
}

// verb is one of the program's commands.
type verb struct {
	name, args, about string
	run               func(ctx context.Context, a *app, f *flags, args []string) error
	flags             func(f *flags)
	quiet             string // what -q silences, "" for nothing
	parallel          bool   // -j counts
	more              string // help behind the options
}

func verbs() []verb {
	return []verb{buildVerb, squashfsVerb, initrdVerb, repackVerb, adviseVerb, bootVerb, cacheVerb, versionVerb}
}

const usageHead = `isopress presses a Nix closure, or any tree, into a bootable hybrid ISO.

Usage: isopress VERB [OPTIONS]

`

const usageTail = `
isopress VERB -h tells a verb's options. Progress and messages go to stderr, live
only on a terminal. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
`

func (a *app) usage(w io.Writer) {
	fmt.Fprint(w, usageHead)
	for _, v := range verbs() {
		fmt.Fprintf(w, "  %-10s %s\n", v.name, v.about)
	}
	fmt.Fprint(w, usageTail)
}

// main runs one verb and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		a.usage(a.stderr)
		return exitUsage
	}
	switch args[0] {
	case "help":
		if len(args) > 1 {
			return a.main(ctx, []string{args[1], "-h"})
		}
		fallthrough
	case "-h", "--help":
		a.usage(a.stdout)
		return exitDone
	case "--version":
		args[0] = versionVerb.name
	}
	for _, v := range verbs() {
		if v.name == args[0] {
			f := newFlags(v)
			return a.exitCode(ctx, v, f, a.runVerb(ctx, v, f, args[1:]))
		}
	}
	fmt.Fprintf(a.stderr, "isopress: unknown verb %q; isopress -h lists them\n", args[0])
	return exitUsage
}

func (a *app) runVerb(ctx context.Context, v verb, f *flags, args []string) error {
	err := f.parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		f.usage(a.stdout, v)
		return nil
	}
	if err != nil {
		return usageError{err}
	}
	if f.jobs < 0 || f.jobs > 1024 || f.jobs == 0 && f.set.Changed("jobs") {
		return usagef("-j %d: must be 1 to 1024", f.jobs)
	}
	return v.run(ctx, a, f, f.set.Args())
}

// usageError is an error in the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode tells of an error, and what the program ends with.
func (a *app) exitCode(ctx context.Context, v verb, f *flags, err error) (code int) {
	if err == nil {
		return exitDone
	}
	var usage usageError
	var option builder.OptionError
	text, help := err.Error(), ""
	switch {
	case errors.As(err, &usage) || errors.As(err, &option):
		code, help = exitUsage, fmt.Sprintf("isopress %s -h tells the options\n", v.name)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		code, text = exitInterrupted, "interrupted"
	default:
		code = exitFailed
	}
	fmt.Fprintf(a.stderr, "isopress: %s\n%s", text, help)
	if f.json && !a.printed {
		_ = a.printJSON(failure{text}) // stderr has it already
	}
	return code
}
