//go:build linux

package squashfs

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// Which pieces are alike is looked for once; with what is kept of other pieces, again.
func TestClustersAreKept(t *testing.T) {
	tree := manyFiles()
	opts := Options{Compression: compression(t, "zstd:3"), BlockSize: 64 << 10}
	want := prepare(t, tree, opts)
	blocks := &memoryCache{}
	opts.Blocks = blocks
	check := func(when string, saved int) {
		t.Helper()
		blocks.saved = 0
		if got := prepare(t, tree, opts); !slices.Equal(got.tails, want.tails) {
			t.Errorf("%s: another plan", when)
		}
		if blocks.saved != saved {
			t.Errorf("%s: %d blobs were saved, want %d", when, blocks.saved, saved)
		}
	}
	check("cold", 1)
	check("warm", 0)
	var kept []byte
	for _, kept = range blocks.blobs { // the only one: nothing is written here
	}
	for name, damage := range map[string][]byte{
		"empty":   {},
		"cut":     kept[:len(kept)-1],
		"longer":  append(bytes.Clone(kept), 0),
		"far":     append(binary.AppendVarint(nil, 1<<62), kept...)[:len(kept)],
		"endless": bytes.Repeat([]byte{0xff}, len(kept)),
		"ahead":   append(binary.AppendVarint(nil, -1), kept[1:]...),
		"twice":   bytes.Repeat(binary.AppendVarint(nil, 1), len(want.tails)),
	} {
		for key := range blocks.blobs {
			blocks.blobs[key] = damage
		}
		check(name, 1)
	}
	delete(tree, "d00/f00")
	want = prepare(t, tree, Options{Compression: opts.Compression, BlockSize: opts.BlockSize})
	check("a file less", 1)
	opts.BlockSize = 128 << 10
	want = prepare(t, tree, Options{Compression: opts.Compression, BlockSize: opts.BlockSize})
	check("other blocks", 1)
	opts.Volatile = "a" // in all of them
	want = prepare(t, tree, Options{Compression: opts.Compression, BlockSize: opts.BlockSize, Volatile: opts.Volatile})
	check("other groups", 1)
	opts.Compression = compression(t, "xz")
	want = prepare(t, tree, Options{Compression: opts.Compression, BlockSize: opts.BlockSize, Volatile: opts.Volatile})
	check("another threshold", 1)
}

// Whatever a cache returns for the clusters, each piece is in one, and none is too large.
func FuzzKeptClusters(f *testing.F) {
	l := &layouter{plan: &Plan{opts: Options{BlockSize: 4096}}}
	for i := range 9 {
		l.pieces = append(l.pieces, piece{size: 400 + 200*i})
	}
	f.Add(encodeClusters([]int32{2, 3, -1, 5, -1, -1, -1, -1, -1}))
	f.Add(encodeClusters([]int32{8, -1, 1, -1, -1, -1, -1, -1, -1}))
	f.Add(encodeClusters([]int32{1, 2, 0, -1, -1, -1, -1, -1, -1}))
	f.Add(encodeClusters([]int32{2, 2, -1, 2, 5, 4, -1, -1, -1}))
	f.Add(encodeClusters([]int32{1, 2, 3, 4, 5, 6, 7, 8, -1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		next, head := l.parseClusters(b)
		if next == nil {
			return
		}
		seen := make([]bool, len(l.pieces))
		for i := range head {
			size := 0
			for j := int32(i); head[i] && j >= 0; j = next[j] {
				if seen[j] {
					t.Fatalf("piece %d is in two clusters", j)
				}
				seen[j] = true
				size += l.pieces[j].size
			}
			if size > l.plan.opts.BlockSize {
				t.Errorf("a cluster of %d bytes", size)
			}
		}
		if slices.Contains(seen, false) {
			t.Errorf("a piece is in no cluster: %v", seen)
		}
	})
}
