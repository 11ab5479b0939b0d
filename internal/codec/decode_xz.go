package codec

import (
	"bytes"
	"fmt"
	"io"

	"github.com/therootcompany/xz"
)

// xzDecoder reads .xz streams of one block, as squashfs has them. The library
// knows the filters that xz had until 2022; ARM64's and RISC-V's, which
// mksquashfs can use too, are undone here.
type xzDecoder struct {
	r   *xz.Reader
	in  bytes.Reader
	one [1]byte
	buf []byte // a stream without its first filter
}

func newXZDecoder() (*xzDecoder, error) {
	r, err := xz.NewReader(nil, MaxBlock)
	return &xzDecoder{r: r}, err
}

func (d *xzDecoder) Decode(dst, src []byte) (int, error) {
	b, ok := parseXZBlock(src)
	if !ok {
		return d.decode(dst, src)
	}
	var err error
	if d.buf, err = b.unfiltered(d.buf[:0], src); err != nil {
		return 0, err
	}
	n, err := d.decode(dst, d.buf)
	if err != nil {
		return n, err
	}
	b.undo(dst[:n], b.start)
	return n, b.verify(dst[:n])
}

func (d *xzDecoder) decode(dst, src []byte) (int, error) {
	d.in.Reset(src)
	n, err := 0, d.r.Reset(&d.in)
	if err == nil {
		d.r.Multistream(false)
		n, err = readInto(dst, d.r, &d.one)
	}
	switch err {
	case xz.ErrOptions, xz.ErrMemlimit, xz.ErrUnsupportedCheck:
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	case xz.ErrBuf:
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
	return n, err
}
