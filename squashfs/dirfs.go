package squashfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DirFS returns the tree at dir as [os.DirFS] does, with extended attributes,
// and with the names that are not UTF-8, which the latter does not open. Names
// are not checked for links that lead out of dir.
func DirFS(dir string) fs.FS { return dirFS(dir) }

type dirFS string

// host is the path of a name on the host.
func (d dirFS) host(op, name string) (string, error) {
	if !validPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return filepath.Join(string(d), filepath.FromSlash(name)), nil
}

// validPath is [fs.ValidPath] for names of any bytes.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return false
		}
	}
	return true
}

// relative takes the directory out of an error.
func relative(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &fs.PathError{Op: pe.Op, Path: name, Err: pe.Err}
	}
	return err
}

// within calls f with a name's path on the host.
func within[T any](d dirFS, op, name string, f func(string) (T, error)) (T, error) {
	host, err := d.host(op, name)
	if err != nil {
		var none T
		return none, err
	}
	v, err := f(host)
	if err != nil {
		return v, relative(name, err)
	}
	return v, nil
}

func (d dirFS) Open(name string) (fs.File, error) {
	f, err := within(d, "open", name, os.Open)
	if err != nil {
		return nil, err // not a nil *os.File
	}
	return f, nil
}

func (d dirFS) ReadDir(name string) ([]fs.DirEntry, error) {
	return within(d, "readdir", name, os.ReadDir)
}
func (d dirFS) ReadFile(name string) ([]byte, error)   { return within(d, "readfile", name, os.ReadFile) }
func (d dirFS) Stat(name string) (fs.FileInfo, error)  { return within(d, "stat", name, os.Stat) }
func (d dirFS) Lstat(name string) (fs.FileInfo, error) { return within(d, "lstat", name, os.Lstat) }
func (d dirFS) ReadLink(name string) (string, error) {
	return within(d, "readlink", name, os.Readlink)
}
