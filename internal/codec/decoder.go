package codec

import (
	"errors"
	"fmt"
	"io"
)

// Decoder expands one block at a time. It is used by one goroutine.
type Decoder interface {
	// Decode expands src into dst, which is as long as the result may be, and
	// returns the number of bytes. Longer output is an error, never more memory.
	Decode(dst, src []byte) (int, error)
}

// NewDecoder returns a block decoder.
func NewDecoder(a Algorithm) (Decoder, error) {
	switch a {
	case Gzip:
		return &zlibDecoder{}, nil
	case Zstd:
		return newZstdDecoder()
	}
	return nil, fmt.Errorf("%w %q", ErrUnsupported, a)
}

// readInto fills dst from r, and fails if r has more.
func readInto(dst []byte, r io.Reader) (int, error) {
	n, err := io.ReadFull(r, dst)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		// The stream's own end and a truncated one look alike in ReadFull;
		// reading on tells them apart.
		if _, err := r.Read(make([]byte, 1)); err != io.EOF {
			return n, io.ErrUnexpectedEOF
		}
		return n, nil
	}
	if err != nil {
		return n, err
	}
	var one [1]byte
	if m, err := io.ReadFull(r, one[:]); m != 0 || err != io.EOF {
		if err == nil {
			err = errors.New("block expands to more than its size")
		}
		return n, err
	}
	return n, nil
}
