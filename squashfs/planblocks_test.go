package squashfs

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/isopress/isopress/internal/codec"
)

// plannedTree has files of every kind of place: blocks of their own, tails, small files, equal ones, a file within another,
// zeros at the start, in the middle, and nothing else.
func plannedTree(blockSize int) fstest.MapFS {
	rnd := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = "abcdefgh"[rnd.IntN(8)]
		}
		return b
	}
	long := text(5 * blockSize)
	holes := append(append(make([]byte, blockSize), text(blockSize)...), append(make([]byte, blockSize), text(blockSize+700)...)...)
	files := map[string][]byte{
		"a/long": long, "a/within": long[blockSize : 4*blockSize], "b/again": long, "b/tail": text(2*blockSize + 333),
		"b/holes": holes, "b/holes-only": make([]byte, 3*blockSize), "c/empty": nil, "z": text(blockSize),
		"c/within-holes": holes[2*blockSize:],
	}
	for i := range 60 {
		files[fmt.Sprintf("small/%02d", i)] = text(1 + i*113)
	}
	files["small/equal"] = files["small/30"]
	tree := fstest.MapFS{}
	for name, data := range files {
		tree[name] = &fstest.MapFile{Data: data, Mode: 0o644}
	}
	return tree
}

// placesRead notes where an image's blocks of content are read.
type placesRead struct {
	*os.File
	end   int64 // of the content
	seen  []place
	known map[place]bool
}

type place struct {
	at   int64
	size int
}

func (p *placesRead) ReadAt(b []byte, off int64) (int, error) {
	if at := (place{off, len(b)}); off < p.end && !p.known[at] {
		p.known[at] = true
		p.seen = append(p.seen, at)
	}
	return p.File.ReadAt(b, off)
}

// The plan's blocks are those of the image, of each file, in content and compressed size.
func TestPlanBlocks(t *testing.T) {
	for _, order := range []Order{OrderSimilar, OrderDirectory} {
		for _, raw := range [][]string{nil, {"z"}} {
			t.Run(fmt.Sprint(order, raw), func(t *testing.T) { testPlanBlocks(t, order, raw) })
		}
	}
}

func testPlanBlocks(t *testing.T, order Order, raw []string) {
	const blockSize = 8192
	tree := plannedTree(blockSize)
	plan, err := Prepare(t.Context(), tree, Options{BlockSize: blockSize, Order: order, Raw: raw})
	if err != nil {
		t.Fatal(err)
	}
	list := plan.Blocks()
	if want := plan.Stats().Blocks + plan.Stats().FragmentBlocks - int64(len(raw)); int64(len(list)) != want {
		t.Errorf("%d blocks, want %d", len(list), want)
	}
	data := readPlanned(t, plan, list)
	files := map[string][]int{}
	for f := range plan.Files(list) {
		files[f.Path] = append([]int{}, f.Blocks...)
		checkPlanned(t, plan, list, data, f, tree[f.Path].Data, len(raw) > 0 && f.Path == raw[0])
	}
	if len(files) != len(tree) {
		t.Errorf("%d files, want %d", len(files), len(tree))
	}
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := plan.Write(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	checkPlaces(t, f, files, data)
}

func readPlanned(t *testing.T, plan *Plan, list []Block) (data [][]byte) {
	for i, b := range list {
		block, err := plan.ReadBlock(b, nil)
		if err != nil || len(block) != b.Size() {
			t.Fatalf("block %d: %d bytes, %v; want %d", i, len(block), err, b.Size())
		}
		if digest := plan.Digest(b); (digest == [32]byte{}) != plan.IsFragment(b) {
			t.Errorf("block %d: fragment %v, digest %x", i, plan.IsFragment(b), digest)
		}
		data = append(data, block)
	}
	return data
}

// checkPlanned compares a file with its blocks: zeros are left out, and the tail lies somewhere in the last one.
func checkPlanned(t *testing.T, plan *Plan, list []Block, data [][]byte, f PlannedFile, content []byte, raw bool) {
	t.Helper()
	if f.Size != int64(len(content)) {
		t.Errorf("%s: %d bytes, want %d", f.Path, f.Size, len(content))
	}
	next := 0
	for len(content) > 0 && !raw {
		n := min(len(content), plan.opts.BlockSize)
		if part := content[:n]; !isZero(part) {
			if next == len(f.Blocks) {
				t.Fatalf("%s: blocks %v are not all", f.Path, f.Blocks)
			}
			i := f.Blocks[next]
			if next++; !bytes.Equal(data[i], part) && (!plan.IsFragment(list[i]) || !bytes.Contains(data[i], part)) {
				t.Errorf("%s: block %d is another's", f.Path, i)
			}
		}
		content = content[n:]
	}
	if next != len(f.Blocks) {
		t.Errorf("%s: has blocks %v, want %d", f.Path, f.Blocks, next)
	}
}

// checkPlaces reads each file of the image anew: what is read are the blocks of the plan, each always at the same place, and
// as long as it is compressed.
func checkPlaces(t *testing.T, f *os.File, files map[string][]int, data [][]byte) {
	t.Helper()
	spec, err := codec.Parse("zstd:19")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := codec.NewBlock(spec, DefaultBlockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	placeOf := map[int]place{}
	for name, blocks := range files {
		p := &placesRead{File: f, known: map[place]bool{}}
		r, err := NewReader(p, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		p.end = inodeTable(t, f)
		if _, err := r.ReadFile(name); err != nil {
			t.Fatal(err)
		}
		if len(blocks) == 0 {
			continue // empty, zeros, or raw: other tests'
		}
		if len(p.seen) != len(blocks) {
			t.Errorf("%s: the image's blocks are %v, the plan's %v", name, p.seen, blocks)
			continue
		}
		for k, i := range blocks {
			if was, ok := placeOf[i]; ok && was != p.seen[k] {
				t.Errorf("%s: block %d lies at %v, and at %v", name, i, p.seen[k], was)
			}
			placeOf[i] = p.seen[k]
			want := len(data[i])
			if c, err := engine.Compress(nil, data[i]); err != nil {
				t.Fatal(err)
			} else if c != nil {
				want = len(c)
			}
			if p.seen[k].size != want {
				t.Errorf("%s: block %d takes %d bytes, want %d", name, i, p.seen[k].size, want)
			}
		}
	}
	if len(placeOf) != len(data) {
		t.Errorf("%d blocks were read, the plan has %d", len(placeOf), len(data))
	}
}

// inodeTable is where the content ends: the superblock's inode_table_start.
func inodeTable(t *testing.T, f *os.File) int64 {
	t.Helper()
	var b [8]byte
	if _, err := f.ReadAt(b[:], 64); err != nil {
		t.Fatal(err)
	}
	return int64(binary.LittleEndian.Uint64(b[:]))
}
