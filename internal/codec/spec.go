package codec

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Algorithm names a compression algorithm as users and squashfs tools do.
type Algorithm string

// The algorithms that are written. None stores everything as it is.
const (
	None Algorithm = "none"
	Gzip Algorithm = "gzip"
	Zstd Algorithm = "zstd"
	XZ   Algorithm = "xz"
	LZ4  Algorithm = "lz4"
)

// Spec is an algorithm with its options. The zero value is not valid; [Parse]
// fills in the defaults.
type Spec struct {
	Algorithm Algorithm
	// Level is 0 for None. LZ4's is 0 for the fast variant, 1 to 12 for the high
	// compression, which takes longer to write and no longer to read.
	Level int
	// Filters that XZ tries on each block of squashfs, in addition to none.
	Filters Filters
	// Dictionary of XZ in bytes; 0 means as large as the block.
	Dictionary int
}

// Filters is a set of XZ's branch filters. The bits are those of the squashfs
// superblock (mksquashfs's xz_wrapper.c).
type Filters uint8

// The filters of xz, which make the targets of calls in machine code absolute,
// so that equal ones look alike. Linux knows ARM64 and RISCV since 6.12.
const (
	X86 Filters = 1 << iota
	PowerPC
	IA64
	ARM
	ARMThumb
	SPARC
	ARM64
	RISCV

	defaultFilters = X86
)

var filterNames = []string{"x86", "powerpc", "ia64", "arm", "armthumb", "sparc", "arm64", "riscv"}

// String is the names with a + between them, or "none".
func (f Filters) String() string {
	var names []string
	for i, name := range filterNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

func parseFilters(s string) (f Filters, err error) {
	if s == "none" {
		return 0, nil
	}
	for name := range strings.SplitSeq(s, "+") {
		i := slices.Index(filterNames, name)
		if i < 0 {
			return 0, fmt.Errorf("unknown filter %q: use none, or some of %s with a + between them", name, strings.Join(filterNames, ", "))
		}
		f |= 1 << i
	}
	return f, nil
}

// limits holds the levels an algorithm takes.
type limits struct{ min, def, max int }

// lz4hc is the level of "lz4:hc", as of mksquashfs -Xhc.
const lz4hc = 12

var levels = map[Algorithm]limits{
	None: {0, 0, 0},
	Gzip: {1, 9, 9},
	Zstd: {1, 19, 22},
	XZ:   {0, 6, 9},
	LZ4:  {0, 0, lz4hc},
}

// Syntax tells what [Parse] reads.
const Syntax = "zstd[:1-22], xz[:0-9], gzip[:1-9], lz4[:hc[:1-12]] or none"

// ErrUnsupported is wrapped by errors about an algorithm that is not built in.
var ErrUnsupported = errors.New("unsupported compression")

// Parse reads an algorithm, its level and, for xz, further options, with colons
// between them: "zstd", "zstd:19", "gzip:9", "lz4", "lz4:hc", "lz4:hc:9", "none",
// "xz", "xz:6", "xz:6:bcj=x86+arm64:dict=512K". xz's bcj is "x86" by default, and may
// be "none".
func Parse(s string) (Spec, error) {
	name, rest, more := strings.Cut(s, ":")
	sp := Spec{Algorithm: Algorithm(name)}
	lim, ok := levels[sp.Algorithm]
	if !ok {
		return Spec{}, fmt.Errorf("%w %q: use %s", ErrUnsupported, s, Syntax)
	}
	sp.Level = lim.def
	if sp.Algorithm == XZ {
		sp.Filters = defaultFilters
	}
	for n := 0; more; n++ {
		var option string
		option, rest, more = strings.Cut(rest, ":")
		if err := sp.set(option, n); err != nil {
			return Spec{}, fmt.Errorf("compression %q: %w", s, err)
		}
	}
	return sp, sp.Validate()
}

// set takes the option in position n, from 0.
func (s *Spec) set(option string, n int) (err error) {
	key, value, _ := strings.Cut(option, "=")
	levelAt := 0
	switch {
	case s.Algorithm == XZ && key == "bcj":
		s.Filters, err = parseFilters(value)
		return err
	case s.Algorithm == XZ && key == "dict":
		s.Dictionary, err = parseBytes(value)
		return err
	case s.Algorithm == LZ4 && n == 0 && option == "hc":
		s.Level = lz4hc
		return nil
	case s.Algorithm == LZ4:
		levelAt = 1 // behind hc
	}
	if n != levelAt || s.Algorithm == None {
		return fmt.Errorf("bad option %q", option)
	}
	s.Level, err = strconv.Atoi(option)
	if err != nil || s.Algorithm == LZ4 && s.Level == 0 {
		return fmt.Errorf("bad level %q", option)
	}
	return nil
}

// parseBytes reads a number of bytes, KiB (K) or MiB (M).
func parseBytes(s string) (int, error) {
	digits, unit := s, 1
	if before, ok := strings.CutSuffix(s, "K"); ok {
		digits, unit = before, 1<<10
	} else if before, ok := strings.CutSuffix(s, "M"); ok {
		digits, unit = before, 1<<20
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n == 0 || n > 1<<30/uint64(unit) {
		return 0, fmt.Errorf("bad size %q", s)
	}
	return int(n) * unit, nil
}

// The dictionaries that squashfs's readers take: mksquashfs allows no smaller one,
// and a block is never larger than the larger one.
const minDictionary, maxDictionary = 8 << 10, MaxBlock

// Validate reports an unknown algorithm or an option outside its range.
func (s Spec) Validate() error {
	lim, ok := levels[s.Algorithm]
	switch {
	case !ok:
		return fmt.Errorf("%w %q: use %s", ErrUnsupported, s.Algorithm, Syntax)
	case s.Level < lim.min || s.Level > lim.max:
		return fmt.Errorf("%s level %d: must be %d to %d", s.Algorithm, s.Level, lim.min, lim.max)
	case s.Algorithm != XZ && (s.Filters != 0 || s.Dictionary != 0):
		return fmt.Errorf("%s: filters and dictionary are options of xz", s.Algorithm)
	case s.Dictionary == 0:
		return nil
	case s.Dictionary < minDictionary || s.Dictionary > maxDictionary || !storable(s.Dictionary):
		return fmt.Errorf("xz dictionary of %d bytes: must be 2^n or 2^n+2^(n+1) from %d to %d", s.Dictionary, minDictionary, maxDictionary)
	}
	return nil
}

// storable tells whether a dictionary's size is 2^n or 2^n+2^(n+1): an xz header
// holds no other.
func storable(size int) bool {
	odd := size >> bits.TrailingZeros(uint(size))
	return odd == 1 || odd == 3
}

// String is the form that [Parse] reads, without the options that are as they
// are by default.
func (s Spec) String() string {
	var b strings.Builder
	b.WriteString(string(s.Algorithm))
	switch s.Algorithm {
	case None:
	case LZ4:
		if s.Level > 0 {
			b.WriteString(":hc")
		}
		if s.Level > 0 && s.Level != lz4hc {
			fmt.Fprintf(&b, ":%d", s.Level)
		}
	default:
		fmt.Fprintf(&b, ":%d", s.Level)
	}
	if s.Algorithm == XZ && s.Filters != defaultFilters {
		fmt.Fprintf(&b, ":bcj=%s", s.Filters)
	}
	if s.Dictionary != 0 {
		fmt.Fprintf(&b, ":dict=%s", formatBytes(s.Dictionary))
	}
	return b.String()
}

func formatBytes(n int) string {
	switch {
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dM", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%dK", n>>10)
	}
	return strconv.Itoa(n)
}
