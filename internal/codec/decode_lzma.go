package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/ulikunitz/xz/lzma"
)

// lzmaDecoder reads squashfs's "lzma" blocks: streams in the old format of
// .lzma files, with the size in their header and, from liblzma, an end mark too.
// The library cannot be reset: each block has it allocate again, the dictionary
// included, which is as large as the header says but no larger than the block.
type lzmaDecoder struct {
	in  bytes.Reader
	one [1]byte
}

// lzmaSizeAt is where the header, after properties and dictionary size, has the
// uncompressed size.
const lzmaSizeAt, lzmaHeaderSize = 5, 13

func (d *lzmaDecoder) Decode(dst, src []byte) (int, error) {
	if len(src) < lzmaHeaderSize {
		return 0, io.ErrUnexpectedEOF
	}
	// liblzma's limit on literal context and position bits. Without it, the
	// literals' probabilities alone take 6 MiB.
	if lc, lp := src[0]%9, src[0]/9%5; lc+lp > 4 {
		return 0, fmt.Errorf("%w: lzma with lc=%d, lp=%d", ErrUnsupported, lc, lp)
	}
	size := binary.LittleEndian.Uint64(src[lzmaSizeAt:])
	if size > uint64(len(dst)) {
		return 0, errTooLong
	}
	d.in.Reset(src)
	r, err := lzma.ReaderConfig{DictCap: math.MaxInt32}.NewReader(&d.in)
	if err != nil {
		return 0, err
	}
	n, err := readInto(dst[:size], r, &d.one)
	if err == nil && uint64(n) != size {
		err = fmt.Errorf("lzma: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}
