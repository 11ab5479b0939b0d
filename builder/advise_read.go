package builder

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/isopress/isopress/internal/codec"
	"github.com/isopress/isopress/squashfs"
)

// How reading is predicted. Linux reads a block in one piece, expands it with the one decoder that it has
// unless it was configured otherwise, and keeps what it wanted of it; of fragment blocks it keeps the last three
// (fs/squashfs/cache.c, CONFIG_SQUASHFS_FRAGMENT_CACHE_SIZE), of blocks as they are stored none. So a
// working set in the order in which it is read gives the blocks that are read and expanded, again and again
// where small files lie far apart. Reading and expanding do not overlap for a program that waits for each.

// What Linux takes to expand a block is what the engines here take for it, divided by kernelSpeed, and kernelCopy for the
// pages that it fills, whatever the compression: more where a block does not fit into the processor's cache.
// By testdata/bench/kernelspeed.sh on a closure of 110 MB, Linux 6.18 on an AMD EPYC.
var (
	kernelSpeed = map[codec.Algorithm]float64{codec.Zstd: 1.2, codec.XZ: 1.6, codec.Gzip: 1.4, codec.LZ4: 0.5}
	kernelCopy  = map[int]float64{1 << 20: 2.4e-9, 256 << 10: 1.2e-9, 128 << 10: 0.8e-9} // seconds a byte, by block size
)

// kernelRate is the bytes of content a second that Linux expands on one processor, by the seconds that the engine took here.
func kernelRate(p *population, c *candidate) float64 {
	if p.raw == 0 {
		return 0
	}
	return p.raw / (c.expand/kernelSpeed[c.spec.Algorithm] + p.raw*kernelCopy[p.size])
}

// fragmentsKept is how many fragment blocks Linux keeps.
const fragmentsKept = 3

// assumedShare of the content is what is taken to be read where nothing else is said.
const assumedShare = 0.10

// readSet is the blocks that a working set makes Linux expand, in their order, again and again: indexes into the population's.
type readSet []int

// workingSet finds the blocks of the working set in a plan.
func (a *adviser) workingSet(p *population) (readSet, error) {
	w := newWanted(a.WorkingSet)
	if a.WorkingSet != nil {
		w.collect(p, w.rank)
		if err := w.missing(); err != nil {
			return nil, err
		}
	} else if w.collect(p, assumed); len(w.files) == 0 { // a small tree
		w.collect(p, func(string) int { return 0 })
	}
	result := WorkingSetResult{Files: int64(len(w.files)), Assumed: a.WorkingSet == nil}
	var set kernelReader
	for _, f := range w.files {
		result.Bytes += f.Size
		for _, b := range f.Blocks {
			set.read(b, p.plan.IsFragment(p.blocks[b]))
		}
	}
	a.advice.WorkingSet = result
	return set.expanded, nil
}

// kernelReader is Linux, as far as it expands blocks.
type kernelReader struct {
	expanded readSet
	kept     [fragmentsKept]int // one more than a fragment block's index
	next     int
}

func (k *kernelReader) read(block int, fragment bool) {
	if fragment {
		if slices.Contains(k.kept[:], block+1) {
			return
		}
		k.kept[k.next] = block + 1
		k.next = (k.next + 1) % len(k.kept)
	}
	k.expanded = append(k.expanded, block)
}

// wanted are the files of a working set.
type wanted struct {
	roots map[string]int // places of the paths that were given
	found map[string]bool
	files []wantedFile
}

type wantedFile struct {
	squashfs.PlannedFile
	rank int
}

func newWanted(paths []string) *wanted {
	w := &wanted{roots: map[string]int{}, found: map[string]bool{}}
	for i, r := range paths {
		if _, again := w.roots[r]; !again {
			w.roots[r] = i
		}
	}
	return w
}

// collect lists a plan's files whose rank is not negative, in the order of the ranks.
func (w *wanted) collect(p *population, rank func(name string) int) {
	for f := range p.plan.Files(p.blocks) {
		if r := rank(f.Path); r >= 0 {
			f.Blocks = slices.Clone(f.Blocks)
			w.files = append(w.files, wantedFile{f, r})
		}
	}
	slices.SortStableFunc(w.files, func(a, b wantedFile) int { return a.rank - b.rank })
}

// rank is the place of the first path that names a file or a directory above it, or -1.
func (w *wanted) rank(name string) int {
	best := -1
	for {
		if r, ok := w.roots[name]; ok {
			w.found[name] = true
			if best < 0 || r < best {
				best = r
			}
		}
		if name == "." {
			return best
		}
		name = path.Dir(name)
	}
}

// missing is an error if a path names no file.
func (w *wanted) missing() error {
	for r := range w.roots {
		if w.found[r] {
			delete(w.roots, r)
		}
	}
	if len(w.roots) == 0 {
		return nil
	}
	return fmt.Errorf("working set: %s: no such file in the image", slices.Min(slices.Collect(maps.Keys(w.roots))))
}

// assumed takes a tenth of all directories, by a hash of their paths: their files have rank 0.
func assumed(name string) int {
	sum := sha256.Sum256([]byte(path.Dir(name)))
	if float64(binary.LittleEndian.Uint32(sum[:])) < assumedShare*(1<<32) {
		return 0
	}
	return -1
}

// read predicts what a codec's image reads from the storage, in bytes, and how many seconds that and the expanding take.
func (s readSet) read(p *population, c *candidate, rate float64, storage Storage) (bytes int64, seconds float64) {
	content, last := 0.0, -2
	for _, b := range s {
		raw := float64(p.blocks[b].Size())
		stored := min(p.control[b]*c.total/p.total(), raw)
		bytes += int64(stored)
		content += raw
		if b != last+1 {
			seconds += storage.Latency.Seconds()
		}
		last = b
	}
	seconds += float64(bytes) / storage.Rate
	if rate > 0 {
		seconds += content / rate
	}
	return bytes, seconds
}
