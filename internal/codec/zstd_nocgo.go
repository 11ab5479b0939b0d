//go:build !cgo

package codec

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

func zstdEngine() string { return moduleVersion(klauspostModule) + ", pure Go" }

// zstdWarning says what the zstd engine of this build cannot reach, or "".
func zstdWarning(level int) string {
	if level <= 9 {
		return ""
	}
	return fmt.Sprintf("zstd level %d: this build has no libzstd (built without cgo) and compresses with the pure Go engine's best level, whose results are larger", level)
}

type zstdBlock struct{ enc *zstd.Encoder }

func newZstdBlock(level int) (*zstdBlock, error) {
	enc, err := zstd.NewWriter(nil, zstdOptions(level)...)
	return &zstdBlock{enc}, err
}

func zstdOptions(level int) []zstd.EOption {
	return []zstd.EOption{
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true),
		zstd.WithWindowSize(1 << 20),
	}
}

func (b *zstdBlock) Compress(dst, src []byte) ([]byte, error) {
	out := b.enc.EncodeAll(src, dst[:0])
	if len(out) >= len(src) {
		return nil, nil
	}
	return out, nil
}

func (b *zstdBlock) Close() { b.enc.Close() }

func newZstdWriter(w io.Writer, level int) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1))
}
