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
	z := &xzGoWriter{w: w}
	c := xz.WriterConfig{CheckSum: xz.CRC32, DictCap: s.Dictionary}
	z.Writer, z.err = c.NewWriter(writerFunc(z.write))
	return z, z.err
}

// xzGoWriter is the pure Go engine's stream. The engine does not hand on every
// error of the writer below it.
type xzGoWriter struct {
	*xz.Writer
	w   io.Writer
	err error
}

func (z *xzGoWriter) write(p []byte) (int, error) {
	n, err := z.w.Write(p)
	if z.err == nil {
		z.err = err
	}
	return n, err
}

func (z *xzGoWriter) Close() error {
	if err := z.Writer.Close(); err != nil {
		return err
	}
	return z.err
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

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

// attempt is a way to compress a block.
type attempt struct {
	filter     Filters // one or 0
	lc, lp, pb uint32  // LZMA's literal context, literal position and position bits
	finder     uint32  // liblzma's match finder; 0 for the level's own
}

// The match finders that are binary trees over hashes of 2 to 4 bytes.
const (
	finderBT2 = 0x12
	finderBT3 = 0x13
)

// attempts is the ways to try on a block, of which the shortest result is kept:
// the block's content alone decides.
//
// A branch filter makes calls' relative operands absolute. For x86 it can be
// foreseen on most blocks whether that pays, and so they are compressed once,
// where mksquashfs compresses each with and without the filter. The rest goes by
// what gave the shortest results on blocks of a Linux system: a match finder of 3
// bytes rather than the usual 4, or of 2 in tables of numbers, which are most of
// the blocks that the calls leave undecided. There, a literal often does not
// depend on the one before it either.
func attempts(filters Filters, calls *callTable, src []byte) []attempt {
	with, without := calls.judge(src)
	tries := make([]attempt, 0, 11)
	switch {
	case isText(src): // aligned to no word: the position says nothing
		tries = append(tries, attempt{lc: 4})
	case with && without:
		tries = append(tries, attempt{lc: 3, pb: 2, finder: finderBT2},
			attempt{pb: 2, finder: finderBT2}, attempt{pb: 2, finder: finderBT3})
	case without || filters != X86:
		tries = append(tries, attempt{lc: 3, pb: 2, finder: finderBT3})
	}
	for f := X86; f != 0; f <<= 1 {
		if filters&f != 0 && (f != X86 || with) {
			tries = append(tries, filtered(f))
		}
	}
	return tries
}

// filtered is the attempt with a filter. The parameters suit the alignment of its
// machine code; those other than x86's are mksquashfs's (xz_wrapper.c).
func filtered(f Filters) attempt {
	switch f {
	case X86:
		return attempt{filter: f, lc: 4, pb: 2, finder: finderBT3}
	case ARMThumb, RISCV: // 2 bytes
		return attempt{filter: f, lc: 3, lp: 1, pb: 2}
	case IA64: // 16 bytes
		return attempt{filter: f, lp: 4, pb: 4}
	}
	return attempt{filter: f, lc: 2, lp: 2, pb: 2} // 4 bytes
}

// isText tells whether a block is text nearly throughout.
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

// judge tells whether a block may be shorter with the x86 filter, and without. At
// least one is true. The filter pays if more absolute than relative operands are
// met again. In object files and kernel modules, which are not linked yet, it is
// the other way round.
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
	b.out = limitedBuffer{b: room(dst, len(src)), max: len(src) - 1}
	properties := &lzma.Properties{LC: 3, PB: 2}
	if isText(src) {
		properties = &lzma.Properties{LC: 4}
	}
	c := xz.WriterConfig{
		Properties: properties,
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
