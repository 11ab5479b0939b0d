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

// ThisBuilder is the running program.
func ThisBuilder() Builder {
	b := Builder{Version: Version, Go: runtime.Version(), Engines: map[string]string{}}
	for algorithm, engine := range codec.Engines() {
		b.Engines[string(algorithm)] = engine
	}
	return b
}
