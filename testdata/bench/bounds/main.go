// Command bounds presses trees at the edges of what people have, and tells how much memory and time that
// took: one run, one row of a table. The trees are made up as they are read, so that neither a disk nor
// the tree's own memory is in the figures; -walk reads the tree without pressing it, which is what the
// program and the tree cost by themselves. bounds.sh runs all of them.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isopress/isopress/squashfs"
)

// cases are the trees, by name.
var cases = map[string]*tree{
	// 192 files of a block and a bit: work for all workers at once.
	"blocks": {files: 192, chunk: 4096, noise: 8, size: func(uint64) int64 { return 1<<20 + 1000 }},
	// A million small texts, no two equal.
	"million": {dirs: 1000, files: 1000, chunk: 256, size: func(f uint64) int64 { return 100 + int64(mix(f)%2900) }},
	// One file of 20 GiB, with a tail.
	"20gib": {files: 1, chunk: 4096, noise: 8, size: func(uint64) int64 { return 20<<30 + 12345 }},
	// One directory of 60,000 entries.
	"60000entries": {files: 60_000, chunk: 256, size: func(uint64) int64 { return 500 }},
	// One file of 100,000 names.
	"100000links": {files: 100_000, chunk: 4096, noise: 8, linked: true, size: func(uint64) int64 { return 5 << 20 }},
}

func main() {
	debug.SetGCPercent(40) // as cmd/isopress does, once it has collected anything
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bounds:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("case", "", "which tree")
	compression := flag.String("compression", "zstd:3", "as squashfs.ParseCompression takes it")
	memory := flag.Int64("memory", 256, "Options.Memory in MiB")
	workers := flag.Int("workers", 2, "Options.Workers")
	order := flag.String("order", "", "as squashfs.ParseOrder takes it; default: the compression's own")
	output := flag.String("o", "", "where the image goes")
	walk := flag.Bool("walk", false, "only read the tree, twice")
	check := flag.Bool("check", false, "read a sample of the image back, after the measurement")
	flag.Parse()
	t := cases[*name]
	if t == nil {
		return fmt.Errorf("-case %q: there is none of that name", *name)
	}
	m := startMeter()
	if *walk {
		if err := readAll(t); err != nil {
			return err
		}
		fmt.Printf("| %s | only read twice | | | | %s |\n", *name, m.stop())
		return nil
	}
	c, err := squashfs.ParseCompression(*compression)
	if err != nil {
		return err
	}
	o := squashfs.Options{Compression: c, Workers: *workers, Memory: *memory << 20}
	label := *compression
	if *order != "" {
		label += ", " + *order
		if o.Order, err = squashfs.ParseOrder(*order); err != nil {
			return err
		}
	}
	f, err := os.Create(*output)
	if err != nil {
		return err
	}
	defer f.Close()
	res, err := squashfs.Write(context.Background(), f, t, o)
	if err != nil {
		return err
	}
	fmt.Printf("| %s | %s | %d | %d | %d | %s |\n", *name, label, *workers, *memory, res.Size, m.stop())
	if *check {
		return checkImage(t, f, res)
	}
	return f.Close()
}

// readAll reads the tree as often as the writer does, and of hard links the first.
func readAll(t *tree) error {
	buf := make([]byte, 1<<20)
	for range 2 {
		read := false
		err := fs.WalkDir(t, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || t.linked && read {
				return err
			}
			read = true
			f, err := t.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, f, buf)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkImage compares what the superblock says with the tree, and samples of the content.
func checkImage(t *tree, f *os.File, res *squashfs.Result) error {
	r, err := squashfs.NewReader(f, res.Size)
	if err != nil {
		return err
	}
	if _, inodes := t.count(); r.Superblock().Inodes != int64(inodes) {
		return fmt.Errorf("the image has %d inodes where %d are expected", r.Superblock().Inodes, inodes)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		if err := checkSample(t, r, rnd); err != nil {
			return err
		}
	}
	return nil
}

// checkSample compares up to 100 kB of a file, from any place.
func checkSample(t *tree, r *squashfs.Reader, rnd *rand.Rand) error {
	e := t.entry(rnd.IntN(max(t.dirs, 1)), rnd.IntN(t.files))
	path := e.name
	if t.dirs > 0 {
		path = fmt.Sprintf(dirName, rnd.IntN(t.dirs)) + "/" + e.name
		e, _ = t.find("check", path)
	}
	f, err := r.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != e.Size() {
		return fmt.Errorf("%s: %d bytes where %d are expected", path, info.Size(), e.Size())
	}
	off := rnd.Int64N(e.Size())
	got := make([]byte, min(e.Size()-off, 100_000))
	want := make([]byte, len(got))
	if _, err := f.(io.ReaderAt).ReadAt(got, off); err != nil && err != io.EOF {
		return err
	}
	t.fill(e.file, want, off)
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: wrong content at %d", path, off)
	}
	return nil
}

// meter watches the Go heap while something runs.
type meter struct {
	start time.Time
	done  chan struct{}
	ended sync.WaitGroup
	most  []uint64 // of each sample
}

// sampled are: what the last collection found in use; all that the Go runtime holds of the system's
// memory, and of that, what it has given back.
var sampled = []string{"/gc/heap/live:bytes", "/memory/classes/total:bytes", "/memory/classes/heap/released:bytes"}

func startMeter() *meter {
	runtime.GC()
	m := &meter{start: time.Now(), done: make(chan struct{}), most: make([]uint64, 2)}
	m.ended.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.sample()
			case <-m.done:
				m.sample()
				return
			}
		}
	})
	return m
}

func (m *meter) sample() {
	s := make([]metrics.Sample, len(sampled))
	for i, name := range sampled {
		s[i].Name = name
	}
	metrics.Read(s)
	for i, v := range []uint64{s[0].Value.Uint64(), s[1].Value.Uint64() - s[2].Value.Uint64()} {
		m.most[i] = max(m.most[i], v)
	}
}

// stop returns the last columns: seconds of wall and CPU, and MiB of live Go heap, of the Go runtime
// and of the process, each at its most.
func (m *meter) stop() string {
	wall := time.Since(m.start)
	close(m.done)
	m.ended.Wait()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		return err.Error()
	}
	cpu := time.Duration(use.Utime.Nano() + use.Stime.Nano())
	peak, err := peakRSS()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%.1f | %.1f | %d | %d | %d", wall.Seconds(), cpu.Seconds(),
		m.most[0]>>20, m.most[1]>>20, peak>>20)
}

// peakRSS reads the most physical memory that this process had. It is not getrusage's, which counts
// what the program that started this one had, too.
func peakRSS() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(status))
	i := slices.Index(fields, "VmHWM:")
	if i < 0 || i+1 >= len(fields) {
		return 0, errors.New("/proc/self/status has no VmHWM")
	}
	kb, err := strconv.ParseInt(fields[i+1], 10, 64)
	return kb << 10, err
}
