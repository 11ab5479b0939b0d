// Package codec is the one door to the compression engines.
//
// A [Spec] names an algorithm and a level. [NewBlock] gives a block compressor
// for squashfs, [NewWriter] a stream compressor for the initrd, [NewDecoder] the
// block decoder of the squashfs reader. [Engines] says which library, in which
// version, does each; the manifest records it, since an image's bytes depend on it.
package codec

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Algorithm names a compression algorithm as users and squashfs tools do.
type Algorithm string

// The algorithms known here. None stores everything as it is.
const (
	None Algorithm = "none"
	Gzip Algorithm = "gzip"
	Zstd Algorithm = "zstd"
)

// Spec is an algorithm with its level. The zero value is not valid; [Parse] and
// [Spec.Validate] fill in and check the level.
type Spec struct {
	Algorithm Algorithm
	Level     int // 0 for None
}

// limits holds the levels an algorithm takes.
type limits struct{ min, def, max int }

var levels = map[Algorithm]limits{
	None: {0, 0, 0},
	Gzip: {1, 9, 9},
	Zstd: {1, 19, 22},
}

// ErrUnsupported is wrapped by errors about an algorithm that is not built in.
var ErrUnsupported = errors.New("unsupported compression")

// Parse reads "zstd:19", "zstd", "gzip:9", "none" and the like.
func Parse(s string) (Spec, error) {
	name, level, hasLevel := strings.Cut(s, ":")
	sp := Spec{Algorithm: Algorithm(name)}
	lim, ok := levels[sp.Algorithm]
	if !ok {
		return Spec{}, fmt.Errorf("%w %q: use zstd[:1-22], gzip[:1-9] or none", ErrUnsupported, s)
	}
	if !hasLevel {
		sp.Level = lim.def
		return sp, nil
	}
	n, err := strconv.Atoi(level)
	if err != nil || lim.max == 0 {
		return Spec{}, fmt.Errorf("compression %q: bad level %q", s, level)
	}
	sp.Level = n
	return sp, sp.Validate()
}

// Validate reports an unknown algorithm or a level outside its range.
func (s Spec) Validate() error {
	lim, ok := levels[s.Algorithm]
	if !ok {
		return fmt.Errorf("%w %q: use zstd[:1-22], gzip[:1-9] or none", ErrUnsupported, s.Algorithm)
	}
	if s.Level < lim.min || s.Level > lim.max {
		return fmt.Errorf("%s level %d: must be %d to %d", s.Algorithm, s.Level, lim.min, lim.max)
	}
	return nil
}

// String is the form that [Parse] reads.
func (s Spec) String() string {
	if s.Algorithm == None {
		return string(None)
	}
	return fmt.Sprintf("%s:%d", s.Algorithm, s.Level)
}

// Block compresses one block at a time, each into a stream of its own. It is
// used by one goroutine.
type Block interface {
	// Compress returns src compressed, in dst's memory where it fits, or nil
	// where the result would not be smaller than src.
	Compress(dst, src []byte) ([]byte, error)
	// Close frees what the engine holds.
	Close()
}

// NewBlock returns a block compressor.
func NewBlock(s Spec) (Block, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	switch s.Algorithm {
	case Gzip:
		return newZlibBlock(s.Level)
	case Zstd:
		return newZstdBlock(s.Level)
	}
	return noneBlock{}, nil
}

// Bound is the capacity of Compress's dst, for n bytes of src, with which no
// engine allocates another.
func Bound(n int) int { return n + n/128 + 1024 }

type noneBlock struct{}

func (noneBlock) Compress(_, _ []byte) ([]byte, error) { return nil, nil }
func (noneBlock) Close()                               {}

// NewWriter returns a stream compressor onto w: gzip with an empty header, or
// one zstd frame. Closing it does not close w.
func NewWriter(w io.Writer, s Spec) (io.WriteCloser, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	switch s.Algorithm {
	case Gzip:
		return newGzipWriter(w, s.Level)
	case Zstd:
		return newZstdWriter(w, s.Level)
	}
	return nopCloser{w}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Warning says what the engines of this build cannot reach of s, or "".
func Warning(s Spec) string {
	if s.Algorithm == Zstd {
		return zstdWarning(s.Level)
	}
	return ""
}

// Engines names the library and version behind each algorithm, for the manifest.
func Engines() map[Algorithm]string {
	return map[Algorithm]string{Gzip: moduleVersion(klauspostModule), Zstd: zstdEngine()}
}
