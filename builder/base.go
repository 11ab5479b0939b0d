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

// openBase opens the image that blocks are taken from, if there is one.
func (o *Options) openBase() error {
	if o.Base == "" {
		return nil
	}
	f, size, err := openFile("--base", o.Base)
	if err != nil {
		return err
	}
	o.files = append(o.files, f)
	r, size, err := squashfsWithin(f, size)
	if err == nil {
		o.base, err = squashfs.OpenBase(r, size)
	}
	if errors.Is(err, squashfs.ErrNoBlockList) {
		o.warn("--base %s: nothing is taken from it: it has no list of its blocks, as other programs' images have none, and those of --compression none", o.Base)
		return nil
	}
	if err != nil {
		return named("--base", o.Base, err)
	}
	return nil
}

// squashfsWithin is the squashfs that an ISO of ours holds, or the file itself.
func squashfsWithin(f *os.File, size int64) (io.ReaderAt, int64, error) {
	for _, name := range []string{storeFile, rootFile} {
		e, err := iso.Find(f, size, name)
		switch {
		case err == nil:
			return io.NewSectionReader(f, e.Offset, e.Size), e.Size, nil
		case errors.Is(err, iso.ErrNotISO):
			return f, size, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, 0, err
		}
	}
	return nil, 0, fmt.Errorf("an ISO without %s and %s", storeFile, rootFile)
}
