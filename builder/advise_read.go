package builder

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/codec"
)

// How reading is predicted. Linux reads a block in one piece, expands it with the one decoder that it has
// unless it was configured otherwise, and keeps what it wanted of it; of fragment blocks it keeps the last three
// (fs/squashfs/cache.c, CONFIG_SQUASHFS_FRAGMENT_CACHE_SIZE), of blocks as they are stored none. So a
// working set in the order in which it is read gives the blocks that are read and expanded, again and again
// where small files lie far apart. Reading and expanding do not overlap for a program that waits for each.

// kernelSpeed is how much faster Linux expands than the engines here, on one core: by
// testdata/bench/kernelspeed.sh, Linux 6.18 on an x86-64.
var kernelSpeed = map[codec.Algorithm]float64{
	codec.Zstd: 1, codec.XZ: 1, codec.Gzip: 1, codec.LZ4: 1,
}

// fragmentsKept is how many fragment blocks Linux keeps.
const fragmentsKept = 3

// assumedShare of the content is what is taken to be read where nothing else is said.
const assumedShare = 0.10

// readSet is the blocks that a working set makes Linux expand, in their order.
type readSet struct {
	expanded []int // indexes into the population's blocks, again and again
}

// workingSet finds the blocks of the working set in a plan.
func (a *adviser) workingSet(p *population) (*readSet, error) {
	w := wanted{roots: a.WorkingSet, files: map[string][]int{}}
	wants := w.given
	if a.WorkingSet == nil {
		wants = assumed
	}
	var order []string
	result := WorkingSetResult{Assumed: a.WorkingSet == nil}
	for f := range p.plan.Files(p.blocks) {
		if wants(f.Path) {
			w.files[f.Path] = slices.Clone(f.Blocks)
			order = append(order, f.Path)
			result.Files++
			result.Bytes += f.Size
		}
	}
	a.advice.WorkingSet = result
	if a.WorkingSet != nil {
		if err := w.sort(order); err != nil {
			return nil, err
		}
	}
	set := &readSet{}
	var kept [fragmentsKept]int
	for i := range kept {
		kept[i] = -1
	}
	next := 0
	for _, name := range order {
		for _, b := range w.files[name] {
			if p.plan.IsFragment(p.blocks[b]) {
				if slices.Contains(kept[:], b) {
					continue
				}
				kept[next] = b
				next = (next + 1) % fragmentsKept
			}
			set.expanded = append(set.expanded, b)
		}
	}
	return set, nil
}

// wanted are the paths of a working set that was given.
type wanted struct {
	roots []string
	files map[string][]int
}

func (w *wanted) rank(name string) int {
	for i, r := range w.roots {
		if name == r || r == "." || strings.HasPrefix(name, r+"/") {
			return i
		}
	}
	return -1
}

func (w *wanted) given(name string) bool { return w.rank(name) >= 0 }

// sort brings the files into the order of the list, and fails where a path of it names none.
func (w *wanted) sort(order []string) error {
	ranks := make(map[string]int, len(order))
	found := make([]bool, len(w.roots))
	for _, name := range order {
		r := w.rank(name)
		ranks[name] = r
		found[r] = true
	}
	if i := slices.Index(found, false); i >= 0 {
		return fmt.Errorf("working set: %s: no such file in the image", w.roots[i])
	}
	slices.SortStableFunc(order, func(a, b string) int { return ranks[a] - ranks[b] })
	return nil
}

// assumed takes a tenth of all directories, by a hash of their paths.
func assumed(name string) bool {
	sum := sha256.Sum256([]byte(path.Dir(name)))
	return float64(binary.LittleEndian.Uint32(sum[:])) < assumedShare*(1<<32)
}

// read predicts what a codec's image reads from the storage, in bytes, and how many seconds that and the expanding take.
func (s *readSet) read(p *population, c *candidate, rate float64, storage Storage) (bytes int64, seconds float64) {
	content, last := 0.0, -2
	for _, b := range s.expanded {
		raw := float64(p.blocks[b].Size())
		stored := min(p.control[b]*c.share, raw)
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
