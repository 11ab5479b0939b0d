package squashfs

import (
	"encoding/binary"
	"fmt"

	"github.com/isopress/isopress/internal/codec"
)

// Compression is an algorithm with its level. The zero value is zstd:19.
type Compression struct{ spec codec.Spec }

// ParseCompression reads an algorithm and a level: "zstd" (19), "zstd:1" to
// "zstd:22", "gzip" (9), "gzip:1" to "gzip:9", or "none".
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
	if c.spec.Algorithm == codec.Zstd {
		return Zstd
	}
	return Gzip
}

// newBlock returns a compressor for blocks of the image, for one goroutine.
func (o *Options) newBlock() (codec.Block, error) {
	return codec.NewBlock(o.Compression.spec)
}

// compressorOptions is the metadata block behind the superblock that tells of a
// level other than the one readers assume, or nothing.
func (p *Plan) compressorOptions() []byte {
	le := binary.LittleEndian
	const zstdDefault, gzipDefault = 15, 9
	var b []byte
	switch level := p.opts.Compression.spec.Level; p.opts.Compression.spec.Algorithm {
	case codec.Zstd:
		if level != zstdDefault {
			b = le.AppendUint16(b, 4|metadataRaw)
			b = le.AppendUint32(b, uint32(level)) // compression_level
		}
	case codec.Gzip:
		if level != gzipDefault {
			b = le.AppendUint16(b, 8|metadataRaw)
			b = le.AppendUint32(b, uint32(level)) // compression_level
			b = le.AppendUint16(b, 15)            // window_size, as a power of two
			b = le.AppendUint16(b, 0)             // strategy
		}
	}
	return b
}
