//go:build linux

package treelist

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrPrefixes are the namespaces that squashfs can hold.
var xattrPrefixes = []string{"user.", "trusted.", "security."}

// appendXattrs adds the extended attributes, sorted by name. A file system that knows none has none.
func appendXattrs(line []byte, file string) ([]byte, error) {
	list, err := growing(func(b []byte) (int, error) { return unix.Llistxattr(file, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return line, nil
	}
	if err != nil {
		return line, &os.PathError{Op: "llistxattr", Path: file, Err: err}
	}
	names := strings.Split(string(list), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if !slices.ContainsFunc(xattrPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		value, err := growing(func(b []byte) (int, error) { return unix.Lgetxattr(file, name, b) })
		if err != nil {
			return line, &os.PathError{Op: "lgetxattr " + name, Path: file, Err: err}
		}
		line = fmt.Appendf(line, " x=%s:%x", quoteIfNeeded(name), value)
	}
	return line, nil
}

// quoteIfNeeded quotes a name that would break a line's fields up.
func quoteIfNeeded(name string) string {
	if q := fmt.Sprintf("%q", name); q != `"`+name+`"` || strings.ContainsAny(name, " :") {
		return q
	}
	return name
}

// growing calls get with an ever larger buffer, up to the largest list and value that Linux has.
func growing(get func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 16 {
		b := make([]byte, size)
		n, err := get(b)
		if errors.Is(err, unix.ERANGE) && size < 1<<16 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}
