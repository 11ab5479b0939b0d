package iso

import (
	"io"

	"github.com/isopress/isopress/internal/fatedit"
)

const mediaHardDisk = 4 // El Torito figure 3, boot media type

// SkippedFile is a file that [Image.FS] does not show.
type SkippedFile struct {
	Path string // by the names of the tree that has it; any bytes
	*io.SectionReader
}

// Skipped are the files that FS does not show, such as those with Rock Ridge names that are not UTF-8, all below a
// directory with such a name, and what only Joliet's tree has. Each is there once, and empty ones are not. A
// rewritten image keeps them.
func (im *Image) Skipped() []SkippedFile {
	seen := map[*fileExtents]bool{nil: true}
	im.root.mark(seen)
	var list []SkippedFile
	for _, t := range im.trees {
		for _, d := range t.dirs {
			for _, e := range d.entries {
				if seen[e.file] || e.susp != nil && e.susp.child != 0 {
					continue
				}
				seen[e.file] = true
				list = append(list, SkippedFile{joined(d.path, e.name), im.content(e.file)})
			}
		}
	}
	return list
}

// mark marks the files at n and below it.
func (n *node9660) mark(seen map[*fileExtents]bool) {
	seen[n.file] = true
	for _, c := range n.children {
		c.mark(seen)
	}
}

// HardDisks are the FAT file systems in the partitions of the disks that El Torito has the BIOS emulate. Each has its
// boot image's name. A disk that has none is there itself: it is not understood.
func (im *Image) HardDisks() ([]FAT, error) {
	var list []FAT
	for _, e := range im.bootImages() {
		if im.catalog.raw[e.at+1]&0x0F != mediaHardDisk {
			continue
		}
		disk := FAT{e.String(), e.pos, io.NewSectionReader(im.r, e.pos, im.size-e.pos)}
		if e.file != nil && len(e.file.pieces) == 1 {
			disk = FAT{e.file.path, e.pos, im.content(e.file)}
		}
		fats, err := im.partitionFATs(disk)
		if err != nil {
			return nil, err
		}
		if len(fats) == 0 {
			fats = []FAT{disk}
		}
		list = append(list, fats...)
	}
	return list, nil
}

// partitionFATs are those in the MBR's partitions of a disk in the image.
func (im *Image) partitionFATs(disk FAT) (list []FAT, err error) {
	if disk.Size() < blockSize {
		return nil, nil
	}
	mbr, err := im.bytesAt(disk.Name, disk.Pos, blockSize)
	if err != nil || mbr[510] != 0x55 || mbr[511] != 0xAA {
		return nil, err
	}
	for at := mbrTable; at < 510; at += mbrEntrySize {
		start, size := int64(le.Uint32(mbr[at+8:]))*blockSize, int64(le.Uint32(mbr[at+12:]))*blockSize
		if size = min(size, disk.Size()-start); start == 0 || size < blockSize {
			continue
		}
		b, err := im.bytesAt(disk.Name, disk.Pos+start, blockSize)
		if err != nil {
			return nil, err
		}
		if fatedit.IsFAT(b) {
			list = append(list, FAT{disk.Name, disk.Pos + start, io.NewSectionReader(im.r, disk.Pos+start, size)})
		}
	}
	return list, nil
}
