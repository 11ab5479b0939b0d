package iso

import (
	"encoding/binary"
	"fmt"
	"math"
)

// sectorSize is ISO 9660's logical sector and block, blockSize the disk's of MBR, GPT and FAT.
const (
	sectorSize = 2048
	blockSize  = 512
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// u32 and u16 narrow numbers that the layout has found to fit; one that does not is a bug here, and no
// image is better than a wrong one.
func u32(n int64) uint32 {
	if n < 0 || n > math.MaxUint32 {
		panic(fmt.Sprintf("iso: bug: %d does not fit 32 bits", n))
	}
	return uint32(n)
}

func u16(n int64) uint16 {
	if n < 0 || n > math.MaxUint16 {
		panic(fmt.Sprintf("iso: bug: %d does not fit 16 bits", n))
	}
	return uint16(n)
}

func u8(n int) byte {
	if n < 0 || n > math.MaxUint8 {
		panic(fmt.Sprintf("iso: bug: %d does not fit 8 bits", n))
	}
	return byte(n)
}

// putBoth32 and putBoth16 put ECMA-119's both-byte orders (7.3.3, 7.2.3).
func putBoth32(b []byte, n int64) {
	le.PutUint32(b, u32(n))
	be.PutUint32(b[4:], u32(n))
}

func putBoth16(b []byte, n int64) {
	le.PutUint16(b, u16(n))
	be.PutUint16(b[2:], u16(n))
}

// roundUp returns the first multiple of unit from n on.
func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// sector returns the logical block number of a byte position.
func sector(pos int64) int64 {
	if pos%sectorSize != 0 {
		panic(fmt.Sprintf("iso: bug: %d is no sector's position", pos))
	}
	return pos / sectorSize
}

// padded returns b with zeros behind it to a multiple of unit.
func padded(b []byte, unit int64) []byte {
	return append(b, make([]byte, roundUp(int64(len(b)), unit)-int64(len(b)))...)
}
