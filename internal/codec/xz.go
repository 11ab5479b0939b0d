package codec

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

const ulikunitzModule = "github.com/ulikunitz/xz"

func xzEngine() string {
	lib, err := liblzma()
	if err != nil {
		return moduleVersion(ulikunitzModule) + ", pure Go"
	}
	return "liblzma " + lib.version()
}

func xzWarning() string {
	_, err := liblzma()
	if err == nil {
		return ""
	}
	return fmt.Sprintf("xz: the pure Go engine is used, whose results are a fifth larger than liblzma's, without BCJ filters, at any level alike (%v)", err)
}

func newXZBlock(s Spec, blockSize int) (Block, error) {
	if s.Dictionary > blockSize {
		return nil, fmt.Errorf("xz dictionary of %d bytes: larger than the block, %d bytes", s.Dictionary, blockSize)
	}
	if lib, err := liblzma(); err == nil {
		return newLZMABlock(lib, s, blockSize)
	}
	return &xzGoBlock{dict: dictionary(s, blockSize)}, nil
}

func newXZWriter(w io.Writer, s Spec) (io.WriteCloser, error) {
	if lib, err := liblzma(); err == nil {
		return newLZMAWriter(lib, w, s)
	}
	return xz.WriterConfig{CheckSum: xz.CRC32, DictCap: s.Dictionary, Matcher: lzma.HashTable4}.NewWriter(w)
}

// minLZMADictionary is the smallest dictionary that LZMA knows.
const minLZMADictionary = 4 << 10

// dictionary is the largest that a block may ask for: that of the superblock's
// options, from which the kernel allocates.
func dictionary(s Spec, blockSize int) int {
	if s.Dictionary != 0 {
		return s.Dictionary
	}
	return max(blockSize, minDictionary)
}

// storableFrom is the smallest dictionary that holds n bytes. One that is no
// larger than the block saves the encoder memory and the time to clear it.
func storableFrom(n int) int {
	if n <= minLZMADictionary {
		return minLZMADictionary
	}
	p := 1 << bits.Len(uint(n-1)) // the next power of two
	if n <= p/4*3 {
		return p / 4 * 3
	}
	return p
}

// lzmaParameters are LZMA's literal context bits, literal position bits and
// position bits.
type lzmaParameters struct{ lc, lp, pb uint32 }

// parameters suit the content of a block and the filter that it went through.
// Those for machine code that is aligned are mksquashfs's (xz_wrapper.c).
func parameters(f Filters, src []byte) lzmaParameters {
	switch f {
	case X86:
		return lzmaParameters{4, 0, 2}
	case ARMThumb, RISCV: // 2 bytes
		return lzmaParameters{3, 1, 2}
	case PowerPC, ARM, SPARC, ARM64: // 4 bytes
		return lzmaParameters{2, 2, 2}
	case IA64: // 16 bytes
		return lzmaParameters{0, 4, 4}
	}
	if isText(src) {
		return lzmaParameters{4, 0, 0}
	}
	return lzmaParameters{3, 0, 2}
}

// isText tells whether a block is text nearly throughout. What is aligned to no
// word is coded best without regard to the position.
func isText(src []byte) bool {
	other := 0
	for _, c := range src {
		if c < ' ' && c != '\n' && c != '\t' {
			other++
		}
	}
	return other <= len(src)/64
}

// callTable remembers the operands of calls, by their hash.
type callTable struct{ relative, absolute [1 << 14]uint32 }

// attempts is which filters to try on a block, 0 for none: the block's content
// alone decides.
//
// A filter makes calls' relative operands absolute. For x86 it can be foreseen
// whether that pays, and so most blocks are compressed once, where mksquashfs
// compresses each with and without the filter: it pays if more absolute than
// relative operands are met again. In object files and kernel modules, not linked
// yet, it is the other way round; in other data neither is.
func attempts(filters Filters, calls *callTable, src []byte) []Filters {
	tries := make([]Filters, 0, 9)
	with, without := true, true
	if filters&X86 != 0 {
		with, without = calls.judge(src)
	}
	if without || filters != X86 {
		tries = append(tries, 0)
	}
	for f := X86; f != 0; f <<= 1 {
		if filters&f != 0 && (f != X86 || with) {
			tries = append(tries, f)
		}
	}
	return tries
}

// judge tells whether a block may be shorter with the x86 filter, and without.
// At least one is true.
func (t *callTable) judge(src []byte) (with, without bool) {
	clear(t.relative[:])
	clear(t.absolute[:])
	calls, gain := 0, 0
	for i := 0; i+5 <= len(src); i++ {
		// E8 is a call, E9 a jump. As the filter does, take the operand for one
		// only if it leads less than 16 MiB away.
		if src[i]&0xfe != 0xe8 || src[i+4]+1 > 1 {
			continue
		}
		operand := binary.LittleEndian.Uint32(src[i+1:])
		calls++
		if seen(&t.absolute, operand+uint32(i)+5) {
			gain++
		}
		if seen(&t.relative, operand) {
			gain--
		}
		i += 4
	}
	// Where the difference is under 2 in 5 of the calls, both are tried.
	return calls > 0 && 5*gain > -2*calls, 5*gain < 2*calls || calls == 0
}

// seen tells whether v was the last of its hash, and notes it.
func seen(table *[1 << 14]uint32, v uint32) bool {
	v = v&0x1ffffff | 1<<31 // 0 is an empty place
	p := &table[v*2654435761>>18]
	was := *p == v
	*p = v
	return was
}

// xzGoBlock compresses with the pure Go engine.
type xzGoBlock struct {
	dict int
	out  limitedBuffer
}

func (b *xzGoBlock) Compress(dst, src []byte) ([]byte, error) {
	b.out = limitedBuffer{b: dst[:0], max: len(src) - 1}
	p := parameters(0, src)
	c := xz.WriterConfig{
		Properties: &lzma.Properties{LC: int(p.lc), LP: int(p.lp), PB: int(p.pb)},
		DictCap:    min(b.dict, storableFrom(len(src))),
		CheckSum:   xz.CRC32,
	}
	w, err := c.NewWriter(&b.out)
	if err == nil {
		_, err = w.Write(src)
	}
	if err == nil {
		err = w.Close()
	}
	return b.out.result(err)
}

func (b *xzGoBlock) Close() {}
