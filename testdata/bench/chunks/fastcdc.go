package main

import (
	"crypto/sha256"
	"encoding/binary"
)

// FastCDC (Xia et al., USENIX ATC 2016): a chunk ends where a hash of the last bytes has zeros at the ones of a
// mask. No chunk is shorter than minChunk, whose bytes are not looked at. Up to averageChunk the mask has two ones
// more than the average asks for, and behind it two fewer, so that most chunks are of about that size
// (normalised chunking, level 2).
const (
	minChunk     = 16 << 10
	averageChunk = 64 << 10 // 2^16: a mask of 16 ones
	maxChunk     = 256 << 10
)

var (
	gear      = gearTable()
	earlyMask = maskOf(16 + 2)
	lateMask  = maskOf(16 - 2)
)

// gearTable is a random number for each byte value: the same ones for ever, since shares of
// different days are compared.
func gearTable() (table [256]uint64) {
	for i := range table {
		sum := sha256.Sum256([]byte{byte(i)})
		table[i] = binary.LittleEndian.Uint64(sum[:])
	}
	return table
}

// maskOf spreads so many ones over the upper 48 bits, which depend on 17 bytes at least and on 64 at most.
func maskOf(ones int) (mask uint64) {
	for i := range ones {
		mask |= 1 << (63 - i*48/ones)
	}
	return mask
}

// cut is the length of the first chunk in b, which is a file's rest or its next maxChunk bytes.
func cut(b []byte) int {
	var hash uint64
	for i := minChunk; i < len(b); i++ {
		hash = hash<<1 + gear[b[i]]
		mask := lateMask
		if i < averageChunk {
			mask = earlyMask
		}
		if hash&mask == 0 {
			return i + 1
		}
	}
	return len(b)
}
