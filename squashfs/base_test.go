//go:build linux

package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

func openBase(t testing.TB, image []byte) *Base {
	t.Helper()
	b, err := OpenBase(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// An image with a base is the same as without, and of what the base has nothing is read again.
func TestBaseChangesNothing(t *testing.T) {
	testenv.NeedTool(t, "unsquashfs")
	tree := manyTrees(t)
	for name, opts := range map[string]Options{
		"zstd": {Compression: compression(t, "zstd:3")},
		"xz":   {Compression: compression(t, "xz:1")},
		"lz4":  {Compression: compression(t, "lz4"), Raw: []string{"a/bin/prog"}, RawAlign: 2048},
		"gzip": {Compression: compression(t, "gzip:6"), NoFragments: true},
	} {
		t.Run(name, func(t *testing.T) {
			opts.BlockSize, opts.BlockList = 64<<10, true
			tree.file("b/share/text", words(11, 3000))
			old := imageBytes(t, DirFS(tree.dir), opts)
			tree.file("b/share/text", words(12, 3100))
			want := imageBytes(t, DirFS(tree.dir), opts)

			seen := &opened{XattrFS: DirFS(tree.dir).(XattrFS)}
			opts.Base = openBase(t, old)
			opts.Trees, opts.TreeKey = &memoryCache{}, func(path string) string { return path }
			imageBytes(t, seen, opts) // for Trees
			seen.files = nil
			if !bytes.Equal(imageBytes(t, seen, opts), want) {
				t.Error("another image")
			}
			if name == "zstd" && len(seen.files) > 10 {
				t.Errorf("read: %q", seen.files)
			}
			// The list is none of the image's business.
			image, _ := writeImage(t, DirFS(tree.dir), opts)
			runTool(t, "unsquashfs", "-no-progress", "-strict-errors", "-d", t.TempDir()+"/out", image)
		})
	}
}

// A base of other options has nothing to give.
func TestBaseOfOtherOptions(t *testing.T) {
	tree := manyTrees(t)
	opts := Options{Compression: compression(t, "zstd:3"), BlockSize: 64 << 10, BlockList: true}
	old := imageBytes(t, DirFS(tree.dir), opts)
	opts.Compression = compression(t, "zstd:4")
	want := imageBytes(t, DirFS(tree.dir), opts)
	opts.Base = openBase(t, old)
	if !bytes.Equal(imageBytes(t, DirFS(tree.dir), opts), want) {
		t.Error("another image")
	}
}

// Flipped bits, anywhere: the right bytes, or an error that says so.
func TestDamagedBase(t *testing.T) {
	tree := manyTrees(t)
	warned := 0
	opts := Options{Compression: compression(t, "zstd:1"), BlockSize: 64 << 10, BlockList: true, Workers: 2}
	want := imageBytes(t, DirFS(tree.dir), opts)
	opts.Warn = func(_, msg string) {
		if strings.Contains(msg, "base image") {
			warned++
		}
	}
	refused := 0
	for i := range 200 {
		b := bytes.Clone(want)
		at := rand.IntN(len(b))
		if i%4 == 0 { // the list, which is small
			at = len(b) - 1 - rand.IntN(padding)
		}
		b[at] ^= 1 << rand.IntN(8)
		base, err := OpenBase(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			refused++
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNoBlockList) {
				t.Errorf("bit at %d: %v", at, err)
			}
			continue
		}
		opts.Base = base
		if !bytes.Equal(imageBytes(t, DirFS(tree.dir), opts), want) {
			t.Fatalf("bit at %d: another image", at)
		}
	}
	if warned == 0 || refused == 0 {
		t.Errorf("%d blocks and %d lists were found damaged: too few to say anything", warned, refused)
	}
}

func TestNoBase(t *testing.T) {
	tree := manyTrees(t)
	image := imageBytes(t, DirFS(tree.dir), Options{Compression: compression(t, "zstd:1")})
	if _, err := OpenBase(bytes.NewReader(image), int64(len(image))); !errors.Is(err, ErrNoBlockList) {
		t.Errorf("no list: %v", err)
	}
	for _, size := range []int{0, 50, 96, len(image) / 2} {
		if _, err := OpenBase(bytes.NewReader(image[:size]), int64(size)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, err := OpenBase(bytes.NewReader(make([]byte, 5000)), 5000); err == nil {
		t.Error("zeros are a base")
	}
}

func FuzzBase(f *testing.F) {
	tree := manyTrees(f)
	opts := Options{Compression: compression(f, "zstd:1"), BlockSize: 64 << 10, BlockList: true}
	image, res := writeImage(f, DirFS(tree.dir), opts)
	whole, err := os.ReadFile(image)
	if err != nil {
		f.Fatal(err)
	}
	list := roundUp(res.BytesUsed, padding)
	f.Add(whole[list+int64(listHeader):])
	f.Fuzz(func(t *testing.T, b []byte) {
		base := &Base{}
		if err := base.parse(b, 1<<40); err != nil {
			return
		}
		for name, at := range base.blocks {
			if at.size > MaxBlockSize || at.pos < 0 || at.pos+int64(at.size) > 1<<40 {
				t.Errorf("%x: %+v", name, at)
			}
		}
	})
}

// A list that OpenBase would refuse is not written, and the longest that is written is read.
func TestLongestBlockList(t *testing.T) {
	keys := newBlockKeys(&Options{BlockSize: 4096})
	entries := make([]listEntry, maxList/leastEntry+1)
	for i := range entries {
		binary.LittleEndian.PutUint32(entries[i].key[:], uint32(i))
		entries[i].at = blockAt{uint64(i) * 100, 100} // a gap and a size of one byte each
	}
	if list := keys.encodeList(entries); list != nil {
		t.Errorf("%d blocks: a list of %d bytes", len(entries), len(list))
	}
	entries = entries[:len(entries)-1]
	list := keys.encodeList(entries)
	const pos = 1 << 40
	b := &Base{r: behind{pos, list}}
	if err := b.readList(pos, pos+int64(len(list))); err != nil || len(b.blocks) != len(entries) {
		t.Errorf("%d of %d blocks are read: %v", len(b.blocks), len(entries), err)
	}
	// With gaps of two bytes the same number is too many.
	for i := range entries {
		entries[i].at.start = uint64(i) * 300
	}
	if list := keys.encodeList(entries); list != nil {
		t.Errorf("%d blocks with gaps: a list of %d bytes", len(entries), len(list))
	}
	for n, want := range map[int]bool{0: false, leastList - 1: false, leastList: true} {
		if list := keys.encodeList(entries[:n]); (list != nil) != want {
			t.Errorf("%d blocks: a list of %d bytes", n, len(list))
		}
	}
}

// behind is bytes at a position, with nothing ahead of them.
type behind struct {
	pos int64
	b   []byte
}

func (r behind) ReadAt(b []byte, pos int64) (int, error) {
	return bytes.NewReader(r.b).ReadAt(b, pos-r.pos)
}
