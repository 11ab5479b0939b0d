package squashfs

import (
	"archive/tar"
	"cmp"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// resolve finds what name leads to; if follow, through a last element that is a
// symbolic link. Links do not lead out of the tree.
func (t *Tar) resolve(op, name string, follow bool) (*tarNode, error) {
	n, err := t.find(name, follow)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

func (t *Tar) find(name string, follow bool) (*tarNode, error) {
	switch {
	case t.closed.Load():
		return nil, fs.ErrClosed
	case !validPath(name):
		return nil, fs.ErrInvalid
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if in, ok := t.dirs.get(dir); ok {
		n := in.kids[base]
		if n == nil {
			return nil, fs.ErrNotExist
		}
		if n.kind != typeSymlink || !follow {
			t.keepDir(name, n)
			return n, nil
		}
	}
	w := newTarWalk(t.root)
	if err := w.walk(name, follow); err != nil {
		return nil, err
	}
	if above := len(w.steps) - 2; w.links == 0 && above > 0 {
		t.keepDir(dir, w.steps[above].node)
	}
	if w.links == 0 {
		t.keepDir(name, w.at())
	}
	return w.at(), nil
}

// keepDir remembers the path of a directory, to which no link leads.
func (t *Tar) keepDir(name string, n *tarNode) {
	if n.isDir() && name != "." {
		t.dirs.add(name, n, len(name))
	}
}

// Open implements [fs.FS]. A regular file that is not sparse also implements
// [io.Seeker] and [io.ReaderAt]; a directory implements [fs.ReadDirFile].
func (t *Tar) Open(name string) (fs.File, error) {
	n, err := t.resolve("open", name, true)
	if err != nil {
		return nil, err
	}
	info := tarInfo{path.Base(name), n}
	switch {
	case n.isDir():
		return &tarDir{tarOpen: tarOpen{path: name, info: info}, entries: n.list()}, nil
	case n.kind != typeFile:
		return &tarSpecial{tarOpen{path: name, info: info}}, nil
	case n.sparse:
		_, r, err := n.openSparse()
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &tarSparse{tarOpen{path: name, info: info}, r}, nil
	}
	return &tarFile{tarOpen{path: name, info: info}, io.NewSectionReader(n.src.r, n.at, n.size)}, nil
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
type tarOpen struct {
	path   string
	info   tarInfo
	closed atomic.Bool
}

func (f *tarOpen) Stat() (fs.FileInfo, error) {
	if err := f.check("stat"); err != nil {
		return nil, err
	}
	return f.info, nil
}

func (f *tarOpen) Close() error {
	if f.closed.Swap(true) {
		return f.fail("close", fs.ErrClosed)
	}
	return nil
}

// check fails once the file is closed.
func (f *tarOpen) check(op string) error {
	if f.closed.Load() {
		return f.fail(op, fs.ErrClosed)
	}
	return nil
}

func (f *tarOpen) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.path, Err: err}
}

// tarFile is an open regular file that lies in the archive in one piece.
type tarFile struct {
	tarOpen
	r *io.SectionReader
}

func (f *tarFile) Read(b []byte) (int, error) {
	if err := f.check("read"); err != nil {
		return 0, err
	}
	return f.r.Read(b)
}

// ReadAt implements [io.ReaderAt].
func (f *tarFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.check("read"); err != nil {
		return 0, err
	}
	return f.r.ReadAt(b, off)
}

// Seek implements [io.Seeker].
func (f *tarFile) Seek(offset int64, whence int) (int64, error) {
	if err := f.check("seek"); err != nil {
		return 0, err
	}
	return f.r.Seek(offset, whence)
}

// tarSparse is an open sparse file.
type tarSparse struct {
	tarOpen
	r *tar.Reader
}

func (f *tarSparse) Read(b []byte) (int, error) {
	if err := f.check("read"); err != nil {
		return 0, err
	}
	return f.r.Read(b)
}

// tarSpecial is an open device or pipe.
type tarSpecial struct{ tarOpen }

func (f *tarSpecial) Read([]byte) (int, error) { return 0, f.fail("read", errReaderSpecial) }

// tarDir is an open directory.
type tarDir struct {
	tarOpen
	entries []fs.DirEntry
}

func (d *tarDir) Read([]byte) (int, error) { return 0, d.fail("read", errReaderIsDir) }

// ReadDir implements [fs.ReadDirFile].
func (d *tarDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if err := d.check("readdir"); err != nil {
		return nil, err
	}
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
