package codec

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/zlib"
)

// zlibDecoder reads squashfs's "gzip" blocks, which are zlib streams.
type zlibDecoder struct {
	r   io.ReadCloser
	in  bytes.Reader
	one [1]byte
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
	return readInto(dst, d.r, &d.one)
}
