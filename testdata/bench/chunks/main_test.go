package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
)

// random is the same so many bytes each time, of each seed others.
func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func lengths(t *testing.T, b []byte) (all []int) {
	t.Helper()
	var joined []byte
	err := eachChunk(iotest.HalfReader(bytes.NewReader(b)), func(chunk []byte) {
		all = append(all, len(chunk))
		joined = append(joined, chunk...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(joined, b) {
		t.Fatal("the chunks are not the file")
	}
	return all
}

func TestLengths(t *testing.T) {
	const size = 32 << 20
	got := lengths(t, random(1, size))
	for i, n := range got {
		if n > maxChunk || n < minChunk && i < len(got)-1 {
			t.Errorf("chunk %d of %d bytes", i, n)
		}
	}
	if average := size / len(got); average < averageChunk*3/4 || average > averageChunk*5/4 {
		t.Errorf("%d bytes a chunk on average", average)
	}
	// In whatever pieces they are read, on every machine and for ever.
	sum := fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, got)))
	if want := "7f6970683f6a3d51038c871dd9de85d0f9d11c0a2ddc31dca6022035c4e49142"; sum != want {
		t.Errorf("lengths have the SHA-256 %s, want %s", sum, want)
	}
}

// Zero bytes give no boundary, if not everywhere.
func TestLengthsOfZeros(t *testing.T) {
	if got, want := lengths(t, make([]byte, 2*maxChunk+5)), []int{maxChunk, maxChunk, 5}; !slices.Equal(got, want) {
		t.Errorf("chunks of %d bytes, want %d", got, want)
	}
	if got := lengths(t, nil); got != nil {
		t.Errorf("an empty file has chunks of %d bytes", got)
	}
}

func TestCompare(t *testing.T) {
	file := random(1, 8<<20)
	other := random(2, 1<<20)
	middle := len(file) / 2
	for _, c := range []struct {
		name        string
		older       []byte
		newer       []byte
		least, most int64 // bytes in new chunks
	}{
		{"identical", file, file, 0, 0},
		{"one byte in front", file, append([]byte{1}, file...), minChunk, 2 * maxChunk},
		{"one byte within", file, slices.Insert(slices.Clone(file), middle, 1), minChunk, 2 * maxChunk},
		{"less in the middle", file, slices.Delete(slices.Clone(file), middle, middle+1<<20), 0, 2 * maxChunk},
		{"more in the middle", file, slices.Insert(slices.Clone(file), middle, other...), 1 << 20, 1<<20 + 4*maxChunk},
		{"what is new, twice", file, append(slices.Concat(file, other), other...), 1 << 20, 1<<20 + 4*maxChunk},
		{"nothing in common", other, file, 8 << 20, 8 << 20},
		{"nothing before", nil, file, 8 << 20, 8 << 20},
		{"nothing now", file, nil, 0, 0},
	} {
		d, err := compare(bytes.NewReader(c.older), bytes.NewReader(c.newer), nil)
		if err != nil {
			t.Fatal(err)
		}
		if d.bytes != int64(len(c.newer)) || d.newBytes < c.least || d.newBytes > c.most {
			t.Errorf("%s: %d bytes, %d of them new; want %d, and %d to %d", c.name, d.bytes, d.newBytes, len(c.newer), c.least, c.most)
		}
		if (d.newChunks == 0) != (d.newBytes == 0) || d.newChunks > d.chunks {
			t.Errorf("%s: %d new chunks of %d, with %d bytes", c.name, d.newChunks, d.chunks, d.newBytes)
		}
	}
}

func TestReadError(t *testing.T) {
	if _, err := compare(bytes.NewReader(nil), iotest.TimeoutReader(bytes.NewReader(random(1, 1<<20))), nil); err != iotest.ErrTimeout {
		t.Errorf("error %v, want %v", err, iotest.ErrTimeout)
	}
}

// The places that the superblock of a real image has are those of its tables' indexes, where they have one.
func TestRegions(t *testing.T) {
	image := random(1, 1<<20)
	put := func(at int, v uint64) { binary.LittleEndian.PutUint64(image[at:], v) }
	copy(image, "hsqs")
	put(40, 990_000)        // bytes_used
	put(48, 980_000)        // id_table_start, behind
	put(980_000, 970_000)   // their block
	put(64, 500_000)        // inode_table_start
	put(72, 600_000)        // directory_table_start
	put(80, 750_000)        // fragment_table_start, behind
	put(750_000, 700_000)   // their block
	put(88, math.MaxUint64) // lookup_table_start
	changed := bytes.Clone(image)
	changed[650_000]++
	d, err := compareWithRegions(image, changed)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]int64{"head": 96, "data": 500_000, "inodes": 600_000, "directories": 700_000, "fragments": 970_000,
		"export": 970_000, "ids": 990_000, "list": 1 << 20}
	sum := int64(0)
	for _, r := range d.regions {
		if r.end != ends[r.name] {
			t.Errorf("%s ends at %d", r.name, r.end)
		}
		sum += r.newBytes
	}
	if r := d.regions[3]; r.newBytes == 0 || sum != d.newBytes {
		t.Errorf("%d of %d new bytes are in regions, %d among the directories", sum, d.newBytes, r.newBytes)
	}
	put(88, 5) // where no index is
	if _, err := compareWithRegions(image, image); err == nil {
		t.Error("an image with a table outside")
	}
}

func compareWithRegions(older, newer []byte) (*difference, error) {
	regions, err := regionsOf(bytes.NewReader(newer), int64(len(newer)))
	if err != nil {
		return nil, err
	}
	return compare(bytes.NewReader(older), bytes.NewReader(newer), regions)
}
