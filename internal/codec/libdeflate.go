package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// deflatePath, where the linker sets it (-X), is the only libdeflate that is tried.
var deflatePath string

var deflateNames = map[string][]string{
	"linux":  {"libdeflate.so.0"},
	"darwin": {"/opt/homebrew/lib/libdeflate.0.dylib", "/usr/local/lib/libdeflate.0.dylib"},
}

// deflateFunctions is the part of libdeflate's interface (libdeflate.h) that is used.
type deflateFunctions struct {
	alloc    func(level int32) uintptr
	compress func(compressor uintptr, in unsafe.Pointer, inSize uintptr, out unsafe.Pointer, outSize uintptr) uintptr
	free     func(compressor uintptr)

	name string // of the library, with what tells its encoder from other versions'
}

var libdeflate = sync.OnceValues(func() (*deflateFunctions, error) {
	names := deflateNames[runtime.GOOS]
	if deflatePath != "" {
		names = []string{deflatePath}
	}
	l := &deflateFunctions{}
	_, err := openLibrary(names, map[string]any{
		"libdeflate_alloc_compressor": &l.alloc,
		"libdeflate_zlib_compress":    &l.compress,
		"libdeflate_free_compressor":  &l.free,
	})
	if err == nil {
		err = l.identify()
	}
	if err != nil {
		return nil, fmt.Errorf("libdeflate: %w", err)
	}
	return l, nil
})

// identify names the library. It has no function that tells its version, but what
// matters here is what its encoder writes: so it is known by a hash of that.
func (l *deflateFunctions) identify() error {
	h := sha256.New()
	for level := 1; level <= 9; level++ {
		b, err := newDeflateBlock(l, level)
		if err != nil {
			return err
		}
		probe := deflateProbe()
		out, err := b.Compress(make([]byte, 0, len(probe)), probe)
		b.Close()
		if err != nil {
			return err
		}
		h.Write(out)
	}
	l.name = fmt.Sprintf("libdeflate (encoder %x)", h.Sum(nil)[:6])
	return nil
}

// deflateProbe is a text of words in no regular order.
func deflateProbe() []byte {
	var b bytes.Buffer
	x := uint32(1)
	for b.Len() < 64<<10 {
		x = x*1664525 + 1013904223
		fmt.Fprintf(&b, "%d %x ", x>>21, x>>15&0xff)
	}
	return b.Bytes()
}

// deflateLevels are libdeflate's levels, 1 to 12, for zlib's: each is both
// smaller and faster than the zlib level that it stands for.
var deflateLevels = [10]int32{1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 8: 10, 9: 12}

// deflateBlock writes zlib streams with libdeflate.
type deflateBlock struct {
	lib        *deflateFunctions
	compressor uintptr
}

func newDeflateBlock(lib *deflateFunctions, level int) (*deflateBlock, error) {
	b := &deflateBlock{lib, lib.alloc(deflateLevels[level])}
	if b.compressor == 0 {
		return nil, errors.New("gzip: libdeflate: out of memory")
	}
	return b, nil
}

func (b *deflateBlock) Compress(dst, src []byte) ([]byte, error) {
	limit := len(src) - 1
	if limit <= 0 {
		return nil, nil
	}
	dst = room(dst, limit)
	n := b.lib.compress(b.compressor, unsafe.Pointer(unsafe.SliceData(src)), uintptr(len(src)),
		unsafe.Pointer(unsafe.SliceData(dst)), uintptr(limit))
	runtime.KeepAlive(src)
	runtime.KeepAlive(dst)
	if n == 0 {
		return nil, nil // it does not fit
	}
	return dst[:n], nil
}

func (b *deflateBlock) Close() {
	if b.compressor != 0 {
		b.lib.free(b.compressor)
		b.compressor = 0
	}
}
