package main

import (
	"context"

	"github.com/isopress/isopress/builder"
)

var squashfsVerb = verb{
	name:  "squashfs",
	args:  "SOURCE -o OUT.squashfs [OPTIONS]",
	about: "Press a closure, a tree or tar archives into a squashfs image",
	run:   runSquashfs,
	flags: func(f *flags) {
		f.addOutput()
		f.addSource()
		f.addPack()
	},
	quiet:    quietPress,
	parallel: true,
	more:     packHelp,
}

const quietPress = "no progress and no summary"

func runSquashfs(ctx context.Context, a *app, f *flags, args []string) error {
	o, err := a.options(f, args)
	if err != nil {
		return err
	}
	if o.Source, err = a.source(ctx, &f.source); err != nil {
		return err
	}
	o.NoDigest = !f.json // which alone shows it
	return a.press(ctx, f, o, builder.Squashfs)
}

// press runs a build with its progress and prints its result.
func (a *app) press(ctx context.Context, f *flags, o builder.Options, build func(context.Context, builder.Options) (*builder.Result, error)) error {
	p := a.newProgress(f.quiet)
	o.Progress, o.Warn = p.update, p.warn
	res, err := build(ctx, o)
	p.end()
	if err != nil {
		return err
	}
	if !f.quiet {
		p.summary(res)
	}
	if f.json {
		return a.printJSON(res)
	}
	return nil
}
