package squashfs

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// CompressorOptions is what an image records of how its blocks were compressed.
// Writers record options that differ from their defaults; what is not recorded
// is zero here, and so is what the format does not allow, for it makes no
// difference to reading.
type CompressorOptions struct {
	// Level is gzip's (1 to 9), zstd's (1 to 22), lzo1x_999's (1 to 9) or lz4
	// hc's (1 to 12).
	Level int
	// WindowSize is gzip's window, in bytes.
	WindowSize int
	// Strategies are those of gzip that were tried for each block, separated by
	// commas, as mksquashfs -Xstrategy takes them.
	Strategies string
	// DictionarySize is xz's, in bytes.
	DictionarySize int
	// Filters are those of xz that were tried for each block, separated by
	// commas, as mksquashfs -Xbcj takes them.
	Filters string
	// HC says that the slower compressor was used, of lz4's two.
	HC bool
	// Acceleration is that of lz4's faster compressor.
	Acceleration int
	// Variant is lzo's algorithm, as mksquashfs -Xalgorithm takes it.
	Variant string
}

// Names of the bits and numbers in the options, as mksquashfs's *_wrapper.c have
// them.
var (
	gzipStrategies = []string{"default", "filtered", "huffman_only", "run_length_encoded", "fixed"}
	xzFilters      = []string{"x86", "powerpc", "ia64", "arm", "armthumb", "sparc", "arm64", "riscv"}
	lzoVariants    = []string{"lzo1x_1", "lzo1x_1_11", "lzo1x_1_12", "lzo1x_1_15", "lzo1x_999"}
)

// The flags of lz4's options; its one format so far is number 1.
const (
	lz4Legacy     = 1 // LZ4_LEGACY
	lz4HC         = 1 << 0
	lz4NonDefault = 1 << 1 // a level or acceleration follows
)

// optionSizes is how long the options of each algorithm are, at least.
var optionSizes = map[Algorithm]int{Gzip: 8, LZO: 8, XZ: 8, LZ4: 8, Zstd: 4}

// readOptions reads the compressor's options, which are in one metadata block
// after the superblock.
func (r *Reader) readOptions() error {
	if r.sb.flags&flagCompressorOptions == 0 {
		return nil
	}
	m, err := r.metadata(superblockSize, r.sb.inodeTable)
	if err == nil {
		r.info.Options, err = decodeOptions(r.sb.algorithm, m.data)
	}
	if err != nil {
		return fmt.Errorf("compressor options: %w", err)
	}
	return nil
}

// decodeOptions reads the struct comp_opts of an algorithm. It refuses what the
// kernel does, which looks only at those of xz and lz4.
func decodeOptions(a Algorithm, b []byte) (o CompressorOptions, err error) {
	if len(b) < optionSizes[a] {
		if a == XZ || a == LZ4 {
			err = fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
		}
		return o, err
	}
	le := binary.LittleEndian
	switch a {
	case Gzip:
		o.Level = inRange(le.Uint32(b), 1, 9) // compression_level
		if log := inRange(uint32(le.Uint16(b[4:])), 8, 15); log != 0 {
			o.WindowSize = 1 << log // window_size
		}
		o.Strategies = bitNames(uint32(le.Uint16(b[6:])), gzipStrategies) // strategy
	case Zstd:
		o.Level = inRange(le.Uint32(b), 1, 22) // compression_level
	case LZO:
		if i := le.Uint32(b); i < uint32(len(lzoVariants)) {
			o.Variant = lzoVariants[i] // algorithm
		}
		o.Level = inRange(le.Uint32(b[4:]), 1, 9) // compression_level
	case XZ:
		return decodeXZOptions(b)
	case LZ4:
		return decodeLZ4Options(b)
	}
	return o, nil
}

func decodeXZOptions(b []byte) (o CompressorOptions, err error) {
	size := binary.LittleEndian.Uint32(b) // dictionary_size
	// 2^n or 2^n + 2^(n+1)
	if n := bits.TrailingZeros32(size); size != 1<<n && size != 3<<n || size == 0 {
		return o, fmt.Errorf("%w: dictionary of %d bytes", ErrCorrupt, size)
	}
	if size > MaxBlockSize {
		return o, fmt.Errorf("%w: dictionary of %d bytes, over the largest block", ErrUnsupported, size)
	}
	o.DictionarySize = int(size)
	o.Filters = bitNames(binary.LittleEndian.Uint32(b[4:]), xzFilters) // flags
	return o, nil
}

func decodeLZ4Options(b []byte) (o CompressorOptions, err error) {
	le := binary.LittleEndian
	version, flags := le.Uint32(b), le.Uint32(b[4:])
	if version != lz4Legacy {
		return o, fmt.Errorf("%w: lz4 format %d", ErrUnsupported, version)
	}
	o.HC = flags&lz4HC != 0
	switch {
	case flags&lz4NonDefault == 0 || len(b) < 12:
	case o.HC:
		o.Level = inRange(le.Uint32(b[8:]), 1, 12) // data
	default:
		o.Acceleration = inRange(le.Uint32(b[8:]), 1, 65537) // data
	}
	return o, nil
}

// inRange is v, or 0 where it is out of range.
func inRange(v, least, most uint32) int {
	if v < least || v > most {
		return 0
	}
	return int(v)
}

// bitNames are the names of the bits that are set, separated by commas; bits
// without a name are left out.
func bitNames(set uint32, names []string) string {
	var list []string
	for i, name := range names {
		if set>>i&1 != 0 {
			list = append(list, name)
		}
	}
	return strings.Join(list, ",")
}
