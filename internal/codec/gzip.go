package codec

import (
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
