package codec

import "github.com/anchore/go-lzo"

// lzoDecoder reads LZO1X blocks, of whichever of the format's compressors.
type lzoDecoder struct{}

func (lzoDecoder) Decode(dst, src []byte) (int, error) {
	return lzo.Decompress(src, dst)
}
