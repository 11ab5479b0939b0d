package builder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/isopress/isopress/iso"
	"github.com/isopress/isopress/squashfs"
)

// openImage opens the squashfs that an ISO is mostly made of, ours or another's, or that the file itself is.
func (a *adviser) openImage() (fs.FS, error) {
	f, size, err := openFile("image", a.Image)
	if err != nil {
		return nil, err
	}
	a.files = append(a.files, f)
	r, within, err := a.imageSquashfs(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Image, err)
	}
	a.advice.Beside = size - within
	tree, err := squashfs.NewReader(r, within)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Image, err)
	}
	a.excluder, err = a.validate()
	return tree, err
}

func (a *adviser) imageSquashfs(f *os.File, size int64) (io.ReaderAt, int64, error) {
	image, err := iso.Open(f, size)
	if errors.Is(err, iso.ErrNotISO) {
		return f, size, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var best io.ReaderAt
	var bestSize int64
	var bestName string
	found := 0
	err = eachSquashfs(image, func(string) bool { return false }, func(name string, r io.ReaderAt, size int64) error {
		if found++; best == nil || size > bestSize {
			best, bestSize, bestName = r, size, name
		}
		return nil
	})
	if err == nil && best == nil {
		err = errors.New("an ISO without a squashfs")
	}
	if found > 1 {
		a.warn("%s: of %d squashfs, the largest counts: %s", a.Image, found, bestName)
	}
	return best, bestSize, err
}

// eachSquashfs calls f for the squashfs files of an ISO but those to skip, in the order of their paths. One with
// several names is one.
func eachSquashfs(image *iso.Image, skip func(name string) bool, f func(name string, r io.ReaderAt, size int64) error) error {
	seen := map[int64]bool{} // where they begin
	return fs.WalkDir(image.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || skip(name) {
			return err
		}
		r, size, err := squashfsFile(image.FS(), name)
		if r == nil || err != nil {
			return err
		}
		extents, err := image.Extents(name)
		if err != nil || len(extents) == 0 || seen[extents[0].Offset] {
			return err
		}
		seen[extents[0].Offset] = true
		return f(name, r, size)
	})
}

// squashfsFile opens a file if it begins as a squashfs does.
func squashfsFile(image fs.FS, name string) (io.ReaderAt, int64, error) {
	f, err := image.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	r, ok := f.(io.ReaderAt) // of an image that is open: there is nothing to close
	var magic [4]byte
	if !ok || info.Size() < int64(len(magic)) {
		return nil, 0, nil
	}
	if _, err := r.ReadAt(magic[:], 0); err != nil || string(magic[:]) != "hsqs" {
		return nil, 0, err
	}
	return r, info.Size(), nil
}
