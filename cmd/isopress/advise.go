package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/bytesize"
)

// adviseFlags say for what an image is.
type adviseFlags struct {
	storage    string
	workingSet string
	html       string
	time       time.Duration
	speed      float64
}

var adviseVerb = verb{
	name:  "advise",
	args:  "SOURCE|IMAGE [OPTIONS]",
	about: "Predict size, build time and reading time for several compressions, from samples",
	run:   runAdvise,
	flags: func(f *flags) {
		f.addSource()
		a := &f.advise
		f.set.StringVar(&a.storage, "storage", "usb3", "what the image is read from: a rate such as `30MB/s`, one of "+
			strings.Join(builder.StorageNames(), ", ")+", or a file or device to measure")
		f.set.StringVar(&a.workingSet, "working-set", "", "`FILE` with the paths that are read, a line each, in their order, a directory for all in it; - is stdin (default: the files of a tenth of all directories)")
		f.set.DurationVar(&a.time, "time", 0, "how `LONG` to sample, beside reading the source: fewer blocks or more (default: as many as tell the sizes within 3 %)")
		f.set.Float64Var(&a.speed, "reader-speed", 1, "how quick one core of the machine that reads the image is, of this one's: 0.5 is half as quick, `FACTOR` of the column \"expands\"")
		f.set.StringVar(&a.html, "html", "", "write the table, and a plot of size against reading time, to `FILE`")
	},
	quiet:    "no progress",
	parallel: true,
	more:     adviseHelp,
}

const adviseHelp = `
IMAGE is an ISO or a squashfs. The table is sorted by size. A * marks those that no other one beats in both size and
reading time. ± is twice the standard error of the size. "expands" is the content that Linux expands in a
second, on one core.
`

func runAdvise(ctx context.Context, a *app, f *flags, args []string) error {
	o, err := a.adviseOptions(ctx, f, args)
	if err != nil {
		return err
	}
	p := a.newProgress(f.quiet)
	o.Progress, o.Warn = p.update, p.warn
	advice, err := builder.Advise(ctx, o)
	p.end()
	if err != nil {
		return err
	}
	slices.SortStableFunc(advice.Choices, func(x, y builder.Choice) int { return int(x.Size - y.Size) })
	if f.advise.html != "" {
		if err := writeAdviceHTML(f.advise.html, advice); err != nil {
			return err
		}
	}
	if f.json {
		return a.printJSON(advice)
	}
	return printAdvice(a.stdout, advice)
}

func (a *app) adviseOptions(ctx context.Context, f *flags, args []string) (o builder.AdviseOptions, err error) {
	if f.set.Changed("time") && f.advise.time <= 0 {
		return o, usagef("--time %v: must be positive", f.advise.time)
	}
	if o.ReaderSpeed = f.advise.speed; !(o.ReaderSpeed > 0) || o.ReaderSpeed > 1e6 {
		return o, usagef("--reader-speed %v: must be positive, such as 0.5", o.ReaderSpeed)
	}
	if o.Storage, err = builder.ParseStorage(f.advise.storage); err != nil {
		return o, usageError{err}
	}
	o.Time, o.Workers, o.Exclude = f.advise.time, f.jobs, f.source.exclude
	fromSource := f.source.check()
	switch {
	case len(args) > 1:
		return o, usagef("unexpected argument %q", args[1])
	case len(args) == 1 && f.source.given():
		return o, usagef("an image and a source: give one")
	case len(args) == 1:
		o.Image = args[0]
	case fromSource != nil && !f.source.given():
		return o, usagef("nothing to look at: name an ISO or a squashfs, or give --closure, --closure-info, --system, --root or --tar")
	case fromSource != nil:
		return o, fromSource
	}
	if err := o.Validate(); err != nil {
		return o, err
	}
	if o.WorkingSet, err = a.workingSet(ctx, f.advise.workingSet); err != nil || o.Image != "" {
		return o, err
	}
	o.Source, err = a.source(ctx, &f.source)
	return o, err
}

// given tells whether a source is named at all.
func (s *sourceFlags) given() bool {
	return s.closure != "" || s.closureInfo != "" || s.system != "" || s.root != "" || len(s.tar) > 0
}

// workingSet reads a list of paths; within a store image they lack /nix/store.
func (a *app) workingSet(ctx context.Context, name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	var text []byte
	var err error
	if name == "-" {
		text, err = readAll(ctx, a.stdin)
	} else {
		text, err = readFile(ctx, name)
	}
	if err != nil {
		return nil, ofOption("--working-set", name, err)
	}
	var paths []string
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line := strings.TrimPrefix(s.Text(), "/nix/store/")
		if line = path.Clean(strings.Trim(line, "/")); s.Text() != "" {
			paths = append(paths, line)
		}
	}
	if len(paths) == 0 {
		return nil, usagef("--working-set %s: no path in it", name)
	}
	return paths, nil
}

// printAdvice prints the table and the sentence.
func printAdvice(w io.Writer, a *builder.Advice) error {
	fmt.Fprintf(w, "%s, %s, %s of them to compress; the working set is %s in %s; %s.\n\n", counted(a.Files, "file"),
		bytesize.Text(a.Bytes), bytesize.Text(a.Unique), bytesize.Text(a.WorkingSet.Bytes), counted(a.WorkingSet.Files, "file"), counted(a.Workers, "worker"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tcompression\tblock\tsize\t±\tbuilt in\texpands\treads\tin\t")
	for _, c := range a.Choices {
		mark := ""
		if c.Pareto {
			mark = "*"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f %%\t%s\t%.0f MB/s\t%s\t%s\t\n", mark, c.Compression, c.BlockSizeFlag(), bytesize.Text(c.Size),
			200*c.SizeError, secondsText(c.BuildSeconds), c.ExpandRate/1e6, bytesize.Text(c.ReadBytes), secondsText(c.ReadSeconds))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", a.Text)
	return err
}

func secondsText(s float64) string {
	switch {
	case s < 0.1:
		return fmt.Sprintf("%.1f ms", 1000*s)
	case s < 10:
		return fmt.Sprintf("%.2f s", s)
	}
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}
