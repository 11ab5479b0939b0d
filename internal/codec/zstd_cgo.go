//go:build cgo

package codec

import (
	"fmt"
	"io"

	"github.com/DataDog/zstd"
)

const zstdModule = "github.com/DataDog/zstd"

// zstdEngine: DataDog/zstd carries libzstd's source, its version is the library's.
func zstdEngine() string { return "libzstd (" + moduleVersion(zstdModule) + ")" }

// zstdWarning says what the zstd engine of this build cannot reach, or "".
func zstdWarning(int) string { return "" }

// zstdBlock compresses with ZSTD_compressCCtx: content size known, so a
// single-segment frame whose window is the block, as the kernel requires
// (fs/squashfs/zstd_wrapper.c).
type zstdBlock struct {
	ctx   zstd.Ctx
	level int
}

func newZstdBlock(level int) (*zstdBlock, error) {
	return &zstdBlock{zstd.NewCtx(), level}, nil
}

func (b *zstdBlock) Compress(dst, src []byte) ([]byte, error) {
	out, err := b.ctx.CompressLevel(dst, src, b.level)
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if len(out) >= len(src) {
		return nil, nil
	}
	return out, nil
}

// Close leaves the context to its finalizer, the only way DataDog/zstd frees it.
func (b *zstdBlock) Close() { b.ctx = nil }

func newZstdWriter(w io.Writer, level int) (io.WriteCloser, error) {
	return zstd.NewWriterLevel(w, level), nil
}
