package codec

import (
	"fmt"

	"github.com/pierrec/lz4/v4"
)

// lz4Decoder reads single LZ4 blocks without a frame, which squashfs calls its
// legacy format. They have no end mark and no checksum: one that is cut off
// between two sequences is not known from a shorter one.
type lz4Decoder struct{}

func (lz4Decoder) Decode(dst, src []byte) (int, error) {
	n, err := lz4.UncompressBlock(src, dst)
	if err != nil {
		return 0, fmt.Errorf("lz4: %w", err)
	}
	return n, nil
}
