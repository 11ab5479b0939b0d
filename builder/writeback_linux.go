package builder

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback tells the kernel to begin to write a file's dirty pages. It does
// not wait, and whether it worked does not matter: the sync at the end will tell.
func startWriteback(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
