package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/bytesize"
)

// repackFlags say what of an image changes beside its squashfs files.
type repackFlags struct {
	squashfs bool
	add      []string
	remove   []string
	cmdline  []string
}

var repackVerb = verb{
	name:  "repack",
	args:  "IN.iso|IN.squashfs -o OUT [OPTIONS]",
	about: "Press the squashfs files of a finished ISO anew, whoever made it",
	run:   runRepack,
	flags: func(f *flags) {
		f.addOutput()
		f.set.BoolVar(&f.repack.squashfs, "squashfs", false, "the image is to be a squashfs: an ISO is refused")
		f.set.StringArrayVar(&f.repack.add, "add", nil, "`SRC:DST`, a file or directory of the host and its place in the ISO, or with a / at the end the directory to put it into"+repeatable)
		f.set.StringArrayVar(&f.repack.remove, "remove", nil, "`PATH` in the ISO to leave out, a directory with all in it; no pattern"+repeatable)
		f.set.StringArrayVar(&f.repack.cmdline, "cmdline-append", nil, "kernel `PARAMETERS` to append to the command lines of all boot menus in the ISO, and in its EFI system partition"+repeatable)
		f.addPack()
	},
	quiet:    quietPress,
	parallel: true,
	more: packHelp + `
With --add, --remove or --cmdline-append, the squashfs files of an ISO stay as they are, unless --compression,
--block-size or --order says how to press them anew. --cmdline-append knows the menus of isolinux and syslinux, GRUB
and systemd-boot. Parameters go to the end of a line, ahead of a "--"; an installer that copies what stands behind
"---" to the system that it installs copies them, too. An ISO of isopress without GRUB has one command line, in
EFI/BOOT/BOOTX64.EFI, which its BIOS loader reads, too.

What --add adds belongs to root. Links stand for the files that they lead to; directories are made as r-x for all, and
empty ones are not added. SRC may have colons: the last one counts that has the name of a file ahead of it.

All else stays as it is: names, dates, how the image boots, its partitions. Checksum files in it that name what changed
are corrected. What would not survive is refused before anything is written.
`,
}

func runRepack(ctx context.Context, a *app, f *flags, args []string) error {
	o, err := a.repackOptions(f, args)
	if err != nil {
		return err
	}
	p := a.newProgress(f.quiet)
	o.Progress, o.Warn = p.update, p.warn
	res, err := builder.Repack(ctx, o)
	p.end()
	if err != nil {
		return err
	}
	if !f.quiet {
		a.repacked(res)
	}
	if f.json {
		return a.printJSON(res)
	}
	return nil
}

func (a *app) repackOptions(f *flags, args []string) (o builder.RepackOptions, err error) {
	switch {
	case len(args) == 0:
		return o, usagef("no image: name an ISO or a squashfs")
	case len(args) > 1:
		return o, usagef("unexpected argument %q: one image is repacked; the output is named with -o", args[1])
	}
	o.Image, o.Remove, o.OnlySquashfs = args[0], f.repack.remove, f.repack.squashfs
	o.CmdlineAppend, o.KeepSquashfs = strings.Join(f.repack.cmdline, " "), f.keepsSquashfs()
	if slices.Contains(f.repack.cmdline, "") {
		return o, usagef("--cmdline-append: no parameter")
	}
	if err := a.packOptions(f, &o.Options); err != nil {
		return o, err
	}
	if err := o.Validate(); err != nil {
		return o, err
	}
	a.setCache(f, &o.Options)
	for _, s := range f.repack.add {
		add, err := builder.ParseImageAdd(s)
		if err != nil {
			return o, usagef("--add %w", err)
		}
		o.Add = append(o.Add, add)
	}
	return o, nil
}

// keepsSquashfs tells whether something else than the squashfs files is to change.
func (f *flags) keepsSquashfs() bool {
	return slices.ContainsFunc([]string{"add", "remove", "cmdline-append"}, f.set.Changed) &&
		!slices.ContainsFunc([]string{"compression", "block-size", "order"}, f.set.Changed)
}

// repacked says in a line for each squashfs, and one for the image, what became of them.
func (a *app) repacked(r *builder.Repacked) {
	for _, s := range r.Squashfs {
		if s.Path != "" {
			fmt.Fprintf(a.stderr, "%s: %s in %s, was %s in %s\n", s.Path, bytesize.Text(s.Size), s.Compression, bytesize.Text(s.Was), s.WasCompression)
		}
	}
	if len(r.Cmdlines) > 0 {
		fmt.Fprintf(a.stderr, "kernel parameters appended in: %s\n", strings.Join(r.Cmdlines, ", "))
	}
	fmt.Fprintf(a.stderr, "%s: %s, was %s", r.Output, bytesize.Text(r.Size), bytesize.Text(r.Was))
	if len(r.Added) > 0 {
		fmt.Fprintf(a.stderr, "; added %s", counted(len(r.Added), "file"))
	}
	if len(r.Removed) > 0 {
		fmt.Fprintf(a.stderr, "; removed %s", counted(len(r.Removed), "file"))
	}
	if len(r.Sums) > 0 {
		fmt.Fprintf(a.stderr, "; corrected: %s", strings.Join(r.Sums, ", "))
	}
	if r.MediaSum {
		fmt.Fprint(a.stderr, "; the media checksum was renewed")
	}
	fmt.Fprintln(a.stderr)
}
