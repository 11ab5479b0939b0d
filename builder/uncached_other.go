//go:build !linux

package builder

import "os"

// openUncached opens a file; other systems' ways past the cache are not tried.
func openUncached(name string) (*os.File, error) { return os.Open(name) }

func offsetToAlign([]byte, uintptr) uintptr { return 0 }
