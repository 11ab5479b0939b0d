package codec

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// maxZstdMemory bounds what a hostile frame may make the decoder allocate. The
// window of a frame need not be larger than the block in it.
const maxZstdMemory = 4 * MaxBlock

type zstdDecoder struct{ dec *zstd.Decoder }

func newZstdDecoder() (*zstdDecoder, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(maxZstdMemory), zstd.WithDecodeAllCapLimit(true))
	return &zstdDecoder{dec}, err
}

func (d *zstdDecoder) Decode(dst, src []byte) (int, error) {
	out, err := d.dec.DecodeAll(src, dst[:0:len(dst)])
	if err == zstd.ErrWindowSizeExceeded {
		err = fmt.Errorf("%w: zstd: %w", ErrUnsupported, err)
	}
	if err != nil {
		return 0, err
	}
	if len(out) > 0 && &out[0] != &dst[0] {
		return 0, errTooLong
	}
	return len(out), nil
}
