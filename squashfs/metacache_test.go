//go:build linux

package squashfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"testing/fstest"
)

// manyNames is a tree whose tables have many blocks.
func manyNames() fstest.MapFS {
	tree := fstest.MapFS{}
	for d := range 40 {
		for f := range 100 {
			name := fmt.Sprintf("d%02d/%x", d, random(uint64(100*d+f), 12))
			tree[name] = &fstest.MapFile{Data: words(uint64(f), 20+f%7)}
		}
	}
	return tree
}

// packed are the metadata blocks of all packs that a cache has.
func packed(c *memoryCache) (blocks []packedBlock) {
	for _, b := range c.blobs {
		blocks = append(blocks, parsePack(b)...)
	}
	return blocks
}

// A build whose tables are known compresses none of their blocks, and one with a file more
// those alone that are new.
func TestMetadataIsKept(t *testing.T) {
	tree := manyNames()
	opts := Options{Compression: compression(t, "zstd:3"), BlockSize: 64 << 10}
	for _, workers := range []int{1, 4} {
		opts.Blocks, opts.Workers = nil, 2
		want := imageBytes(t, tree, opts)
		blocks := &memoryCache{}
		opts.Blocks, opts.Workers = blocks, workers
		for _, state := range []string{"empty", "full"} {
			blocks.saved = 0
			if !bytes.Equal(imageBytes(t, tree, opts), want) {
				t.Fatalf("%d workers, %s cache: another image", workers, state)
			}
			if (state == "full") != (blocks.saved == 0) {
				t.Errorf("%d workers, %s cache: %d blobs were saved", workers, state, blocks.saved)
			}
		}
		if n := len(packed(blocks)); n < 30 {
			t.Errorf("%d workers: %d blocks of the tables were kept", workers, n)
		}
	}
}

// A pack that is damaged, or of other blocks, is as one that is not there.
func TestDamagedPacks(t *testing.T) {
	tree := manyNames()
	opts := Options{Compression: compression(t, "zstd:3"), BlockSize: 64 << 10}
	want := imageBytes(t, tree, opts)
	blocks := &memoryCache{}
	opts.Blocks = blocks
	imageBytes(t, tree, opts)
	packs := map[[32]byte][]byte{}
	for key, b := range blocks.blobs {
		if parsePack(b) != nil {
			packs[key] = b
		}
	}
	if len(packs) < 3 {
		t.Fatalf("%d packs", len(packs))
	}
	other := slices.Concat(bytes.Repeat([]byte{1}, 32), []byte{0, 0})
	for name, damage := range map[string]func(b []byte) []byte{
		"cut":      func(b []byte) []byte { return b[:len(b)-1] },
		"longer":   func(b []byte) []byte { return append(bytes.Clone(b), 0) },
		"empty":    func([]byte) []byte { return []byte{} },
		"of other": func([]byte) []byte { return other },
		"too many": func([]byte) []byte { return bytes.Repeat(other, maxPackBlocks+1) },
		"length":   func(b []byte) []byte { return append(bytes.Clone(b[:32]), 0xff, 0xff) },
		"too long": func(b []byte) []byte { return slices.Concat(b[:32], []byte{0, 0x20}, make([]byte, metadataSize)) },
	} {
		for key, b := range packs {
			blocks.blobs[key] = damage(b)
		}
		blocks.saved = 0
		if !bytes.Equal(imageBytes(t, tree, opts), want) {
			t.Errorf("%s: another image", name)
		}
		if blocks.saved < len(packs) {
			t.Errorf("%s: %d of %d packs were made again", name, blocks.saved, len(packs))
		}
	}
}

// A change in a table costs no more than the blocks of a pack or two, where the blocks behind
// it are the same: the packs fall into step with those that were kept.
func TestPacksFallIntoStep(t *testing.T) {
	table := words(7, 400*metadataSize)
	changed := bytes.Clone(table)
	changed[100*metadataSize] ^= 1
	cut := slices.Concat(table[:200*metadataSize], table[203*metadataSize:])
	for name, table2 := range map[string][]byte{"changed": changed, "cut": cut} {
		cache := &memoryCache{}
		opts := Options{Compression: compression(t, "zstd:3"), Blocks: cache, Workers: 1}
		writeTable(t, &opts, table)
		if n := len(cache.blobs); n < 400/maxPackBlocks || n > 40 {
			t.Errorf("400 blocks are kept in %d packs", n)
		}
		// What comes from the cache is known by its being one byte.
		for key, b := range cache.blobs {
			p := &pack{key: key, blocks: parsePack(b)}
			for i := range p.blocks {
				p.blocks[i].compressed, p.blocks[i].known = []byte{0}, false
			}
			(&metadataPress{opts: &opts}).save(p)
		}
		out := writeTable(t, &opts, table2)
		kept := 0
		for len(out) > 0 {
			n := int(binary.LittleEndian.Uint16(out))
			if n == 1 {
				kept++
			}
			out = out[2+n&^metadataRaw:]
		}
		if n := len(table2)/metadataSize - kept; n > maxPackBlocks || name == "changed" && n < 1 {
			t.Errorf("%s: %d blocks were compressed", name, n)
		}
	}
}

// writeTable returns a table of metadata blocks.
func writeTable(t *testing.T, opts *Options, table []byte) []byte {
	t.Helper()
	press := newMetadataPress(opts)
	defer press.close()
	m := (&tableWriter{press: press}).metadata()
	if err := m.write(table); err != nil {
		t.Fatal(err)
	}
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	return m.out
}
