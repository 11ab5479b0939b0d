package iso

import (
	"cmp"
	"io"
	"slices"

	"github.com/isopress/isopress/internal/fatedit"
)

// FAT is a FAT file system in an image, most often an EFI system partition: what El Torito's catalog or a
// partition table names.
type FAT struct {
	Name string // a file of the image's tree, or what names the part of the image, such as "GPT partition 2"
	Pos  int64  // in the image
	*io.SectionReader
}

// FATs finds them, sorted by position. That each begins with a boot sector is all that is known of it.
func (im *Image) FATs() ([]FAT, error) {
	var list []FAT
	for _, e := range im.bootImages() {
		size := im.size - e.pos
		if e.file != nil && len(e.file.pieces) == 1 {
			list = append(list, FAT{e.file.path, e.pos, io.NewSectionReader(im.r, e.pos, e.file.size)})
			continue
		}
		list = append(list, FAT{e.String(), e.pos, io.NewSectionReader(im.r, e.pos, size)})
	}
	for _, p := range im.system.parts {
		if p.start <= 0 || p.start >= min(p.end, im.size) {
			continue
		}
		name := p.String()
		if f := im.fileAt(p.start); f != nil {
			name = f.path
		}
		list = append(list, FAT{name, p.start, io.NewSectionReader(im.r, p.start, min(p.end, im.size)-p.start)})
	}
	slices.SortStableFunc(list, func(a, b FAT) int { return cmp.Or(cmp.Compare(a.Pos, b.Pos), cmp.Compare(a.Size(), b.Size())) })
	list = slices.CompactFunc(list, func(a, b FAT) bool { return a.Pos == b.Pos })
	kept := list[:0]
	for _, f := range list {
		b, err := im.bytesAt(f.Name, f.Pos, min(blockSize, f.Size()))
		if err != nil {
			return nil, err
		}
		if fatedit.IsFAT(b) {
			kept = append(kept, f)
		}
	}
	return kept, nil
}
