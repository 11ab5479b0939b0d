// Command judge compares a bootable ISO image with what a tool made of it that was to give its squashfs
// another compression and keep all the rest.
//
//	go run ./testdata/foreign/judge [OPTIONS] BEFORE.iso AFTER.iso
//
// It reads with others' programs and a few lines of its own, never with the project's readers, so that no
// misunderstanding is shared: xorriso for the trees (Rock Ridge, Joliet and plain names, each with
// every file's content), El Torito and partitions; unsquashfs for what squashfs hold; mtools and fsck.fat
// for system partitions; sgdisk for the GPT; checkisomd5 for implanted checksums. Nothing that was wrong
// before is held against the outcome. Each difference is a line on stdout, and the exit code is then 1.
package main

import (
	"flag"
	"fmt"
	"os"
	"path"
	"strings"
)

// judge collects what is wrong with an image, and what is worth telling.
type judge struct {
	before, after *image
	mayDiffer     globs
	codec         string // of every squashfs afterwards; empty: any
	findings      []string
	notes         []string
	squashfs      map[[2]string]bool // pairs of digests that were compared
}

func (j *judge) fault(format string, args ...any) {
	j.findings = append(j.findings, fmt.Sprintf(format, args...))
}

func (j *judge) note(format string, args ...any) {
	j.notes = append(j.notes, fmt.Sprintf(format, args...))
}

// globs are patterns of paths.
type globs []string

func (g *globs) String() string { return strings.Join(*g, ",") }

func (g *globs) Set(s string) error {
	*g = append(*g, s)
	_, err := path.Match(s, "")
	return err
}

func (g globs) match(name string) bool {
	for _, pattern := range g {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

func main() {
	j := &judge{squashfs: make(map[[2]string]bool)}
	flag.Var(&j.mayDiffer, "may-differ", "`GLOB` of paths of files whose content may differ; boot-code for the master boot record's, guids for the GPT's; esp for the EFI system partition's size and form, not its files'; may be repeated")
	flag.StringVar(&j.codec, "codec", "", "the `CODEC` of every squashfs afterwards, as unsquashfs -s names it")
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := j.run(flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
	for _, s := range j.notes {
		fmt.Println("note:", s)
	}
	for _, s := range j.findings {
		fmt.Println("fault:", s)
	}
	if len(j.findings) > 0 {
		os.Exit(1)
	}
}

// run makes all comparisons; an error is of the comparing.
func (j *judge) run(before, after string) error {
	work, err := os.MkdirTemp("", "isopress-judge.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if j.before, err = openImage(before, work+"/before"); err != nil {
		return err
	}
	defer j.before.Close()
	if j.after, err = openImage(after, work+"/after"); err != nil {
		j.fault("the outcome is unreadable: %v", err)
		return nil
	}
	defer j.after.Close()
	steps := []func() error{j.descriptors, j.pathTables, j.elTorito, j.bootInfo, j.trees, j.systemPartitions, j.systemArea, j.gpt, j.mediaSum}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
