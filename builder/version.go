package builder

import (
	"runtime"

	"github.com/isopress/isopress/internal/codec"
)

// Version of isopress. It is in every manifest: another version may give other bytes.
const Version = "0.1.0"

// Builder names what made an image, as far as its bytes depend on it.
type Builder struct {
	Version string            `json:"version"`
	Go      string            `json:"go"`
	Engines map[string]string `json:"engines"` // library and version, by algorithm
}

// ThisBuilder is the running program with all engines that it has here.
func ThisBuilder() Builder {
	return Builder{Version: Version, Go: runtime.Version(), Engines: codec.Engines()}
}

// builderOf is the running program with the engine that the compression calls
// for, [codec.Engine] or [codec.WriterEngine]. Others are left out, since the
// system's libraries differ between machines on which the bytes do not; zstd's,
// which is part of the program, stands for the initrd of an ISO.
func builderOf(engine func(codec.Spec) string, compression string) Builder {
	zstd := codec.Spec{Algorithm: codec.Zstd}
	b := Builder{Version: Version, Go: runtime.Version(), Engines: map[string]string{string(zstd.Algorithm): engine(zstd)}}
	if spec, err := codec.Parse(compression); err == nil && spec.Algorithm != codec.None {
		b.Engines[string(spec.Algorithm)] = engine(spec)
	}
	return b
}
