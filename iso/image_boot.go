package iso

import (
	"bytes"
	"fmt"
)

// maxCatalog is how much of a boot catalog is read: 31 sections of an entry each, and more.
const maxCatalog = sectorSize

// catalog is El Torito's boot catalog as it was read.
type catalog struct {
	records []int64 // the boot record volume descriptors
	pos     int64
	raw     []byte
	entries []*bootImage
}

// bootImage is an entry of the catalog.
type bootImage struct {
	at     int // in the catalog
	pos    int64
	blocks int64        // as recorded, of 512 bytes
	file   *fileExtents // nil if none begins there

	info     bool  // there is a boot information table,
	length   int64 // with this length
	checked  bool  // and a checksum that is right
	grubInfo bool  // GRUB's own pointer, at 2548
}

// readCatalog reads the boot catalog, if there is one.
func (im *Image) readCatalog() error {
	c := im.catalog
	if c == nil {
		return nil
	}
	n := min(maxCatalog, im.size-c.pos)
	if n < 64 {
		return damaged("the boot catalog at %d", c.pos)
	}
	var err error
	if c.raw, err = im.bytesAt("boot catalog", c.pos, n); err != nil {
		return err
	}
	if c.raw[0] != 1 || catalogChecksum(c.raw[:32]) != 0 {
		return damaged("the boot catalog's validation entry")
	}
	if !c.split() {
		im.refuse("its boot catalog has more than %d bytes", maxCatalog)
	}
	for _, e := range c.entries {
		if err := im.within("boot image", e.pos, 0); err != nil {
			return err
		}
		e.file = im.fileAt(e.pos)
		if err := im.readBootInfo(e); err != nil {
			return err
		}
	}
	return nil
}

// split finds the entries: the default one, then sections (El Torito figures 3-6).
func (c *catalog) split() (whole bool) {
	c.add(32)
	for at := 64; at+32 <= len(c.raw); {
		header := c.raw[at : at+32]
		if header[0] != 0x90 && header[0] != 0x91 {
			return true
		}
		at += 32
		n := int(le.Uint16(header[2:]))
		for ; n > 0 && at+32 <= len(c.raw); at += 32 {
			if c.raw[at] == 0x44 { // an entry's extension
				continue
			}
			c.add(at)
			n--
		}
		if n > 0 {
			return false
		}
		for at+32 <= len(c.raw) && c.raw[at] == 0x44 {
			at += 32
		}
		if header[0] == 0x91 {
			return true
		}
	}
	return false
}

func (c *catalog) add(at int) {
	e := &bootImage{at: at, blocks: int64(le.Uint16(c.raw[at+6:])), pos: int64(le.Uint32(c.raw[at+8:])) * sectorSize}
	if e.pos != 0 {
		c.entries = append(c.entries, e)
	}
}

// fileAt is the largest file that begins at a position.
func (im *Image) fileAt(pos int64) (f *fileExtents) {
	for key, c := range im.files {
		if key.pos == pos && (f == nil || c.size > f.size) {
			f = c
		}
	}
	return f
}

// size is how many bytes of the image are known to be the boot image's.
func (e *bootImage) size() int64 {
	if e.file != nil && len(e.file.pieces) == 1 {
		return e.file.size
	}
	return e.blocks * blockSize
}

// readBootInfo looks for what a boot image is told of where it lies.
func (im *Image) readBootInfo(e *bootImage) error {
	if e.pos+grubMinElTorito > im.size {
		return nil
	}
	head, err := im.bytesAt("boot image", e.pos, grubMinElTorito)
	if err != nil {
		return err
	}
	e.grubInfo = le.Uint64(head[grubBootInfo:]) == uint64(e.pos/blockSize+grubBootSkip)
	length := int64(le.Uint32(head[bootInfoTable+8:]))
	e.length = length
	e.info = le.Uint32(head[bootInfoTable:]) == systemArea/sectorSize && int64(le.Uint32(head[bootInfoTable+4:])) == e.pos/sectorSize
	e.info = e.info && length >= bootInfoSum && length <= maxGRUB && length <= im.size-e.pos
	if !e.info {
		return nil
	}
	b, err := im.bytesAt("boot image", e.pos, length)
	if err != nil {
		return err
	}
	e.checked = le.Uint32(head[bootInfoTable+12:]) == sum32(b[bootInfoSum:])
	return nil
}

// bootCode is whose code the master boot record has.
type bootCode int

const (
	noCode bootCode = iota
	unknownCode
	pointerCode // isolinux's or GRUB's: 64 bits at 432 name a boot image
)

// readBootPointers looks for the loader that the master boot record's code names.
func (im *Image) readBootPointers() error {
	s := &im.system
	mbr := s.raw[:blockSize]
	if !bytes.HasSuffix(mbr, []byte{0x55, 0xAA}) || len(bytes.Trim(mbr[:mbrSignature], "\x00")) == 0 {
		return nil
	}
	s.code = unknownCode
	block := le.Uint64(mbr[grubMBRLoader:])
	for _, e := range im.bootImages() {
		if skip := block - uint64(e.pos/blockSize); block != 0 && skip <= grubMBRSkip {
			s.code, s.loader = pointerCode, e
			return nil
		}
	}
	return nil
}

func (im *Image) bootImages() []*bootImage {
	if im.catalog == nil {
		return nil
	}
	return im.catalog.entries
}

func (e *bootImage) String() string {
	if e.file != nil {
		return "/" + e.file.path
	}
	return fmt.Sprintf("boot image at %d", e.pos)
}
