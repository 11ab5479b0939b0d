package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"testing"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

func readBlock(t testing.TB, name string) []byte {
	t.Helper()
	return readFile(t, "testdata/blocks/"+name+".block")
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withXZDictionary changes the dictionary size in an .xz stream's block header.
func withXZDictionary(t testing.TB, name string, size byte) []byte {
	t.Helper()
	b := readBlock(t, name)
	header := b[xzHeaderSize:][:4*(int(b[xzHeaderSize])+1)]
	i := bytes.Index(header, []byte{0x21, 1}) // LZMA2, with one byte of properties
	if i < 0 {
		t.Fatalf("no LZMA2 filter in % x", header)
	}
	header[i+2] = size
	sum := header[len(header)-4:]
	binary.LittleEndian.PutUint32(sum, crc32.ChecksumIEEE(header[:len(header)-4]))
	return b
}

func withLZMAHeader(t testing.TB, dictionary uint32, size uint64) []byte {
	t.Helper()
	b := readBlock(t, "lzma")
	binary.LittleEndian.PutUint32(b[1:], dictionary)
	binary.LittleEndian.PutUint64(b[lzmaSizeAt:], size)
	return b
}

// bomb is n zeros.
func bomb(t testing.TB, a Algorithm, n int) []byte {
	t.Helper()
	zeros := make([]byte, n)
	if a == Zstd {
		enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		return enc.EncodeAll(zeros, nil)
	}
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write(zeros)
	_ = w.Close()
	return b.Bytes()
}

// TestDecodeMemory: blocks that claim or hold much more than they may do not
// make a decoder allocate more than a few blocks' worth.
func TestDecodeMemory(t *testing.T) {
	const zstdMagic = "\x28\xb5\x2f\xfd"
	large := bytes.Repeat([]byte{0xff}, 8)
	for name, test := range map[string]struct {
		algorithm Algorithm
		stored    []byte
		want      error // nil for any
	}{
		"xz dictionary of 4 GiB":        {XZ, withXZDictionary(t, "xz", 40), ErrUnsupported},
		"xz dictionary of 2 MiB":        {XZ, withXZDictionary(t, "xz", 18), ErrUnsupported},
		"xz dictionary that is none":    {XZ, withXZDictionary(t, "xz", 41), ErrUnsupported},
		"xz arm64, 4 GiB":               {XZ, withXZDictionary(t, "xz-arm64", 40), ErrUnsupported},
		"lzma size of 2^64-1":           {LZMA, withLZMAHeader(t, 1<<20, math.MaxUint64), errTooLong},
		"lzma size of 2^40":             {LZMA, withLZMAHeader(t, 1<<20, 1<<40), errTooLong},
		"lzma size over the block":      {LZMA, withLZMAHeader(t, 1<<20, MaxBlock+1), errTooLong},
		"lzma size over what there is":  {LZMA, withLZMAHeader(t, 1<<30, MaxBlock), nil},
		"lzma size under what there is": {LZMA, withLZMAHeader(t, 1<<30, 1), nil},
		"lzma literals of 6 MiB":        {LZMA, append([]byte{8 + 9*4}, readBlock(t, "lzma")[1:]...), ErrUnsupported},
		"zstd window of 3.75 TiB":       {Zstd, append([]byte(zstdMagic), 0x00, 0xff, 1, 0, 0), ErrUnsupported},
		"zstd window of 8 MiB":          {Zstd, append([]byte(zstdMagic), 0x00, 0x68, 1, 0, 0), ErrUnsupported},
		"zstd size of 2^64-1":           {Zstd, append(append([]byte(zstdMagic), 0xe0), append(large, 1, 0, 0)...), nil},
		"zstd bomb":                     {Zstd, bomb(t, Zstd, 64<<20), nil},
		"zlib bomb":                     {Gzip, bomb(t, Gzip, 64<<20), errTooLong},
		"lzo lengths":                   {LZO, append(append([]byte{0}, make([]byte, 1000)...), large...), nil},
		"lz4 lengths":                   {LZ4, bytes.Repeat([]byte{0xff}, 1000), nil},
	} {
		dec, err := NewDecoder(test.algorithm)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, MaxBlock)
		n := 0
		taken := allocated(func() { n, err = dec.Decode(dst, test.stored) })
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if taken > fuzzMemory {
			t.Errorf("%s: %d bytes allocated", name, taken)
		}
		t.Logf("%s: %d bytes allocated: %v", name, taken, err)
	}
	dec, err := NewDecoder(LZMA)
	if err != nil {
		t.Fatal(err)
	}
	// No error: what the dictionary could hold is no concern of the block's.
	stored := withLZMAHeader(t, 1<<30, uint64(len(blockContent())))
	if taken := allocated(func() { checkDecode(t, "lzma, 1 GiB", dec, stored, blockContent()) }); taken > 2*fuzzMemory {
		t.Errorf("%d bytes allocated", taken)
	}
}
