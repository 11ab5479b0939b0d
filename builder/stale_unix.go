//go:build linux || darwin

package builder

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

var errLocked = errors.New("locked")

// tryLock locks a file. The error is errLocked where another process has.
func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// names is how many names a file has; -1 is not known.
func names(f *os.File) int {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return -1
	}
	return int(st.Nlink)
}

// openStale opens a file for a lock, but not what it leads to.
func openStale(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// duplicate holds an open file's lock. Without a descriptor left to do so the lock ends a moment early,
// between the file's last write and its renaming.
func duplicate(f *os.File) io.Closer {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return io.NopCloser(nil)
	}
	return os.NewFile(uintptr(fd), f.Name())
}
