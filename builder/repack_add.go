package builder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/isopress/isopress/internal/patherror"
	"github.com/isopress/isopress/iso"
)

// ParseImageAdd reads "SRC:DST", of which SRC may have colons where a file of that name is there. A DST that ends with
// a slash is the directory that SRC is put into.
func ParseImageAdd(s string) (Add, error) {
	for at := len(s) - 2; at > 0; at-- {
		if s[at] != ':' {
			continue
		}
		if _, err := os.Lstat(s[:at]); err == nil {
			return Add{s[:at], s[at+1:]}, nil
		}
	}
	src, dst, ok := strings.Cut(s, ":")
	if !ok || src == "" || dst == "" {
		return Add{}, fmt.Errorf("%q: must be SRC:DST, a host path and its place in the ISO", s)
	}
	return Add{src, dst}, nil
}

// additions opens what is to be added; the function that is returned closes it.
func (r *repack) additions(changes *iso.Changes) (end func(), err error) {
	var open []*os.File
	end = func() {
		for _, f := range open {
			f.Close() // read only: nothing is lost with its error
		}
	}
	from := map[string]string{} // of each place, the host's file
	for _, a := range r.Add {
		err := r.addTree(a, func(host, dst string) error {
			if other, twice := from[dst]; twice {
				return fmt.Errorf("%s is added twice: %s and %s", dst, other, host)
			}
			from[dst] = host
			f, size, err := openAdded(host)
			if err != nil {
				return fmt.Errorf("%s: %w", host, err)
			}
			open = append(open, f)
			addition, err := r.addition(dst, host, f, size)
			changes.Add = append(changes.Add, addition)
			r.result.Added = append(r.result.Added, dst)
			return err
		})
		if err != nil {
			end()
			return func() {}, fmt.Errorf("--add %s:%s: %w", a.Src, a.Dst, err)
		}
	}
	return end, nil
}

// addTree calls f for each file of what is to be added, with its place in the ISO.
func (r *repack) addTree(a Add, f func(host, dst string) error) error {
	place, err := a.place()
	if err != nil {
		return err
	}
	found := false
	err = filepath.WalkDir(a.Src, func(host string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return r.warnEmpty(host)
		}
		rel, relErr := filepath.Rel(a.Src, host)
		dst := path.Join(place, filepath.ToSlash(rel))
		switch err = errors.Join(err, relErr); {
		case err != nil:
			return fmt.Errorf("%s: %w", host, patherror.Bare(err))
		case dst == ".":
			return errors.New("the root is no place for a file: / puts it there under its own name")
		}
		found = true
		return f(host, dst)
	})
	if err == nil && !found {
		err = errors.New("no file is in it")
	}
	return err
}

// place is where in the ISO it lies.
func (a Add) place() (string, error) {
	dst, err := imagePath(a.Dst)
	if err != nil || !strings.HasSuffix(a.Dst, "/") {
		return dst, err
	}
	src, err := filepath.Abs(a.Src)
	return path.Join(dst, filepath.Base(src)), err
}

// warnEmpty tells of a directory that is not added: an ISO's directories come with their files.
func (r *repack) warnEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, patherror.Bare(err))
	}
	if len(entries) == 0 {
		r.warn("--add: %s: an empty directory, which is not added", dir)
	}
	return nil
}

// openAdded opens a file of the host. A link stands for what it leads to.
func openAdded(host string) (*os.File, int64, error) {
	info, err := os.Stat(host)
	if to, linkErr := os.Readlink(host); errors.Is(err, fs.ErrNotExist) && linkErr == nil {
		return nil, 0, fmt.Errorf("a symbolic link to %s, which is not there", to)
	}
	switch {
	case err != nil:
		return nil, 0, patherror.Bare(err)
	case info.IsDir():
		return nil, 0, errors.New("a symbolic link to a directory: give the directory itself")
	case !info.Mode().IsRegular():
		return nil, 0, errors.New("not a regular file")
	}
	f, err := os.Open(host)
	return f, info.Size(), patherror.Bare(err)
}

// addition is a file of the host at its place in the ISO.
func (r *repack) addition(dst, host string, f *os.File, size int64) (iso.Addition, error) {
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

// checkPlaces finds additions whose place is taken by what stays.
func checkPlaces(files fs.FS, add []iso.Addition, stays func(name string) bool) error {
	for _, a := range add {
		info, err := fs.Lstat(files, a.Path)
		switch {
		case err != nil || !stays(a.Path):
			continue
		case info.IsDir():
			return fmt.Errorf("--add: %s is a directory in the ISO: %[1]s/ puts a file into it", a.Path)
		}
		return fmt.Errorf("--add: %s is there already: give --remove %[1]s as well to replace it", a.Path)
	}
	return nil
}
