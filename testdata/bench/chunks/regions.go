package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// region is a part of a squashfs image.
type region struct {
	name       string
	start, end int64
	newBytes   int64 // in chunks that the other image lacks
}

// regionsOf finds the parts of an image (https://dr-emann.github.io/squashfs/): each begins where its place in the
// superblock says, but tables with an index, whose places are those of the indexes and whose blocks lie
// before them.
func regionsOf(image io.ReaderAt, size int64) ([]region, error) {
	le := binary.LittleEndian
	sb := make([]byte, 96)
	if _, err := image.ReadAt(sb, 0); err != nil {
		return nil, err
	}
	if le.Uint32(sb) != 0x73717368 {
		return nil, errors.New("the new file is no squashfs image")
	}
	firstBlock := func(index uint64) uint64 {
		b := make([]byte, 8)
		if _, err := image.ReadAt(b, int64(index)); err != nil {
			return index
		}
		return le.Uint64(b)
	}
	inodes, directories := le.Uint64(sb[64:]), le.Uint64(sb[72:])
	ids := firstBlock(le.Uint64(sb[48:]))
	starts := []struct {
		name  string
		start uint64
	}{
		{"head", 0}, {"data", 96}, {"inodes", inodes}, {"directories", directories},
		{"fragments", firstBlock(le.Uint64(sb[80:]))}, {"export", ids}, {"ids", ids}, {"list", le.Uint64(sb[40:])},
	}
	if export := le.Uint64(sb[88:]); export != math.MaxUint64 {
		starts[5].start = firstBlock(export)
	}
	var regions []region
	for i, s := range starts {
		end := uint64(size)
		if i+1 < len(starts) {
			end = starts[i+1].start
		}
		if s.start > end || end > uint64(size) {
			return nil, fmt.Errorf("the %s of the new image lie from %d to %d", s.name, s.start, end)
		}
		regions = append(regions, region{name: s.name, start: int64(s.start), end: int64(end)})
	}
	return regions, nil
}

// addNew counts a new chunk where it lies.
func addNew(regions []region, start, end int64) {
	for i := range regions {
		r := &regions[i]
		r.newBytes += max(0, min(end, r.end)-max(start, r.start))
	}
}
