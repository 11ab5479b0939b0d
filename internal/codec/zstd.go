package codec

import "runtime/debug"

const klauspostModule = "github.com/klauspost/compress"

// moduleVersion is the version of a dependency as linked into this program.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return path
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return path + " " + m.Version
		}
	}
	return path
}
