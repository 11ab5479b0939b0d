//go:build !linux && !darwin

package builder

import (
	"errors"
	"io"
	"os"
)

var errLocked = errors.New("locked")

func tryLock(*os.File) error             { return errors.ErrUnsupported }
func names(*os.File) int                 { return -1 }
func openStale(string) (*os.File, error) { return nil, errors.ErrUnsupported }
func duplicate(*os.File) io.Closer       { return io.NopCloser(nil) }
