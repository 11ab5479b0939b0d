package codec

import "github.com/pierrec/lz4/v4"

// lz4Decoder reads single LZ4 blocks without a frame, which squashfs calls its
// legacy format. They have no end mark and no checksum: one that is cut off
// between two sequences is not known from a shorter one.
type lz4Decoder struct{}

func (lz4Decoder) Decode(dst, src []byte) (int, error) {
	return lz4.UncompressBlock(src, dst)
}
