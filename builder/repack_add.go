package builder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/isopress/isopress/internal/patherror"
	"github.com/isopress/isopress/iso"
)

// additions opens what is to be added; the function that is returned closes it.
func (r *repack) additions(changes *iso.Changes) (end func(), err error) {
	var open []*os.File
	end = func() {
		for _, f := range open {
			f.Close() // read only: nothing is lost with its error
		}
	}
	for _, a := range r.Add {
		before := len(changes.Add)
		err := filepath.WalkDir(a.Src, func(host string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return r.warnEmpty(host)
			}
			f, size, err := openFile("--add", host) // a link stands for what it leads to
			if err != nil {
				return err
			}
			open = append(open, f)
			addition, err := r.addition(a, host, f, size)
			changes.Add = append(changes.Add, addition)
			return err
		})
		if err == nil && len(changes.Add) == before {
			err = errors.New("no file is in it")
		}
		if err != nil {
			end()
			return func() {}, fmt.Errorf("--add %s:%s: %w", a.Src, a.Dst, patherror.Bare(err))
		}
	}
	return end, nil
}

// warnEmpty tells of a directory that is not added: an ISO's directories come with their files.
func (r *repack) warnEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) == 0 {
		r.warn("--add: %s: an empty directory, which is not added", dir)
	}
	return err
}

// addition is a file of the host at its place in the ISO: a directory's file lies below the place that is given.
func (r *repack) addition(a Add, host string, f *os.File, size int64) (iso.Addition, error) {
	dst := imagePath(a.Dst)
	if rel, err := filepath.Rel(a.Src, host); err == nil && rel != "." {
		dst = path.Join(dst, filepath.ToSlash(rel))
	}
	if dst == "." {
		return iso.Addition{}, errors.New("the root is no place for a file: name one in it")
	}
	info, err := f.Stat()
	if err != nil {
		return iso.Addition{}, err
	}
	date := info.ModTime()
	if !r.SourceDate.IsZero() && date.After(r.SourceDate) {
		date = r.SourceDate
	}
	return iso.Addition{Path: dst, Mode: info.Mode().Perm(), ModTime: date, Content: iso.Content{
		Size: size,
		Write: func(w io.WriterAt) (int64, error) {
			n, err := io.Copy(io.NewOffsetWriter(w, 0), io.LimitReader(f, size+1))
			if err == nil && n != size {
				err = fmt.Errorf("%s: the file changed while it was read", host)
			}
			return n, err
		},
	}}, nil
}
