package codec

import (
	"errors"
	"fmt"
	"io"
)

// The algorithms that are read only: no kernel mounts images of LZMA, and those
// of LZO are larger than LZ4's or Zstd's at the same speed.
const (
	LZMA Algorithm = "lzma"
	LZO  Algorithm = "lzo"
)

// MaxBlock is the largest block that a [Decoder] expands, in bytes: squashfs's
// largest. Decoders that need a dictionary of their own keep one of up to this
// size, and refuse a block that asks for more.
const MaxBlock = 1 << 20

// Decoder expands one block at a time. It is used by one goroutine, and keeps
// what it has allocated for the next block.
type Decoder interface {
	// Decode expands src into dst, which is as long as the result may be and at
	// most [MaxBlock], and returns the number of bytes. Longer output is an
	// error, never more memory. What dst holds after an error is undefined.
	//
	// An error says that src is damaged, unless it wraps [ErrUnsupported].
	Decode(dst, src []byte) (int, error)
}

var errTooLong = errors.New("block expands to more than its size")

// NewDecoder returns a block decoder.
func NewDecoder(a Algorithm) (Decoder, error) {
	switch a {
	case Gzip:
		return &zlibDecoder{}, nil
	case Zstd:
		return newZstdDecoder()
	case XZ:
		return newXZDecoder()
	case LZ4:
		return lz4Decoder{}, nil
	case LZO:
		return lzoDecoder{}, nil
	case LZMA:
		return &lzmaDecoder{}, nil
	}
	return nil, fmt.Errorf("%w %q", ErrUnsupported, a)
}

// readInto fills dst from r, and fails if r has more or does not end. The byte
// is for its own use.
func readInto(dst []byte, r io.Reader, one *[1]byte) (int, error) {
	n, err := io.ReadFull(r, dst)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return n, err
	}
	// A stream's checksums are looked at only by who reads up to its end; and
	// its own end and a truncated one look alike in ReadFull.
	switch m, err := io.ReadFull(r, one[:]); {
	case m != 0 && n == len(dst):
		return n, errTooLong
	case m != 0 || err == io.ErrUnexpectedEOF:
		return n, io.ErrUnexpectedEOF
	case err != io.EOF:
		return n, err
	}
	return n, nil
}
