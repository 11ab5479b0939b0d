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
	list, get := unix.Llistxattr, unix.Lgetxattr
	if name == "." {
		list, get = unix.Listxattr, unix.Getxattr // the tree itself may be named by a link
	}
	return readXattrs(name,
		func(b []byte) (int, error) { return list(file, b) },
		func(attr string, b []byte) (int, error) { return get(file, attr, b) })
}

// readXattrs reads a file's attributes by two system calls. Of those that squashfs
// does not hold only the name is of use, and the value may be hard to get: a label
// of another system, an access list on a network.
func readXattrs(name string, list func([]byte) (int, error), get func(attr string, b []byte) (int, error)) (map[string][]byte, error) {
	names, err := readSized(list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	if len(names) == 0 {
		return nil, nil
	}
	attrs := map[string][]byte{}
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if _, _, ok := splitXattr(attr); !ok {
			attrs[attr] = nil
			continue
		}
		value, err := readSized(func(b []byte) (int, error) { return get(attr, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed since it was listed
		}
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
