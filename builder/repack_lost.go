package builder

import (
	"context"
	"fmt"
	"io"

	"github.com/isopress/isopress/internal/bytesize"
	"github.com/isopress/isopress/iso"
)

// What would be lost unseen is found here, and what repack does not reach.

// checkBehind refuses what lies behind a squashfs in the same file. Zeros do not count: they fill it up.
func checkBehind(ctx context.Context, src io.ReaderAt, used, size int64) error {
	behind := io.NewSectionReader(src, used, size-used)
	r := &checkedReader{ctx: ctx, r: behind, advance: func(int64) {}}
	buf := make([]byte, 1<<16)
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c != 0 {
				return fmt.Errorf("%d bytes behind the squashfs would be lost, such as a dm-verity hash tree or a signature: they are in the same file, and are not zero", size-used)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// warnSkipped tells of what is not reached in an ISO, as FS does not show it.
func (r *repack) warnSkipped(image *iso.Image) error {
	var others []string
	for _, f := range image.Skipped() {
		if r.removes(f.Path) {
			continue
		}
		is, err := isSquashfs(f.SectionReader)
		switch {
		case err != nil:
			return fmt.Errorf("%q: %w", f.Path, err)
		case !is:
			others = append(others, fmt.Sprintf("%q", f.Path))
		case !r.KeepSquashfs:
			r.warn("%q: a squashfs that stays as it is: its name is not in UTF-8, or not among the %s names", f.Path, image.Names())
		}
	}
	if r.CmdlineAppend != "" && len(others) > 0 {
		r.warn("%s: not looked at for kernel command lines: the names are not in UTF-8, or not among the %s names", listed(others), image.Names())
	}
	return nil
}

// checkFree fails where an output of at least need bytes cannot fit.
func (r *repack) checkFree(need int64) error {
	if free, known := freeSpace(r.target.dir()); known && free < need {
		return fmt.Errorf("%s: %s free, about %s needed", r.target.dir(), bytesize.Text(free), bytesize.Text(need))
	}
	return nil
}
