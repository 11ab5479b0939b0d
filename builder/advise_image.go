package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/isopress/isopress/iso"
	"github.com/isopress/isopress/squashfs"
)

// openImage opens the squashfs that an ISO is mostly made of, ours or another's, or that the file itself is.
func (a *adviser) openImage() (fs.FS, error) {
	f, size, err := openImageFile(a.Image, "--root %s presses it")
	if err != nil {
		return nil, err
	}
	a.files = append(a.files, f)
	r, within, also, err := a.imageSquashfs(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Image, err)
	}
	a.advice.Beside = size - within
	tree, err := squashfs.NewReader(r, within)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Image, err)
	}
	if a.raw, err = findEqual(tree, also); err != nil {
		return nil, fmt.Errorf("%s: %w", a.Image, err)
	}
	if a.excluder, err = a.validate(); len(a.excluder) > 0 {
		a.raw = nil // it may be one that is left out
	}
	return tree, err
}

// imageSquashfs finds an ISO's largest squashfs, and the ISO's files that lie within it.
func (a *adviser) imageSquashfs(f *os.File, size int64) (io.ReaderAt, int64, []*io.SectionReader, error) {
	image, err := iso.Open(f, size)
	if errors.Is(err, iso.ErrNotISO) {
		return f, size, nil, checkNoISO(f)
	}
	if err != nil {
		return nil, 0, nil, err
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
	if err != nil {
		return nil, 0, nil, err
	}
	also, err := filesWithin(image, f, bestName)
	return best, bestSize, also, err
}

// filesWithin are the files of an ISO that lie within another one of its files, as kernel and initrd of our own do.
func filesWithin(image *iso.Image, r io.ReaderAt, holder string) (within []*io.SectionReader, err error) {
	extents, err := image.Extents(holder)
	if err != nil || len(extents) == 0 {
		return nil, err
	}
	begin, end := extents[0].Offset, extents[len(extents)-1].Offset+extents[len(extents)-1].Size
	err = fs.WalkDir(image.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || name == holder {
			return err
		}
		e, err := image.Extents(name)
		if err == nil && len(e) == 1 && e[0].Size > 0 && e[0].Offset > begin && e[0].Offset+e[0].Size <= end {
			within = append(within, io.NewSectionReader(r, e[0].Offset, e[0].Size))
		}
		return err
	})
	return within, err
}

// findEqual lists a tree's files that have the content of one of those that are given.
func findEqual(tree fs.FS, those []*io.SectionReader) (names []string, err error) {
	if len(those) == 0 {
		return nil, nil
	}
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		for _, r := range those {
			if info.Size() != r.Size() {
				continue
			}
			equal, err := hasContent(tree, name, r)
			if err != nil {
				return err
			}
			if equal {
				names = append(names, name)
				break
			}
		}
		return nil
	})
	return names, err
}

// hasContent tells whether a file has the content of r, which is as long.
func hasContent(tree fs.FS, name string, r *io.SectionReader) (bool, error) {
	f, err := tree.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close() // read only: nothing is lost with its error
	mine, other := make([]byte, 1<<16), make([]byte, 1<<16)
	for at := int64(0); at < r.Size(); {
		n := int(min(int64(len(mine)), r.Size()-at))
		if _, err := io.ReadFull(f, mine[:n]); err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		if _, err := r.ReadAt(other[:n], at); err != nil {
			return false, err
		}
		if !bytes.Equal(mine[:n], other[:n]) {
			return false, nil
		}
		at += int64(n)
	}
	return true, nil
}

// openImageFile opens an ISO or a squashfs; instead says with %s what takes a directory.
func openImageFile(name, instead string) (*os.File, int64, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil, 0, fmt.Errorf("image %s: a directory: "+instead, name, name)
	}
	return openFile("image", name)
}

// checkNoISO finds out what a file is that is no ISO: a squashfs, or nothing that is read here.
func checkNoISO(f io.ReaderAt) error {
	head := make([]byte, 6)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if is, err := isSquashfs(f); err != nil || is {
		return err
	}
	if string(head[:min(n, 4)]) == "sqsh" {
		return nil // one of the other byte order, as its reader says
	}
	for name, magic := range map[string]string{"gzip": "\x1F\x8B", "xz": "\xFD7zXZ\x00", "zstd": "\x28\xB5\x2F\xFD", "bzip2": "BZh"} {
		if strings.HasPrefix(string(head[:n]), magic) {
			return fmt.Errorf("compressed with %s: expand it first", name)
		}
	}
	return errors.New("neither an ISO nor a squashfs")
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
	if !ok {
		return nil, 0, nil
	}
	if is, err := isSquashfs(r); err != nil || !is {
		return nil, 0, err
	}
	return r, info.Size(), nil
}

// isSquashfs tells whether a file begins as a squashfs does.
func isSquashfs(r io.ReaderAt) (bool, error) {
	var magic [4]byte
	n, err := r.ReadAt(magic[:], 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n == len(magic) && string(magic[:]) == "hsqs", err
}
