package squashfs

import (
	"encoding/binary"
	"fmt"

	"github.com/isopress/isopress/internal/codec"
)

// Compression is an algorithm with its options. The zero value is zstd:19.
type Compression struct{ spec codec.Spec }

// ParseCompression reads an algorithm, its level and its options, with colons
// between them:
//
//   - zstd (that is zstd:19), zstd:1 to zstd:22
//   - xz (xz:6), xz:0 to xz:9. Behind the level, bcj=FILTERS says which branch
//     filters are tried on each block: none, or some of x86, arm, armthumb,
//     arm64, powerpc, sparc, ia64 and riscv with a + between them; x86 is the
//     default, and Linux knows arm64 and riscv since 6.12. dict=SIZE makes the
//     dictionary smaller than the block: xz:6:bcj=x86+arm64:dict=512K
//   - gzip (gzip:9), gzip:1 to gzip:9
//   - lz4, lz4:hc (lz4:hc:12), lz4:hc:1 to lz4:hc:12
//   - none
func ParseCompression(s string) (Compression, error) {
	spec, err := codec.Parse(s)
	if err != nil {
		return Compression{}, fmt.Errorf("squashfs: %w", err)
	}
	return Compression{spec}, nil
}

// String is the form that [ParseCompression] reads.
func (c Compression) String() string { return c.withDefault().spec.String() }

func (c Compression) withDefault() Compression {
	if c == (Compression{}) {
		c.spec, _ = codec.Parse(string(codec.Zstd))
	}
	return c
}

// algorithm is the number in the superblock. It has none for "stored as it is":
// mksquashfs says gzip there, and so do we.
func (c Compression) algorithm() Algorithm {
	switch c.spec.Algorithm {
	case codec.Zstd:
		return Zstd
	case codec.XZ:
		return XZ
	case codec.LZ4:
		return LZ4
	}
	return Gzip
}

// check tells what of the options does not suit the block size.
func (c Compression) check(blockSize int) error {
	if c.spec.Dictionary > blockSize {
		return fmt.Errorf("squashfs: compression %s: the dictionary is larger than a block, %d bytes", c, blockSize)
	}
	return nil
}

// newBlock returns a compressor for blocks of the image, for one goroutine.
func (o *Options) newBlock() (codec.Block, error) {
	return codec.NewBlock(o.Compression.spec, o.BlockSize)
}

// compressorOptions is the metadata block behind the superblock that tells of
// options other than those readers assume, or nothing.
func (p *Plan) compressorOptions() []byte {
	b := p.opts.Compression.options(p.opts.BlockSize)
	if len(b) == 0 {
		return nil
	}
	return append(binary.LittleEndian.AppendUint16(nil, uint16(len(b))|metadataRaw), b...)
}

// options are laid out as mksquashfs does (its *_wrapper.h). The kernel needs
// those of LZ4, and a dictionary of XZ that is not the block size.
func (c Compression) options(blockSize int) (b []byte) {
	le := binary.LittleEndian
	const zstdDefault, gzipDefault = 15, 9
	const lz4Legacy, lz4HC = 1, 1
	level := c.spec.Level
	switch c.spec.Algorithm {
	case codec.Zstd:
		if level != zstdDefault {
			b = le.AppendUint32(b, uint32(level)) // compression_level
		}
	case codec.Gzip:
		if level != gzipDefault {
			b = le.AppendUint32(b, uint32(level)) // compression_level
			b = le.AppendUint16(b, 15)            // window_size, as a power of two
			b = le.AppendUint16(b, 0)             // strategy
		}
	case codec.XZ:
		dictionary := max(blockSize, metadataSize) // the kernel sizes its one decoder for both by it
		if c.spec.Dictionary != 0 {
			dictionary = c.spec.Dictionary
		}
		if dictionary != blockSize || c.spec.Filters != 0 {
			b = le.AppendUint32(b, uint32(dictionary))     // dictionary_size
			b = le.AppendUint32(b, uint32(c.spec.Filters)) // flags
		}
	case codec.LZ4:
		flags := uint32(0)
		if level > 0 {
			flags = lz4HC
		}
		b = le.AppendUint32(b, lz4Legacy) // version
		b = le.AppendUint32(b, flags)     // flags
	}
	return b
}

// DefaultOrder is what [OrderDefault] stands for: with a compression that is
// chosen for speed, a reader's time counts for more than size.
func (c Compression) DefaultOrder() Order {
	c = c.withDefault()
	switch {
	case c.spec.Algorithm == codec.LZ4, c.spec.Algorithm == codec.None,
		c.spec.Algorithm == codec.Zstd && c.spec.Level < 3:
		return OrderDirectory
	}
	return OrderSimilar
}
