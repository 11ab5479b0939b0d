package squashfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/isopress/isopress/internal/patherror"
)

// DirFS returns the tree at dir as [os.DirFS] does, with extended attributes,
// and with the names that are not UTF-8, which the latter does not open. On Linux,
// Open does not follow a symbolic link, nor wait for a pipe's writer, so that what
// takes a file's place while the tree is read leads nowhere else.
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

// within calls f with a name's path on the host.
func within[T any](d dirFS, op, name string, f func(string) (T, error)) (T, error) {
	host, err := d.host(op, name)
	if err != nil {
		var none T
		return none, err
	}
	v, err := f(host)
	if err != nil {
		return v, patherror.Renamed(name, err)
	}
	return v, nil
}

func (d dirFS) Open(name string) (fs.File, error) {
	open := openFile
	if name == "." {
		open = os.Open // the tree itself may be named by a link
	}
	f, err := within(d, "open", name, open)
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
