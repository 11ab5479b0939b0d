package iso

import "bytes"

// A hybrid image has an HFS+ volume laid over its files, for Macs: a catalog of its own ahead of them, which names the
// blocks that they lie in, and a map of used blocks behind them (Apple's Technical Note TN1150; libisofs, hfsplus.c,
// which grub-mkrescue has xorriso use).

const (
	hfsHeader     = 1024 // of the volume, from its start and again from its end
	hfsHeaderSize = 512
	hfsForkSize   = 80
	hfsExtents    = 8   // in a fork
	hfsFileFork   = 88  // the data fork in a file's record; the resource fork follows
	hfsFileRecord = 248 // bytes
	hfsFile       = 2   // a record's type
	hfsLeaf       = -1  // a node's kind

	hfsTotalBlocks    = 44 // in the header, then free blocks
	hfsAllocationFork = 112
	hfsExtentsFork    = 192
	hfsCatalogFork    = 272
	hfsAttributesFork = 352
	hfsStartupFork    = 432
)

// hfsVolume is one as libisofs writes it: full, in order, and of no more than catalog and map.
type hfsVolume struct {
	start, end int64 // in the image
	block      int64 // bytes
	header     []byte
	catalog    piece
	bitmap     piece // the map of used blocks
	forks      []hfsFork
}

// hfsFork is where a file's content lies, by the catalog.
type hfsFork struct {
	at     int64 // of the fork in the image
	raw    []byte
	pieces []piece
}

// readHFS reads the HFS+ volume of a partition. It is nil where there is none that a rewrite could keep right.
func (im *Image) readHFS(p *diskPartition) (*hfsVolume, error) {
	if p.start%sectorSize != 0 || p.end > im.size || p.end-p.start < 4*hfsHeader {
		return nil, nil
	}
	header, err := im.bytesAt("HFS+", p.start+hfsHeader, hfsHeaderSize)
	if err != nil {
		return nil, err
	}
	twin, err := im.bytesAt("HFS+", p.end-hfsHeader, hfsHeaderSize)
	if err != nil {
		return nil, err
	}
	v := &hfsVolume{start: p.start, end: p.end, header: header, block: int64(be.Uint32(header[40:]))}
	if string(header[:4]) != "H+\x00\x04" || !bytes.Equal(header, twin) || !v.plain() {
		return nil, nil
	}
	return im.readHFSCatalog(v)
}

// plain wants what libisofs makes: no free blocks, no attributes, no journal.
func (v *hfsVolume) plain() bool {
	const journaled = 1 << 13
	h := v.header
	if v.block < blockSize || v.block > sectorSize || v.block&(v.block-1) != 0 || int64(be.Uint32(h[hfsTotalBlocks:]))*v.block != v.end-v.start {
		return false
	}
	if be.Uint32(h[hfsTotalBlocks+4:]) != 0 || be.Uint32(h[4:])&journaled != 0 {
		return false
	}
	for _, at := range []int{hfsAttributesFork, hfsStartupFork} {
		if be.Uint32(h[at+12:]) != 0 {
			return false
		}
	}
	catalog, bitmap, extents := v.fork(0, h[hfsCatalogFork:]), v.fork(0, h[hfsAllocationFork:]), v.fork(0, h[hfsExtentsFork:])
	if len(catalog.pieces) != 1 || len(bitmap.pieces) != 1 || len(extents.pieces) > 1 || !v.holds(catalog) || !v.holds(bitmap) || !v.holds(extents) {
		return false
	}
	v.catalog, v.bitmap = catalog.pieces[0], bitmap.pieces[0]
	for _, e := range extents.pieces {
		v.catalog.size = max(v.catalog.size, e.pos+e.size-v.catalog.pos)
	}
	return v.catalog.size <= maxDirectoryBytes && v.catalog.pos > v.start+hfsHeader && v.catalog.pos+v.catalog.size <= v.bitmap.pos && v.bitmap.pos+v.bitmap.size <= v.end-hfsHeader
}

// fork is one that lies at a place of the image.
func (v *hfsVolume) fork(at int64, raw []byte) hfsFork {
	f := hfsFork{at: at, raw: raw[:hfsForkSize]}
	for i := range hfsExtents {
		e := raw[16+8*i:]
		if n := int64(be.Uint32(e[4:])); n > 0 {
			f.pieces = append(f.pieces, piece{v.start + int64(be.Uint32(e))*v.block, n * v.block})
		}
	}
	return f
}

// holds tells whether all blocks of a fork are in it, and none in the extents file, and all are in the volume.
func (v *hfsVolume) holds(f hfsFork) bool {
	blocks := int64(0)
	for _, p := range f.pieces {
		blocks += p.size / v.block
		if p.pos+p.size > v.end {
			return false
		}
	}
	return blocks == int64(be.Uint32(f.raw[12:]))
}

// readHFSCatalog collects the forks of all files: those of the B-tree's leaves.
func (im *Image) readHFSCatalog(v *hfsVolume) (*hfsVolume, error) {
	b, err := im.bytesAt("HFS+'s catalog", v.catalog.pos, v.catalog.size)
	if err != nil {
		return nil, nil // beyond the end
	}
	const headerRecord = 14
	node := int64(be.Uint16(b[headerRecord+18:]))
	if node < blockSize {
		return nil, nil
	}
	for n := range v.catalog.size / node {
		if !v.readNode(b[n*node:][:node], v.catalog.pos+n*node) {
			return nil, nil
		}
	}
	return v, nil
}

// readNode takes the files' forks of a leaf.
func (v *hfsVolume) readNode(b []byte, pos int64) bool {
	if int8(b[8]) != hfsLeaf {
		return true
	}
	count, last := int(be.Uint16(b[10:])), 0
	if 2*count > len(b)-14 {
		return false
	}
	for i := range count {
		at := int(be.Uint16(b[len(b)-2*i-2:]))
		if at < last || at+2 > len(b) {
			return false
		}
		at += 2 + int(be.Uint16(b[at:])) // behind the key
		if at+2 > len(b) || be.Uint16(b[at:]) != hfsFile {
			continue
		}
		if at+hfsFileRecord > len(b) || be.Uint32(b[at+hfsFileFork+hfsForkSize+12:]) != 0 {
			return false
		}
		f := v.fork(pos+int64(at+hfsFileFork), b[at+hfsFileFork:])
		if !v.holds(f) {
			return false
		}
		v.forks = append(v.forks, f)
		last = at + hfsFileRecord
	}
	return true
}

// claims are what the volume says of the image, but for its end.
func (v *hfsVolume) claims() []claim {
	list := []claim{
		{v.start, v.start + hfsHeader + hfsHeaderSize, "HFS+'s header", solid, nil},
		{v.catalog.pos, v.catalog.pos + v.catalog.size, "HFS+'s catalog", solid, nil},
	}
	for _, f := range v.forks {
		for _, p := range f.pieces {
			list = append(list, claim{p.pos, p.pos + p.size, "a file of HFS+", aliased, nil})
		}
	}
	return list
}
