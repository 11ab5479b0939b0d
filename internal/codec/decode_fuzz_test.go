package codec

import (
	"bytes"
	"testing"
)

// Run the targets with -fuzzminimizetime=10x. What they find is committed in
// testdata/fuzz.

func FuzzGzip(f *testing.F) { fuzzDecoder(f, Gzip) }
func FuzzZstd(f *testing.F) { fuzzDecoder(f, Zstd) }
func FuzzLZ4(f *testing.F)  { fuzzDecoder(f, LZ4) }
func FuzzLZO(f *testing.F)  { fuzzDecoder(f, LZO) }
func FuzzLZMA(f *testing.F) { fuzzDecoder(f, LZMA) }

func FuzzXZ(f *testing.F) {
	for _, name := range []string{"riscv", "riscv-start"} {
		f.Add(readFile(f, "testdata/blocks/"+name+".xz"), uint16(12_000))
	}
	fuzzDecoder(f, XZ)
}

// fuzzMemory is what decoding a small block may allocate in all, in bytes: a few
// blocks' worth.
const fuzzMemory = 6 * MaxBlock

// fuzzDecoder: whatever the block, a decoder writes into its room only, takes
// bounded memory, and gives the same result again and after any other block.
func fuzzDecoder(f *testing.F, a Algorithm) {
	var good []storedBlock
	for _, block := range storedBlocks(f) {
		if block.algorithm == a {
			good = append(good, block)
			f.Add(block.stored, uint16(20_000))
			f.Add(block.stored, uint16(19_999))
		}
	}
	if len(good) == 0 {
		f.Fatalf("no block of %s", a)
	}
	content := blockContent()
	used, err := NewDecoder(a)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stored []byte, room uint16) {
		fresh, err := NewDecoder(a)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		dst := fuzzRoom(room)
		taken := allocated(func() { n, err = fresh.Decode(dst[:room:room], stored) })
		if taken > fuzzMemory {
			t.Errorf("%d bytes allocated", taken)
		}
		if n < 0 || n > int(room) || !bytes.Equal(dst[room:], fuzzRoom(0)) {
			t.Fatalf("%d bytes in room for %d, or written beyond", n, room)
		}
		again := fuzzRoom(room)
		m, errAgain := used.Decode(again[:room:room], stored)
		if (err == nil) != (errAgain == nil) || err == nil && !bytes.Equal(dst[:n], again[:m]) {
			t.Errorf("%d bytes, %v, then %d bytes, %v", n, err, m, errAgain)
		}
		if m, err := used.Decode(again[:0:0], good[0].stored); err == nil {
			t.Errorf("%d bytes in no room", m)
		}
		back := make([]byte, len(content))
		if m, err := used.Decode(back, good[0].stored); err != nil || !bytes.Equal(back[:m], content) {
			t.Errorf("a good block after it: %d bytes, %v", m, err)
		}
	})
}

// fuzzRoom is memory with a guard behind.
func fuzzRoom(n uint16) []byte {
	const guard = 64
	return append(make([]byte, n), bytes.Repeat([]byte{0xa5}, guard)...)
}
