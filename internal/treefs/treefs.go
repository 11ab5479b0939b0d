// Package treefs has the files and directories that an [fs.FS] opens when all its metadata is in memory.
package treefs

import (
	"io"
	"io/fs"
)

// File is an open file. It has no state to close.
type File struct {
	Info fs.FileInfo
	*io.SectionReader
}

func (f *File) Stat() (fs.FileInfo, error) { return f.Info, nil }
func (f *File) Close() error               { return nil }

// Dir is an open directory.
type Dir struct {
	Info    fs.FileInfo
	Entries []fs.FileInfo // that were not read yet, sorted by name
}

func (d *Dir) Stat() (fs.FileInfo, error) { return d.Info, nil }
func (d *Dir) Close() error               { return nil }

func (d *Dir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.Info.Name(), Err: fs.ErrInvalid}
}

// ReadDir implements [fs.ReadDirFile].
func (d *Dir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.Entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.Entries) {
		n = len(d.Entries)
	}
	list := make([]fs.DirEntry, n)
	for i, info := range d.Entries[:n] {
		list[i] = fs.FileInfoToDirEntry(info)
	}
	d.Entries = d.Entries[n:]
	return list, nil
}
