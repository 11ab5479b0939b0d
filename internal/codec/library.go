//go:build cgo && (linux || darwin) && (amd64 || arm64) && !isopress_static

package codec

import (
	"errors"
	"fmt"

	"github.com/ebitengine/purego"
)

// openLibrary loads the first of the shared libraries that there is, and finds
// the functions that are named. They are pointers to variables of function type.
func openLibrary(names []string, functions map[string]any) (name string, err error) {
	var handle uintptr
	var errs []error
	for _, name = range names {
		if handle, err = purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL); err == nil {
			break
		}
		errs = append(errs, err)
	}
	if handle == 0 {
		return "", errors.Join(errs...)
	}
	for symbol, f := range functions {
		address, err := purego.Dlsym(handle, symbol)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		purego.RegisterFunc(f, address)
	}
	return name, nil
}
