// Package codec is the one door to the compression engines.
//
// A [Spec] names an algorithm with its options. [NewBlock] gives a block
// compressor for squashfs, [NewWriter] a stream compressor for the initrd,
// [NewDecoder] the block decoder of the squashfs reader. [Engine] says which
// library, in which version, does it; the manifest records it, since an image's
// bytes depend on it.
//
// Some engines are libraries of the system, loaded when they are first wanted:
// liblzma, libdeflate and liblz4. A build without cgo or with the tag isopress_static
// loads none and can be linked statically. It uses the pure Go engines, as does a
// machine without the libraries; [Warning] says what that costs.
package codec

import (
	"io"
	"strings"
)

// Block compresses one block at a time, each into a stream of its own. It is
// used by one goroutine.
type Block interface {
	// Compress returns src compressed, in dst's memory where it fits, or nil
	// where the result would not be smaller than src. The result depends on src
	// alone, not on the blocks before it.
	Compress(dst, src []byte) ([]byte, error)
	// Close frees what the engine holds.
	Close()
}

// NewBlock returns a compressor for blocks of up to blockSize bytes.
func NewBlock(s Spec, blockSize int) (Block, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b, err := newBlock(s, blockSize)
	if err == nil && isSlow(s) {
		return withDense(b, blockSize)
	}
	return b, err
}

// slowZstd is the level from which on libzstd takes long for data that does not
// compress.
const slowZstd = 13

// isSlow tells whether blocks are looked at before the engine gets them: see [withDense].
func isSlow(s Spec) bool { return s.Algorithm == XZ || s.Algorithm == Zstd && s.Level >= slowZstd }

func newBlock(s Spec, blockSize int) (Block, error) {
	switch s.Algorithm {
	case Gzip:
		return newZlibBlock(s.Level)
	case Zstd:
		return newZstdBlock(s.Level)
	case XZ:
		return newXZBlock(s, blockSize)
	case LZ4:
		return newLZ4Block(s.Level), nil
	}
	return noneBlock{}, nil
}

// Bound is the capacity of Compress's dst, for n bytes of src, with which no
// engine allocates another.
func Bound(n int) int { return n + n/128 + 1024 }

// room is dst's memory, or other where it has less than n bytes.
func room(dst []byte, n int) []byte {
	if cap(dst) < n {
		return make([]byte, 0, n)
	}
	return dst[:0]
}

type noneBlock struct{}

func (noneBlock) Compress(_, _ []byte) ([]byte, error) { return nil, nil }
func (noneBlock) Close()                               {}

// NewWriter returns a stream compressor onto w, in the forms that Linux unpacks
// an initramfs from: gzip with an empty header, one zstd frame, xz with a CRC32,
// or lz4's legacy frame. Closing it does not close w.
func NewWriter(w io.Writer, s Spec) (io.WriteCloser, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	switch s.Algorithm {
	case Gzip:
		return newGzipWriter(w, s.Level)
	case Zstd:
		return newZstdWriter(w, s.Level)
	case XZ:
		return newXZWriter(w, s)
	case LZ4:
		return newLZ4Writer(w, s.Level)
	}
	return nopCloser{w}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Warning says what [NewBlock]'s engines, of this build on this machine, cannot
// reach of s, or "".
func Warning(s Spec) string {
	switch s.Algorithm {
	case Gzip:
		return gzipWarning()
	case LZ4:
		return lz4Warning(s.Level)
	}
	return WriterWarning(s)
}

// WriterWarning is [Warning] for [NewWriter].
func WriterWarning(s Spec) string {
	switch s.Algorithm {
	case Zstd:
		return zstdWarning(s.Level)
	case XZ:
		return xzWarning()
	}
	return ""
}

// Engine names the libraries and versions with which [NewBlock] compresses, and
// decides which blocks of 64 KiB or more are stored raw; "" for None. The bytes
// depend on them.
func Engine(s Spec) string {
	name := blockEngine(s)
	if judge := moduleVersion(klauspostModule); isSlow(s) && !strings.HasPrefix(name, judge) {
		name += ", raw blocks by " + judge
	}
	return name
}

// blockEngine is what compresses.
func blockEngine(s Spec) string {
	switch s.Algorithm {
	case Gzip:
		if lib, err := libdeflate(); err == nil {
			return lib.name
		}
	case LZ4:
		if lib, err := liblz4(); err == nil {
			return "liblz4 " + lib.version()
		}
	}
	return WriterEngine(s)
}

// WriterEngine is [Engine] for [NewWriter].
func WriterEngine(s Spec) string {
	switch s.Algorithm {
	case Gzip:
		return moduleVersion(klauspostModule) + ", pure Go"
	case Zstd:
		return zstdEngine()
	case XZ:
		return xzEngine()
	case LZ4:
		return moduleVersion(lz4Module) + ", pure Go"
	}
	return ""
}

// Engines names the engines of this build on this machine, by what they are used
// for. It loads the system's libraries.
func Engines() map[string]string {
	gzip, hc := Spec{Algorithm: Gzip}, Spec{Algorithm: LZ4, Level: lz4hc}
	return map[string]string{
		"gzip":        Engine(gzip),
		"gzip initrd": WriterEngine(gzip),
		"lz4":         Engine(Spec{Algorithm: LZ4}),
		"lz4:hc":      Engine(hc),
		"raw blocks":  moduleVersion(klauspostModule) + ", for xz and for zstd from 13 on",
		"xz":          xzEngine(),
		"zstd":        zstdEngine(),
	}
}
