package iso

import (
	"fmt"
	"strings"
)

const (
	descriptorBoot      = 0
	descriptorPartition = 3
)

// descriptor is a primary, Joliet's or an enhanced volume descriptor as it was read.
type descriptor struct {
	pos    int64
	base   int64 // what its block numbers count from
	raw    []byte
	joliet bool
	tree   *tree
}

// tree is a directory hierarchy as it was read.
type tree struct {
	*descriptor
	dirs      []*dirExtent // breadth first, the root first
	rockRidge bool
	skip      int // bytes ahead of each record's system use entries
	tables    [4]int64
	tableSize int64
}

// The path tables' fields in a descriptor: little- and big-endian, each with an optional copy.
var pathTableFields = [4]int{140, 144, 148, 152}

// block is where a block number of the descriptor's points to.
func (d *descriptor) block(n uint32) int64 { return d.base + int64(n)*sectorSize }

// number is the block number for a position.
func (d *descriptor) number(pos int64) int64 { return sector(pos - d.base) }

// readDescriptors reads the set of volume descriptors at pos, whose block numbers count from base.
func (im *Image) readDescriptors(pos, base int64) error {
	begin := pos
	for n := 0; ; n++ {
		if pos+sectorSize > im.size || n == maxDescriptors {
			if n == 0 {
				return fmt.Errorf("%w: %d bytes", ErrNotISO, im.size)
			}
			return damaged("the volume descriptors have no end")
		}
		raw, err := im.bytesAt("volume descriptor", pos, sectorSize)
		if err != nil {
			return err
		}
		if string(raw[1:6]) != "CD001" || n == 0 && raw[0] != descriptorPrimary {
			if n == 0 {
				return ErrNotISO
			}
			return damaged("no volume descriptor at %d", pos)
		}
		d := &descriptor{pos: pos, base: base, raw: raw}
		pos += sectorSize
		if raw[0] == descriptorEnd {
			im.sets = append(im.sets, piece{begin, pos - begin})
			return im.lookBehind(pos)
		}
		if err := im.addDescriptor(d); err != nil {
			return err
		}
	}
}

// addDescriptor takes a descriptor of a set.
func (im *Image) addDescriptor(d *descriptor) error {
	switch d.raw[0] {
	case descriptorBoot:
		im.addCatalog(d)
		return nil
	case descriptorPrimary: // or a copy of it
	case descriptorJoliet:
		escape := string(d.raw[88:91])
		d.joliet = escape == "%/@" || escape == "%/C" || escape == "%/E"
	default:
		im.refuse("a volume descriptor of type %d", d.raw[0])
		return nil
	}
	if size := le.Uint16(d.raw[128:]); size != sectorSize {
		return fmt.Errorf("image %w: blocks of %d bytes", ErrUnsupported, size)
	}
	if le.Uint16(d.raw[120:]) > 1 {
		im.refuse("it is one of a set of several volumes")
	}
	im.descriptors = append(im.descriptors, d)
	return nil
}

// addCatalog takes El Torito's boot record. There may be a copy of it.
func (im *Image) addCatalog(d *descriptor) {
	if !strings.HasPrefix(string(d.raw[7:39]), "EL TORITO SPECIFICATION") || d.base != 0 {
		return
	}
	pos := d.block(le.Uint32(d.raw[71:]))
	switch {
	case im.catalog == nil:
		im.catalog = &catalog{pos: pos}
	case im.catalog.pos != pos:
		im.refuse("it has several boot catalogs")
		return
	}
	im.catalog.records = append(im.catalog.records, d.pos)
}

// lookBehind looks at what follows the descriptors: UDF's of a bridge format, or checksums of libisofs.
func (im *Image) lookBehind(pos int64) error {
	for range 4 {
		if pos+sectorSize > im.size {
			return nil
		}
		raw, err := im.bytesAt("volume descriptor", pos, 16)
		if err != nil {
			return err
		}
		switch id := string(raw[1:6]); {
		case id == "BEA01" || id == "NSR02" || id == "NSR03":
			im.refuse("it is a UDF volume, too")
		case strings.HasPrefix(string(raw), "libisofs_"):
			im.refuse("xorriso's checksums (its option -md5) are in it; have xorriso make it without them")
		}
		pos += sectorSize
	}
	return nil
}

// readSession reads the descriptors of the first session, which lie at sector 48 where xorriso has left room for more
// sessions: those at sector 16 are a copy of the last one's.
func (im *Image) readSession() error {
	const pos = 48 * sectorSize
	if pos+sectorSize > im.size || im.system.startsAt(pos-systemArea) {
		return nil
	}
	raw, err := im.bytesAt("volume descriptor", pos, sectorSize)
	if err != nil || string(raw[:6]) != "\x01CD001" {
		return err
	}
	if string(raw[156:166]) != string(im.descriptors[0].raw[156:166]) {
		im.refuse("it has several sessions")
		return nil
	}
	return im.readDescriptors(pos, 0)
}

// readTree reads a descriptor's path tables and directories.
func (im *Image) readTree(d *descriptor) error {
	t := &tree{descriptor: d, tableSize: int64(le.Uint32(d.raw[132:]))}
	d.tree = t
	if t.tableSize > maxPathTable {
		return damaged("a path table of %d bytes", t.tableSize)
	}
	for i, at := range pathTableFields {
		n := le.Uint32(d.raw[at:])
		if i >= 2 {
			n = be.Uint32(d.raw[at:])
		}
		if n == 0 {
			continue
		}
		t.tables[i] = d.block(n)
		if err := im.within("path table", t.tables[i], t.tableSize); err != nil {
			return err
		}
	}
	im.trees = append(im.trees, t)
	return im.readDirectories(t)
}

// trimmed is a text field without what fills it up.
func trimmed(b []byte) string { return strings.TrimRight(string(b), " \x00") }
