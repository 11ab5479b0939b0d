package codec

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// lzmaPath, where the linker sets it (-X), is the only liblzma that is tried: for
// packages that know where theirs lies.
var lzmaPath string

var lzmaNames = map[string][]string{
	"linux":  {"liblzma.so.5"},
	"darwin": {"/usr/lib/liblzma.5.dylib", "/opt/homebrew/lib/liblzma.5.dylib", "/usr/local/lib/liblzma.5.dylib"},
}

// The part of liblzma's interface (lzma/*.h, unchanged since 5.0) that is used.
type lzmaFunctions struct {
	version   func() string
	supported func(filter uint64) uint8
	preset    func(options unsafe.Pointer, preset uint32) uint8
	encode    func(filters unsafe.Pointer, check int32, allocator uintptr, in unsafe.Pointer, inSize uintptr, out, outPos unsafe.Pointer, outSize uintptr) int32
	encoder   func(stream, filters unsafe.Pointer, check int32) int32
	code      func(stream unsafe.Pointer, action int32) int32
	end       func(stream unsafe.Pointer)
}

// liblzma loads the library once.
var liblzma = sync.OnceValues(func() (*lzmaFunctions, error) {
	names := lzmaNames[runtime.GOOS]
	if lzmaPath != "" {
		names = []string{lzmaPath}
	}
	l := &lzmaFunctions{}
	_, err := openLibrary(names, map[string]any{
		"lzma_version_string":              &l.version,
		"lzma_filter_encoder_is_supported": &l.supported,
		"lzma_lzma_preset":                 &l.preset,
		"lzma_stream_buffer_encode":        &l.encode,
		"lzma_stream_encoder":              &l.encoder,
		"lzma_code":                        &l.code,
		"lzma_end":                         &l.end,
	})
	if err != nil {
		return nil, fmt.Errorf("liblzma: %w", err)
	}
	return l, nil
})

// lzmaFilter is lzma_filter. Pointers are kept as numbers, since what they point
// to is liblzma's to read and lies in memory that is pinned.
type lzmaFilter struct {
	id      uint64
	options uintptr
}

// lzmaOptions is lzma_options_lzma of 64-bit machines, with room to spare.
type lzmaOptions struct {
	dictSize       uint32
	_              uint32
	presetDict     uintptr
	presetDictSize uint32
	lc, lp, pb     uint32
	mode           uint32
	niceLen        uint32
	mf             uint32
	depth          uint32
	_              [128]byte
}

// lzmaStream is lzma_stream.
type lzmaStream struct {
	nextIn   uintptr
	availIn  uintptr
	totalIn  uint64
	nextOut  uintptr
	availOut uintptr
	totalOut uint64
	_        [128]byte // allocator, internal state and reserved fields: zero at the start
}

// lzma_ret, lzma_check, lzma_action and filter ids.
const (
	lzmaOK        = 0
	lzmaStreamEnd = 1
	lzmaBufError  = 10

	lzmaCheckCRC32 = 1

	lzmaRun    = 0
	lzmaFinish = 3

	firstTreeLevel = 4 // levels below it have hash chains for a match finder

	lzmaFilterLZMA2 = 0x21
	lzmaFilterEnd   = 1<<64 - 1
)

var lzmaFilterIDs = map[Filters]uint64{
	X86: 4, PowerPC: 5, IA64: 6, ARM: 7, ARMThumb: 8, SPARC: 9, ARM64: 0xa, RISCV: 0xb,
}

// lzmaError puts lzma_ret into words.
func lzmaError(ret int32) error {
	names := map[int32]string{5: "out of memory", 6: "over the memory limit", 8: "unsupported options", 9: "data error", 11: "wrong use"}
	if name, ok := names[ret]; ok {
		return fmt.Errorf("xz: liblzma: %s", name)
	}
	return fmt.Errorf("xz: liblzma: error %d", ret)
}

// lzmaBlock compresses blocks with liblzma. It lies on the heap and pinned,
// since its filters point to its options.
type lzmaBlock struct {
	lib     *lzmaFunctions
	spec    Spec
	dict    int
	filters [3]lzmaFilter
	options lzmaOptions
	outPos  uintptr
	pinner  runtime.Pinner
	other   []byte    // a second attempt
	calls   callTable // for the x86 filter
}

func newLZMABlock(lib *lzmaFunctions, s Spec, blockSize int) (*lzmaBlock, error) {
	for f := X86; f != 0; f <<= 1 {
		if s.Filters&f != 0 && lib.supported(lzmaFilterIDs[f]) == 0 {
			return nil, fmt.Errorf("%w: liblzma %s has no xz filter %s", ErrUnsupported, lib.version(), f)
		}
	}
	b := &lzmaBlock{lib: lib, spec: s, dict: dictionary(s, blockSize)}
	b.pinner.Pin(b)
	return b, nil
}

func (b *lzmaBlock) Close() { b.pinner.Unpin() }

// Compress keeps the shortest of the attempts, the first of equal ones.
func (b *lzmaBlock) Compress(dst, src []byte) ([]byte, error) {
	var best []byte
	limit := len(src) - 1
	memory, next := [2][]byte{dst, b.other}, 0 // next: where the best attempt is not
	for _, a := range attempts(b.spec.Filters, &b.calls, src) {
		memory[next] = room(memory[next], limit)
		n, err := b.encode(memory[next], src, limit, a)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			best, limit = memory[next][:n], n-1
			next = 1 - next
		}
	}
	b.other = memory[1]
	if best != nil && next == 0 {
		best = append(memory[0], best...)
	}
	return best, nil
}

// encode writes an xz stream of one block into dst's capacity, and returns its
// length, or 0 if that is more than the limit.
func (b *lzmaBlock) encode(dst, src []byte, limit int, a attempt) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	if b.lib.preset(unsafe.Pointer(&b.options), uint32(b.spec.Level)) != 0 {
		return 0, lzmaError(8)
	}
	b.options.lc, b.options.lp, b.options.pb = a.lc, a.lp, a.pb
	if a.finder != 0 && b.spec.Level >= firstTreeLevel {
		b.options.mf = a.finder
	}
	b.options.dictSize = uint32(min(b.dict, storableFrom(len(src))))
	b.chain(a.filter)
	b.outPos = 0
	ret := b.lib.encode(unsafe.Pointer(&b.filters), lzmaCheckCRC32, 0,
		unsafe.Pointer(unsafe.SliceData(src)), uintptr(len(src)),
		unsafe.Pointer(unsafe.SliceData(dst)), unsafe.Pointer(&b.outPos), uintptr(limit))
	runtime.KeepAlive(src)
	runtime.KeepAlive(dst)
	switch ret {
	case lzmaOK:
		return int(b.outPos), nil
	case lzmaBufError:
		return 0, nil
	}
	return 0, lzmaError(ret)
}

// chain sets the filters to f, if it is one, and LZMA2.
func (b *lzmaBlock) chain(f Filters) {
	n := 0
	if f != 0 {
		b.filters[n] = lzmaFilter{id: lzmaFilterIDs[f]}
		n++
	}
	b.filters[n] = lzmaFilter{lzmaFilterLZMA2, uintptr(unsafe.Pointer(&b.options))}
	b.filters[n+1] = lzmaFilter{id: lzmaFilterEnd}
}
