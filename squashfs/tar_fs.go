package squashfs

import (
	"archive/tar"
	"cmp"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// resolve finds what name leads to; if follow, through a last element that is a
// symbolic link. Links do not lead out of the tree.
func (t *Tar) resolve(op, name string, follow bool) (*tarNode, error) {
	fail := func(err error) (*tarNode, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !validPath(name) {
		return fail(fs.ErrInvalid)
	}
	at, above := t.root, []*tarNode(nil)
	links := 0
	for rest, more := name, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if !at.isDir() {
			return fail(errReaderNotDir)
		}
		switch part {
		case "", ".":
			continue
		case "..":
			if last := len(above) - 1; last >= 0 {
				at, above = above[last], above[:last]
			}
			continue
		}
		next := at.kids[part]
		if next == nil {
			return fail(fs.ErrNotExist)
		}
		if next.kind != typeSymlink || !more && !follow {
			at, above = next, append(above, at)
			continue
		}
		if links++; links > readerMaxLinks {
			return fail(errReaderLinks)
		}
		if strings.HasPrefix(next.target, "/") {
			at, above = t.root, nil
		}
		if more {
			rest = next.target + "/" + rest
		} else {
			rest = next.target
		}
		more = true
	}
	return at, nil
}

// Open implements [fs.FS]. A regular file that is not sparse also implements
// [io.Seeker] and [io.ReaderAt]; a directory implements [fs.ReadDirFile].
func (t *Tar) Open(name string) (fs.File, error) {
	n, err := t.resolve("open", name, true)
	if err != nil {
		return nil, err
	}
	open := tarOpen{tarInfo{path.Base(name), n}}
	switch {
	case n.isDir():
		return &tarDir{tarOpen: open, entries: n.list()}, nil
	case n.kind != typeFile:
		return &tarSpecial{open}, nil
	case n.sparse:
		_, r, err := n.openSparse()
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &tarSparse{open, r}, nil
	}
	return &tarFile{open, io.NewSectionReader(n.src.r, n.at, n.size)}, nil
}

// ReadDir implements [fs.ReadDirFS].
func (t *Tar) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.resolve("readdir", name, true)
	if err == nil && !n.isDir() {
		err = &fs.PathError{Op: "readdir", Path: name, Err: errReaderNotDir}
	}
	if err != nil {
		return nil, err
	}
	return n.list(), nil
}

// Stat implements [fs.StatFS].
func (t *Tar) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name, true) }

// Lstat implements [fs.ReadLinkFS]. The [fs.FileInfo.Sys] of its result is an [*Attr].
func (t *Tar) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name, false) }

func (t *Tar) stat(op, name string, follow bool) (fs.FileInfo, error) {
	n, err := t.resolve(op, name, follow)
	if err != nil {
		return nil, err
	}
	return tarInfo{path.Base(name), n}, nil
}

// ReadLink implements [fs.ReadLinkFS].
func (t *Tar) ReadLink(name string) (string, error) {
	n, err := t.resolve("readlink", name, false)
	if err == nil && n.kind != typeSymlink {
		err = &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return "", err
	}
	return n.target, nil
}

// list is a directory's entries, sorted by name.
func (n *tarNode) list() []fs.DirEntry {
	entries := make([]fs.DirEntry, 0, len(n.kids))
	for name, kid := range n.kids {
		entries = append(entries, fs.FileInfoToDirEntry(tarInfo{name, kid}))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries
}

// tarInfo is a file under one of its names.
type tarInfo struct {
	name string
	n    *tarNode
}

func (i tarInfo) Name() string      { return i.name }
func (i tarInfo) Size() int64       { return i.n.size }
func (i tarInfo) Mode() fs.FileMode { return fileMode(i.n.kind, i.n.mode) }
func (i tarInfo) IsDir() bool       { return i.n.isDir() }

func (i tarInfo) ModTime() time.Time {
	date := time.Unix(i.n.mtime, 0).UTC()
	if date.IsZero() {
		// The zero Time says that there is no date; this one is merely far off.
		date = date.Add(-time.Second)
	}
	return date
}

func (i tarInfo) Sys() any {
	n := i.n
	return &Attr{UID: n.uid, GID: n.gid, Rdev: n.rdev, Inode: n.ino, Nlink: max(n.nlink, 1), Xattrs: n.xattrs}
}

func (i tarInfo) String() string { return fs.FormatFileInfo(i) }

// tarOpen is what all open files have in common.
type tarOpen struct{ info tarInfo }

func (f *tarOpen) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *tarOpen) Close() error               { return nil }

// tarFile is an open regular file that lies in the archive in one piece.
type tarFile struct {
	tarOpen
	*io.SectionReader
}

// tarSparse is an open sparse file.
type tarSparse struct {
	tarOpen
	r *tar.Reader
}

func (f *tarSparse) Read(b []byte) (int, error) { return f.r.Read(b) }

// tarSpecial is an open device or pipe.
type tarSpecial struct{ tarOpen }

func (f *tarSpecial) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: errReaderSpecial}
}

// tarDir is an open directory.
type tarDir struct {
	tarOpen
	entries []fs.DirEntry
}

func (d *tarDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errReaderIsDir}
}

// ReadDir implements [fs.ReadDirFile].
func (d *tarDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 {
		n = len(d.entries)
	}
	n = min(n, len(d.entries))
	some := d.entries[:n:n]
	d.entries = d.entries[n:]
	return some, nil
}
