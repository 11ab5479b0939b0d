//go:build linux

package squashfs

import (
	"math/bits"
	"slices"
	"testing"
)

// plainSketch is what a sketch is, byte by byte: the shingles that their hash
// chooses, and of many those whose next bits are zero.
func plainSketch(b []byte) sketch {
	var all []uint32
	for end := shingleLen; end <= len(b); end++ {
		var h uint64
		for _, c := range b[end-shingleLen : end] {
			h = h<<shingleShift + gear[c]
		}
		if h>>(64-sketchBits) == 0 {
			all = append(all, bits.Reverse32(uint32(h>>(32-sketchBits))))
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	s := sketch{hashes: all}
	for len(s.hashes) > maxSketch {
		s.level++
		s.hashes = slices.DeleteFunc(slices.Clone(all), func(v uint32) bool { return v>>(32-s.level) != 0 })
	}
	return s
}

func TestSketch(t *testing.T) {
	noise := random(9, 300_000)
	var s sketcher
	for _, n := range []int{0, 1, 11, 12, 13, 14, 15, 16, 17, 18, 100, 1000, 1001, 1002, 1003, 20_000, 300_000} {
		for name, b := range map[string][]byte{"noise": noise[:n], "zeros": make([]byte, n)} {
			got, want := s.sketch(b), plainSketch(b)
			if got.level != want.level || !slices.Equal(got.hashes, want.hashes) {
				t.Errorf("%d bytes of %s: level %d with %d hashes, want %d with %d", n, name, got.level, len(got.hashes), want.level, len(want.hashes))
			}
		}
	}
}
