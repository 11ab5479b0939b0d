//go:build !linux && !darwin

package cache

import (
	"errors"
	"os"
)

func tryLock(*os.File) error { return errors.ErrUnsupported }
