package builder

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// openUncached opens a file so that reading it reads the storage, where the file system can.
func openUncached(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECT, 0)
	if errors.Is(err, syscall.EINVAL) {
		return os.Open(name)
	}
	return f, err
}

// offsetToAlign is how many bytes into b a multiple of n lies.
func offsetToAlign(b []byte, n uintptr) uintptr {
	return -uintptr(unsafe.Pointer(&b[0])) & (n - 1)
}
