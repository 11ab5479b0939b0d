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

// lz4Functions is the part of liblz4's interface (lz4.h, lz4hc.h) that is used. Its
// high compression finds the shortest code, which no pure Go engine does; its fast
// one finds the same code as ours, a little sooner.
type lz4Functions struct {
	version  func() string
	fast, hc lz4Algorithm
}

// lz4Algorithm compresses with a state, of that size in bytes. The last argument of
// compress is the acceleration (fast) or the level (hc).
type lz4Algorithm struct {
	size     func() int32
	compress func(state, src, dst unsafe.Pointer, srcSize, dstSize, parameter int32) int32
}

var liblz4 = sync.OnceValues(func() (*lz4Functions, error) {
	names := lz4Names[runtime.GOOS]
	if lz4Path != "" {
		names = []string{lz4Path}
	}
	l := &lz4Functions{}
	_, err := openLibrary(names, map[string]any{
		"LZ4_versionString":          &l.version,
		"LZ4_sizeofState":            &l.fast.size,
		"LZ4_compress_fast_extState": &l.fast.compress,
		"LZ4_sizeofStateHC":          &l.hc.size,
		"LZ4_compress_HC_extStateHC": &l.hc.compress,
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
	if lib, err := liblz4(); err == nil {
		algorithm, parameter := &lib.hc, level
		if level == 0 {
			algorithm, parameter = &lib.fast, 1
		}
		return &lz4LibBlock{algorithm: algorithm, parameter: int32(parameter), state: make([]uint64, (algorithm.size()+7)/8)}
	}
	if level == 0 {
		return &lz4Block{compress: new(lz4.CompressorCCompat).CompressBlock}
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

// lz4LibBlock does so with liblz4.
type lz4LibBlock struct {
	algorithm *lz4Algorithm
	parameter int32
	state     []uint64 // liblz4's working memory: 16 KiB, or 256 KiB for hc
}

func (b *lz4LibBlock) Compress(dst, src []byte) ([]byte, error) {
	limit := len(src) - 1
	if limit <= 0 {
		return nil, nil
	}
	dst = room(dst, limit)
	n := b.algorithm.compress(unsafe.Pointer(unsafe.SliceData(b.state)), unsafe.Pointer(unsafe.SliceData(src)),
		unsafe.Pointer(unsafe.SliceData(dst)), int32(len(src)), int32(limit), b.parameter)
	runtime.KeepAlive(src)
	runtime.KeepAlive(dst)
	if n <= 0 {
		return nil, nil // it does not fit
	}
	return dst[:n], nil
}

func (b *lz4LibBlock) Close() {}

// newLZ4Writer writes the legacy frame, the only one that Linux unpacks.
func newLZ4Writer(w io.Writer, level int) (io.WriteCloser, error) {
	z := lz4.NewWriter(w)
	options := []lz4.Option{lz4.LegacyOption(true), lz4.ConcurrencyOption(1)}
	if level > 0 {
		options = append(options, lz4.CompressionLevelOption(lz4GoLevel(level)))
	}
	return z, z.Apply(options...)
}
