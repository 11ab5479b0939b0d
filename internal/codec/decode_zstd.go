package codec

import (
	"errors"

	"github.com/klauspost/compress/zstd"
)

// maxZstdMemory bounds what a hostile frame may make the decoder allocate: a
// squashfs block is at most 1 MiB.
const maxZstdMemory = 4 << 20

type zstdDecoder struct{ dec *zstd.Decoder }

func newZstdDecoder() (*zstdDecoder, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(maxZstdMemory), zstd.WithDecodeAllCapLimit(true))
	return &zstdDecoder{dec}, err
}

func (d *zstdDecoder) Decode(dst, src []byte) (int, error) {
	out, err := d.dec.DecodeAll(src, dst[:0:len(dst)])
	if err != nil {
		return 0, err
	}
	if len(out) > 0 && &out[0] != &dst[0] {
		return 0, errors.New("zstd: block expands to more than its size")
	}
	return len(out), nil
}
