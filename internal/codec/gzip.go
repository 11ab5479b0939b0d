package codec

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// zlibBlock writes squashfs's "gzip" blocks, which are zlib streams.
type zlibBlock struct {
	w   *zlib.Writer
	out limitedBuffer
}

func newZlibBlock(level int) (*zlibBlock, error) {
	w, err := zlib.NewWriterLevel(nil, level)
	return &zlibBlock{w: w}, err
}

func (b *zlibBlock) Compress(dst, src []byte) ([]byte, error) {
	b.out = limitedBuffer{b: dst[:0], max: len(src) - 1}
	b.w.Reset(&b.out)
	_, err := b.w.Write(src)
	if err == nil {
		err = b.w.Close()
	}
	if errors.Is(err, errFull) {
		return nil, nil
	}
	return b.out.b, err
}

func (b *zlibBlock) Close() {}

// errFull ends a compression whose result is no longer worth having.
var errFull = errors.New("codec: no room")

// limitedBuffer takes up to max bytes, so that a block that does not shrink
// costs no memory beyond its own size.
type limitedBuffer struct {
	b   []byte
	max int
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if len(l.b)+len(p) > l.max {
		return 0, errFull
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

func newGzipWriter(w io.Writer, level int) (io.WriteCloser, error) {
	return gzip.NewWriterLevel(w, level)
}

type zlibDecoder struct {
	r  io.ReadCloser
	in bytes.Reader
}

func (d *zlibDecoder) Decode(dst, src []byte) (int, error) {
	d.in.Reset(src)
	if d.r == nil {
		r, err := zlib.NewReader(&d.in)
		if err != nil {
			return 0, err
		}
		d.r = r
	} else if err := d.r.(zlib.Resetter).Reset(&d.in, nil); err != nil {
		return 0, err
	}
	return readInto(dst, d.r)
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
