package builder

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/isopress/isopress/internal/patherror"
	"github.com/isopress/isopress/squashfs"
)

// storeFS shows store paths of the host as the directory that /nix/store is.
//
// Of a file's metadata it shows what a NAR holds: its type, and whether it may
// be run. Owner, date and mode are those that Nix gives (root, 1970-01-01
// 00:00:01, read only), whatever the host's copy has, so that a store that was
// copied by other means, or a host that labels files with xattrs, gives the same image.
type storeFS struct {
	names        []string         // sorted
	paths        map[string]fs.FS // by name
	registration []byte           // of registrationFile, where names has it
}

// Open implements [fs.FS].
func (s *storeFS) Open(name string) (fs.File, error) {
	if name == registrationFile && s.registration != nil {
		info, err := s.Lstat(name)
		return &memFile{bytes.NewReader(s.registration), info}, err
	}
	path, rest, err := s.split(name)
	if err != nil {
		return nil, err
	}
	f, err := path.Open(rest)
	return f, patherror.Renamed(name, err)
}

// ReadDir implements [fs.ReadDirFS].
func (s *storeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	names := s.names
	if name != "." {
		dir, rest, err := s.split(name)
		if err != nil {
			return nil, err
		}
		found, err := fs.ReadDir(dir, rest)
		if err != nil {
			return nil, patherror.Renamed(name, err)
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

// Lstat implements [fs.ReadLinkFS].
func (s *storeFS) Lstat(name string) (fs.FileInfo, error) {
	if name == "." {
		return storeInfo{name: ".", mode: fs.ModeDir | 0o755}, nil
	}
	if name == registrationFile && s.registration != nil {
		return storeInfo{name: name, mode: 0o444, size: int64(len(s.registration))}, nil
	}
	dir, rest, err := s.split(name)
	if err != nil {
		return nil, err
	}
	info, err := fs.Lstat(dir, rest)
	if err != nil {
		return nil, patherror.Renamed(name, err)
	}
	mode, err := narMode(info.Mode())
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	state, err := fileState(info)
	return storeInfo{path.Base(name), mode, info.Size(), state}, err
}

// fileState is what tells whether a file of the host changes. Nothing of it is in a NAR.
func fileState(info fs.FileInfo) (squashfs.Attr, error) {
	host, err := squashfs.AttrOf(info)
	return squashfs.Attr{Dev: host.Dev, Inode: host.Inode, Mtime: host.Mtime, Ctime: host.Ctime}, err
}

// Stat implements [fs.StatFS]. It does not follow links, which lead through the
// guest's /nix/store.
func (s *storeFS) Stat(name string) (fs.FileInfo, error) { return s.Lstat(name) }

// ReadLink implements [fs.ReadLinkFS].
func (s *storeFS) ReadLink(name string) (string, error) {
	dir, rest, err := s.split(name)
	if err != nil {
		return "", err
	}
	target, err := fs.ReadLink(dir, rest)
	return target, patherror.Renamed(name, err)
}

// split finds the store path that a name lies in, and the name within it.
func (s *storeFS) split(name string) (path fs.FS, rest string, err error) {
	first, rest, below := strings.Cut(name, "/")
	path, ok := s.paths[first]
	if !ok {
		return nil, "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if !below {
		rest = "."
	}
	return path, rest, nil
}

// nameOfPath is a store path's name without the hash, which comes last.
func nameOfPath(base string) string {
	hash, name, _ := strings.Cut(base, "-")
	return name + " " + hash
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
	name  string
	mode  fs.FileMode
	size  int64
	state squashfs.Attr
}

func (i storeInfo) Name() string       { return i.name }
func (i storeInfo) Size() int64        { return i.size }
func (i storeInfo) Mode() fs.FileMode  { return i.mode }
func (i storeInfo) ModTime() time.Time { return time.Unix(1, 0) }
func (i storeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i storeInfo) Sys() any           { return &i.state }

// memFile is a file whose content is in memory.
type memFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *memFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memFile) Close() error               { return nil }

var _ io.Seeker = (*memFile)(nil)
