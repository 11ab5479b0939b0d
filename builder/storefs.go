package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/isopress/isopress/squashfs"
)

// storeFS shows store paths of the host as the directory that /nix/store is.
//
// Of a file's metadata it shows what a NAR holds: its type, and whether it may
// be run. Owner, date and mode are those that Nix gives (root, 1970-01-01
// 00:00:01, read only), whatever the host's copy has, so that a store that was
// copied by other means, or a host that labels files with xattrs, gives the same image.
type storeFS struct {
	names        []string          // sorted
	paths        map[string]string // host path by name
	registration []byte            // of registrationFile, where names has it
}

// Open implements [fs.FS].
func (s *storeFS) Open(name string) (fs.File, error) {
	if name == registrationFile && s.registration != nil {
		info, err := s.Lstat(name)
		return &memFile{bytes.NewReader(s.registration), info}, err
	}
	host, err := s.host("open", name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(host)
	if err != nil {
		return nil, storePathError(name, err)
	}
	return f, nil
}

// ReadDir implements [fs.ReadDirFS].
func (s *storeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	names := s.names
	if name != "." {
		host, err := s.host("readdir", name)
		if err != nil {
			return nil, err
		}
		found, err := os.ReadDir(host)
		if err != nil {
			return nil, storePathError(name, err)
		}
		names = nil
		for _, d := range found {
			names = append(names, d.Name())
		}
	}
	entries := make([]fs.DirEntry, 0, len(names))
	for _, n := range names {
		info, err := s.Lstat(path.Join(name, n))
		if err != nil {
			return nil, err
		}
		entries = append(entries, fs.FileInfoToDirEntry(info))
	}
	return entries, nil
}

// Stat implements [fs.StatFS].
func (s *storeFS) Stat(name string) (fs.FileInfo, error) {
	if name == "." {
		return storeInfo{name: ".", mode: fs.ModeDir | 0o755}, nil
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: errors.ErrUnsupported}
}

// Lstat implements [fs.ReadLinkFS].
func (s *storeFS) Lstat(name string) (fs.FileInfo, error) {
	if name == "." {
		return s.Stat(name)
	}
	if name == registrationFile && s.registration != nil {
		return storeInfo{name: name, mode: 0o444, size: int64(len(s.registration))}, nil
	}
	host, err := s.host("lstat", name)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(host)
	if err != nil {
		return nil, storePathError(name, err)
	}
	mode, err := narMode(info.Mode())
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return storeInfo{name: path.Base(name), mode: mode, size: info.Size()}, nil
}

// ReadLink implements [fs.ReadLinkFS].
func (s *storeFS) ReadLink(name string) (string, error) {
	host, err := s.host("readlink", name)
	if err != nil {
		return "", err
	}
	target, err := os.Readlink(host)
	if err != nil {
		return "", storePathError(name, err)
	}
	return target, nil
}

func (s *storeFS) host(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	first, rest, _ := strings.Cut(name, "/")
	host, ok := s.paths[first]
	if !ok {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return filepath.Join(host, filepath.FromSlash(rest)), nil
}

// storePathError names the file as the squashfs does, not as the host.
func storePathError(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &fs.PathError{Op: pe.Op, Path: name, Err: pe.Err}
	}
	return err
}

// narMode is the mode that Nix gives a file.
func narMode(m fs.FileMode) (fs.FileMode, error) {
	switch m.Type() {
	case 0:
		if m&0o100 != 0 {
			return 0o555, nil
		}
		return 0o444, nil
	case fs.ModeDir:
		return fs.ModeDir | 0o555, nil
	case fs.ModeSymlink:
		return fs.ModeSymlink | 0o777, nil
	}
	return 0, fmt.Errorf("a file of type %v, which no store path holds", m.Type())
}

// storeInfo is the metadata of a file in the store.
type storeInfo struct {
	name string
	mode fs.FileMode
	size int64
}

func (i storeInfo) Name() string       { return i.name }
func (i storeInfo) Size() int64        { return i.size }
func (i storeInfo) Mode() fs.FileMode  { return i.mode }
func (i storeInfo) ModTime() time.Time { return time.Unix(1, 0) }
func (i storeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i storeInfo) Sys() any           { return &squashfs.Attr{} }

// memFile is a file whose content is in memory.
type memFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *memFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memFile) Close() error               { return nil }

var _ io.Seeker = (*memFile)(nil)
