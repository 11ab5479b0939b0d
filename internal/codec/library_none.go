//go:build !(cgo && (linux || darwin) && (amd64 || arm64) && !isopress_static)

package codec

import "errors"

func openLibrary([]string, map[string]any) (string, error) {
	return "", errors.New("this build of isopress loads no libraries")
}
