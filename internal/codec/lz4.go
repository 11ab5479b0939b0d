package codec

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"unsafe"

	"github.com/pierrec/lz4/v4"
)

const lz4Module = "github.com/pierrec/lz4/v4"

// lz4Path, where the linker sets it (-X), is the only liblz4 that is tried.
var lz4Path string

var lz4Names = map[string][]string{
	"linux":  {"liblz4.so.1"},
	"darwin": {"/opt/homebrew/lib/liblz4.1.dylib", "/usr/local/lib/liblz4.1.dylib"},
}

// lz4Functions is the part of liblz4's interface (lz4hc.h) that is used: its high
// compression finds the shortest code, which no pure Go engine does.
type lz4Functions struct {
	version  func() string
	size     func() int32
	compress func(state, src, dst unsafe.Pointer, srcSize, dstSize, level int32) int32
}

var liblz4 = sync.OnceValues(func() (*lz4Functions, error) {
	names := lz4Names[runtime.GOOS]
	if lz4Path != "" {
		names = []string{lz4Path}
	}
	l := &lz4Functions{}
	_, err := openLibrary(names, map[string]any{
		"LZ4_versionString":          &l.version,
		"LZ4_sizeofStateHC":          &l.size,
		"LZ4_compress_HC_extStateHC": &l.compress,
	})
	if err != nil {
		return nil, fmt.Errorf("liblz4: %w", err)
	}
	return l, nil
})

func lz4Warning(level int) string {
	_, err := liblz4()
	if level == 0 || err == nil {
		return ""
	}
	return fmt.Sprintf("lz4:hc: the pure Go engine is used, whose results are 5 %% larger than liblz4's (%v)", err)
}

func newLZ4Block(level int) Block {
	if level == 0 {
		return &lz4Block{compress: new(lz4.CompressorCCompat).CompressBlock}
	}
	if lib, err := liblz4(); err == nil {
		return &lz4HCBlock{lib: lib, level: int32(level), state: make([]uint64, (lib.size()+7)/8)}
	}
	return &lz4Block{compress: (&lz4.CompressorHC{Level: lz4GoLevel(level)}).CompressBlock}
}

// lz4GoLevel is the pure Go engine's level for liblz4's: theirs ends at 9.
func lz4GoLevel(level int) lz4.CompressionLevel {
	return lz4.Level1 << (min(level, 9) - 1)
}

// lz4Block writes LZ4 blocks without a frame, as squashfs has them.
type lz4Block struct {
	compress func(src, dst []byte) (int, error)
}

func (b *lz4Block) Compress(dst, src []byte) ([]byte, error) {
	limit := len(src) - 1
	if limit <= 0 {
		return nil, nil
	}
	dst = room(dst, limit)
	n, err := b.compress(src, dst[:limit])
	if n == 0 || errors.Is(err, lz4.ErrInvalidSourceShortBuffer) {
		return nil, nil // it does not fit
	}
	return dst[:n], err
}

func (b *lz4Block) Close() {}

// lz4HCBlock does so with liblz4.
type lz4HCBlock struct {
	lib   *lz4Functions
	level int32
	state []uint64 // liblz4's working memory, 256 KiB
}

func (b *lz4HCBlock) Compress(dst, src []byte) ([]byte, error) {
	limit := len(src) - 1
	if limit <= 0 {
		return nil, nil
	}
	dst = room(dst, limit)
	n := b.lib.compress(unsafe.Pointer(unsafe.SliceData(b.state)), unsafe.Pointer(unsafe.SliceData(src)),
		unsafe.Pointer(unsafe.SliceData(dst)), int32(len(src)), int32(limit), b.level)
	runtime.KeepAlive(src)
	runtime.KeepAlive(dst)
	if n <= 0 {
		return nil, nil // it does not fit
	}
	return dst[:n], nil
}

func (b *lz4HCBlock) Close() {}

// newLZ4Writer writes the legacy frame, the only one that Linux unpacks.
func newLZ4Writer(w io.Writer, level int) (io.WriteCloser, error) {
	z := lz4.NewWriter(w)
	options := []lz4.Option{lz4.LegacyOption(true), lz4.ConcurrencyOption(1)}
	if level > 0 {
		options = append(options, lz4.CompressionLevelOption(lz4GoLevel(level)))
	}
	return z, z.Apply(options...)
}
