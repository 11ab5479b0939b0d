package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/bytesize"
	"github.com/isopress/isopress/internal/codec"
)

var initrdVerb = verb{
	name:  "initrd",
	args:  "-o OUT [OPTIONS]",
	about: "Pack an initrd: kernel modules, an init and further files",
	run:   runInitrd,
	flags: func(f *flags) {
		f.addOutput()
		f.addInitrd()
	},
	quiet: quietPress,
}

// initrdFlags say what goes into an initrd.
type initrdFlags struct {
	modules     string
	names       []string
	init        string
	add         []string
	compression string
}

func (f *flags) addInitrd() {
	i := &f.initrd
	f.set.StringVar(&i.modules, "kernel-modules", "", "`DIR` with lib/modules/<version>")
	f.set.StringSliceVar(&i.names, "module", nil, "`NAME` of a module to take with what it depends on (default: what finds and mounts an ISO)"+repeatable)
	f.set.StringVar(&i.init, "init", "", "host `FILE` that becomes /init (default: isopress-init beside isopress; none: leave it out). build's --init-binary, not its --init")
	f.set.StringArrayVar(&i.add, "add", nil, "`SRC:DST`, a file or tree to add"+repeatable)
	f.set.StringVar(&i.compression, "compression", "zstd:19", compressionHelp)
}

func runInitrd(ctx context.Context, a *app, f *flags, args []string) error {
	o, err := a.initrdOptions(f, args)
	if err != nil {
		return err
	}
	if f.initrd.init == "none" {
		o.Init = ""
	} else {
		b, err := findInit(ctx, "--init", f.initrd.init)
		if err != nil {
			return err
		}
		defer b.remove()
		if b.path == "" {
			return errors.New("no isopress-init to become /init: it is looked for beside isopress (go install ./cmd/...); name another with --init, or leave it out with --init none")
		}
		o.Init = b.path
	}
	res, err := builder.Initrd(ctx, o)
	if err != nil {
		return err
	}
	if !f.quiet {
		init := "no /init"
		if res.Init != "" {
			init = "/init is " + res.Init
		}
		fmt.Fprintf(a.stderr, "%s: %s, %s, %s\n", res.Output, bytesize.Text(res.Size), counted(len(res.Modules), "kernel module"), init)
	}
	if f.json {
		return a.printJSON(res)
	}
	return nil
}

func (a *app) initrdOptions(f *flags, args []string) (o builder.InitrdOptions, err error) {
	if err := noArgs(args); err != nil {
		return o, err
	}
	if f.output == "" {
		return o, usagef("no output file: name one with -o")
	}
	if _, err := codec.Parse(f.initrd.compression); err != nil {
		return o, usageError{err}
	}
	for _, s := range f.initrd.add {
		add, err := builder.ParseAdd(s)
		if err != nil {
			return o, usagef("--add %w", err)
		}
		o.Add = append(o.Add, add)
	}
	o.Output, o.Compression = f.output, f.initrd.compression
	o.KernelModules, o.Modules = f.initrd.modules, f.initrd.names
	o.Warn = a.newProgress(f.quiet).warn
	if o.SourceDate, err = a.sourceDate(); err != nil {
		return o, err
	}
	return o, o.Validate()
}
