package codec

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

func gzipWarning() string {
	if _, err := libdeflate(); err != nil {
		return fmt.Sprintf("gzip: the pure Go engine is used, whose results are about 15 %% larger than libdeflate's (%v)", err)
	}
	return ""
}

func newZlibBlock(level int) (Block, error) {
	if lib, err := libdeflate(); err == nil {
		return newDeflateBlock(lib, level)
	}
	w, err := zlib.NewWriterLevel(nil, level)
	return &zlibBlock{w: w}, err
}

// zlibBlock writes squashfs's "gzip" blocks, which are zlib streams.
type zlibBlock struct {
	w   *zlib.Writer
	out limitedBuffer
}

func (b *zlibBlock) Compress(dst, src []byte) ([]byte, error) {
	b.out = limitedBuffer{b: room(dst, len(src)), max: len(src) - 1}
	b.w.Reset(&b.out)
	_, err := b.w.Write(src)
	if err == nil {
		err = b.w.Close()
	}
	return b.out.result(err)
}

func (b *zlibBlock) Close() {}

// errFull ends a compression whose result is no longer worth having.
var errFull = errors.New("codec: no room")

// limitedBuffer takes up to max bytes, so that a block that does not shrink
// costs no memory beyond its own size.
type limitedBuffer struct {
	b    []byte
	max  int
	full bool
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if len(l.b)+len(p) > l.max || l.full {
		l.full = true
		return 0, errFull
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

// result is what was written, or nil if it was too much. Not every engine hands
// an error on.
func (l *limitedBuffer) result(err error) ([]byte, error) {
	if l.full {
		return nil, nil
	}
	return l.b, err
}

func newGzipWriter(w io.Writer, level int) (io.WriteCloser, error) {
	return gzip.NewWriterLevel(w, level)
}
