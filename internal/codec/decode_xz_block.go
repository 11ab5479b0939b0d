package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
)

// The parts of an .xz stream, https://tukaani.org/xz/xz-file-format.txt.
const (
	xzHeaderMagic     = "\xfd7zXZ\x00"
	xzFooterMagic     = "YZ"
	xzHeaderSize      = 12
	xzFooterSize      = 12
	xzFilters         = 0x03 // of a block's flags: the number of filters, less one
	xzHasCompressed   = 0x40
	xzHasUncompressed = 0x80
	xzCheckNone       = 0
	xzCheckCRC32      = 1
	xzCheckCRC64      = 4
)

var (
	errXZ      = errors.New("xz: damaged stream")
	crc64Table = crc64.MakeTable(crc64.ECMA)
)

// xzBlock is a block whose first filter the library does not know.
type xzBlock struct {
	undo   func(b []byte, start uint32)
	start  uint32 // the address of the data's first byte, for undo
	header []byte // with its CRC
	sizes  []byte // of the header: the block's sizes, where it has them
	others []byte // of the header: the other filters, and padding
	check  byte   // the stream's kind of checksum
	sum    []byte
}

// parseXZBlock looks into the first block's header for a filter that is not the
// library's. It reports none where anything is wrong with src, as far as it
// looks: the library says so then.
func parseXZBlock(src []byte) (b xzBlock, ok bool) {
	if len(src) < xzHeaderSize+8 || string(src[:len(xzHeaderMagic)]) != xzHeaderMagic || src[xzHeaderSize] == 0 {
		return b, false
	}
	b.check = src[7]
	size := 4 * (int(src[xzHeaderSize]) + 1)
	if xzHeaderSize+size > len(src) {
		return b, false
	}
	b.header = src[xzHeaderSize:][:size]
	fields := b.header[:size-4]
	if crc32.ChecksumIEEE(fields) != binary.LittleEndian.Uint32(b.header[size-4:]) || fields[1]&xzFilters == 0 {
		return b, false
	}
	rest := fields[2:]
	for _, has := range []byte{xzHasCompressed, xzHasUncompressed} {
		if fields[1]&has != 0 {
			if _, rest, ok = xzNumber(rest); !ok {
				return b, false
			}
		}
	}
	b.sizes = fields[2 : len(fields)-len(rest)]
	return b, b.parseFilter(rest)
}

// parseFilter reads the first filter's flags.
func (b *xzBlock) parseFilter(flags []byte) bool {
	id, flags, ok := xzNumber(flags)
	if !ok || xzUndo[id] == nil {
		return false
	}
	size, flags, ok := xzNumber(flags)
	if !ok || size != 0 && size != 4 || uint64(len(flags)) < size {
		return false
	}
	if size == 4 {
		b.start = binary.LittleEndian.Uint32(flags)
	}
	b.undo, b.others = xzUndo[id], flags[size:]
	return true
}

// unfiltered appends to dst the stream src without the filter, and without a
// checksum, which is of the data that the filter has gone through.
func (b *xzBlock) unfiltered(dst, src []byte) ([]byte, error) {
	le := binary.LittleEndian
	sumSize, ok := map[byte]int{xzCheckNone: 0, xzCheckCRC32: 4, xzCheckCRC64: 8}[b.check]
	if !ok {
		return nil, fmt.Errorf("%w: xz check %d", ErrUnsupported, b.check)
	}
	footer := src[len(src)-xzFooterSize:]
	end := uint64(len(src)-xzFooterSize) - 4*(uint64(le.Uint32(footer[4:]))+1) // of the block: the index's start
	start := uint64(xzHeaderSize + len(b.header))
	if string(footer[10:]) != xzFooterMagic || end > uint64(len(src)) || end < start+uint64(sumSize) {
		return nil, errXZ
	}
	data := src[start : end-uint64(sumSize)]
	b.sum = src[end-uint64(sumSize) : end]
	unpadded, uncompressed, ok := xzIndex(src[end:])
	if !ok || unpadded < uint64(sumSize) {
		return nil, errXZ
	}
	dst = append(dst, xzHeaderMagic...)
	dst = append(dst, 0, xzCheckNone)
	dst = le.AppendUint32(dst, crc32.ChecksumIEEE([]byte{0, xzCheckNone}))
	dst = b.appendHeader(dst)
	dst = append(dst, data...)
	return appendXZEnd(dst, unpadded-uint64(sumSize), uncompressed), nil
}

// appendHeader appends the block's header without the filter, in the same size.
func (b *xzBlock) appendHeader(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, b.header[0], b.header[1]-1)
	dst = append(dst, b.sizes...)
	dst = append(dst, b.others...)
	dst = append(dst, make([]byte, len(b.header)-4-(len(dst)-at))...)
	return binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[at:]))
}

// appendXZEnd appends an index of one block, and a stream's footer.
func appendXZEnd(dst []byte, unpadded, uncompressed uint64) []byte {
	le := binary.LittleEndian
	at := len(dst)
	dst = append(dst, 0, 1)
	dst = binary.AppendUvarint(dst, unpadded)
	dst = binary.AppendUvarint(dst, uncompressed)
	dst = append(dst, make([]byte, -(len(dst)-at)&3)...)
	dst = le.AppendUint32(dst, crc32.ChecksumIEEE(dst[at:]))
	size := le.AppendUint32(nil, uint32(len(dst)-at)/4-1)
	size = append(size, 0, xzCheckNone)
	dst = le.AppendUint32(dst, crc32.ChecksumIEEE(size))
	return append(append(dst, size...), xzFooterMagic...)
}

// verify compares the checksum with the data that undo gave.
func (b *xzBlock) verify(data []byte) error {
	le := binary.LittleEndian
	if b.check == xzCheckCRC32 && crc32.ChecksumIEEE(data) != le.Uint32(b.sum) ||
		b.check == xzCheckCRC64 && crc64.Checksum(data, crc64Table) != le.Uint64(b.sum) {
		return errXZ
	}
	return nil
}

// xzIndex reads an index of one block.
func xzIndex(b []byte) (unpadded, uncompressed uint64, ok bool) {
	if len(b) < 2 || b[0] != 0 || b[1] != 1 {
		return 0, 0, false
	}
	unpadded, b, ok = xzNumber(b[2:])
	if ok {
		uncompressed, _, ok = xzNumber(b)
	}
	return unpadded, uncompressed, ok
}

// xzNumber reads a number of variable length.
func xzNumber(b []byte) (n uint64, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, false
	}
	return n, b[size:], true
}
