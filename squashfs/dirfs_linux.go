package squashfs

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openFile opens what is there, and not what it leads to.
func openFile(host string) (*os.File, error) {
	return os.OpenFile(host, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// Xattrs implements [XattrFS].
func (d dirFS) Xattrs(name string) (map[string][]byte, error) {
	file, err := d.host("listxattr", name)
	if err != nil {
		return nil, err
	}
	list, err := readSized(func(b []byte) (int, error) { return unix.Llistxattr(file, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	if len(list) == 0 {
		return nil, nil
	}
	attrs := map[string][]byte{}
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value, err := readSized(func(b []byte) (int, error) { return unix.Lgetxattr(file, attr, b) })
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr " + attr, Path: name, Err: err}
		}
		attrs[attr] = value
	}
	return attrs, nil
}

// readSized calls a system call that tells the size of its answer when it is
// given no memory for one, again where the answer has grown in between.
func readSized(call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(nil)
		if n <= 0 || err != nil {
			return nil, err
		}
		b := make([]byte, n)
		n, err = call(b)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		return b[:max(n, 0)], err
	}
}
