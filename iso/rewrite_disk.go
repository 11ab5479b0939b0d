package iso

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math"
)

// writeBoot writes the boot catalog, what boot images are told of where they lie, and the system area.
func (w *rewriter) writeBoot() error {
	if c := w.im.catalog; c != nil {
		for _, e := range c.entries {
			if err := w.writeBootImage(c, e); err != nil {
				return err
			}
		}
	}
	return w.writeSystemArea()
}

// writeBootImage corrects an entry of the boot catalog, and the boot image.
func (w *rewriter) writeBootImage(c *catalog, e *bootImage) error {
	pos, size := w.m.start(e.pos), e.size()
	field := bytes.Clone(c.raw[e.at+6 : e.at+12])
	if k := w.replaced[e.file]; k != nil {
		if whole := roundUp(size, blockSize) / blockSize; e.blocks == whole || e.blocks == 0 {
			blocks := roundUp(k.size, blockSize) / blockSize
			if blocks > math.MaxUint16 {
				blocks = 0 // up to the medium's end
			}
			le.PutUint16(field, u16(blocks))
		}
		size = k.size
	}
	le.PutUint32(field[2:], u32(sector(pos)))
	if !bytes.Equal(field, c.raw[e.at+6:e.at+12]) {
		w.changed[w.im.fileAt(c.pos)] = true
	}
	if err := w.put(w.m.start(c.pos)+int64(e.at)+6, field); err != nil {
		return err
	}
	return w.writeBootInfo(e, pos, size)
}

// writeBootInfo corrects GRUB's pointer and the boot information table; the checksum covers the former.
func (w *rewriter) writeBootInfo(e *bootImage, pos, size int64) error {
	if !e.info && !e.grubInfo || size < bootInfoSum {
		return nil
	}
	switch {
	case w.replaced[e.file] != nil:
	case e.info:
		size = e.length
	case e.file == nil: // its load size may be a part of it
		size = max(size, grubMinElTorito)
	}
	if size > maxGRUB || size > w.m.newSize-pos {
		return fmt.Errorf("iso: %s %w: a boot image of %d bytes", e, ErrUnsupported, size)
	}
	b := make([]byte, size)
	if _, err := w.dst.ReadAt(b, pos); err != nil {
		return fmt.Errorf("iso: %w", err)
	}
	old := bytes.Clone(b)
	if e.grubInfo && size >= grubMinElTorito {
		le.PutUint64(b[grubBootInfo:], uint64(pos/blockSize+grubBootSkip))
	}
	if e.info {
		le.PutUint32(b[bootInfoTable:], systemArea/sectorSize)
		le.PutUint32(b[bootInfoTable+4:], u32(sector(pos)))
		le.PutUint32(b[bootInfoTable+8:], u32(size))
		if e.checked {
			le.PutUint32(b[bootInfoTable+12:], sum32(b[bootInfoSum:]))
		}
	}
	if bytes.Equal(b, old) {
		return nil
	}
	w.changed[e.file] = true
	return w.put(pos, b)
}

// writeSystemArea corrects boot code and partition tables.
func (w *rewriter) writeSystemArea() error {
	s := &w.im.system
	b := bytes.Clone(s.raw)
	if s.code == pointerCode {
		skip := le.Uint64(b[grubMBRLoader:]) - uint64(s.loader.pos/blockSize)
		le.PutUint64(b[grubMBRLoader:], uint64(w.m.start(s.loader.pos)/blockSize)+skip)
	}
	if s.apm != 0 && string(b[:2]) == "ER" { // block 0 of an Apple disk: its size
		if block := int64(be.Uint16(b[2:])); block >= blockSize && w.m.newSize/block <= math.MaxUint32 && int64(be.Uint32(b[4:]))*block == w.im.size {
			be.PutUint32(b[4:], u32(w.m.newSize/block))
		}
	}
	var entries []byte
	if s.gpt != nil {
		entries = bytes.Clone(s.gpt.entries)
	}
	for _, p := range s.parts {
		if err := w.correctPartition(p, b, entries); err != nil {
			return err
		}
	}
	if err := w.put(0, b); err != nil || s.gpt == nil {
		return err
	}
	return w.writeGPT(s.gpt, entries)
}

// correctPartition corrects an entry of a partition table.
func (w *rewriter) correctPartition(p *diskPartition, area, entries []byte) error {
	start, end := w.m.start(p.start), w.m.end(p.end, !p.fs)
	if start == p.start && end == p.end {
		return nil
	}
	end = max(end, start) // of an empty one the end may map ahead
	first, blocks := start/blockSize, (end-start)/blockSize
	if p.table != "GPT" && (first > maxBlock32 || end/blockSize > maxBlock32 && !p.protective) {
		return fmt.Errorf("iso: %s: would end at %d, beyond what its table holds", p, end)
	}
	switch p.table {
	case "GPT":
		le.PutUint64(entries[p.at+32:], uint64(first))
		le.PutUint64(entries[p.at+40:], uint64(end/blockSize-1))
	case "APM":
		e := area[p.at:]
		count := be.Uint32(e[12:])
		be.PutUint32(e[8:], u32(start/w.im.system.apm))
		be.PutUint32(e[12:], u32(roundUp(end-start, w.im.system.apm)/w.im.system.apm))
		if be.Uint32(e[84:]) == count { // data blocks
			copy(e[84:88], e[12:16])
		}
	case "MBR":
		e := area[p.at:]
		if g, ok := w.im.geometry(p); ok {
			g.put(e[1:4], first)
			g.put(e[5:8], first+blocks-1)
		}
		le.PutUint32(e[8:], u32(first))
		if le.Uint32(e[12:]) != math.MaxUint32 {
			le.PutUint32(e[12:], u32(min(blocks, math.MaxUint32)))
		}
	}
	return nil
}

// writeGPT writes both tables. The backup keeps its distance from the end.
func (w *rewriter) writeGPT(g *gptRead, entries []byte) error {
	header := w.gptHeader(g.header, entries)
	if err := w.put(w.m.start(g.pos), entries); err != nil {
		return err
	}
	if err := w.put(blockSize, header); err != nil || g.backup == nil {
		return err
	}
	if err := w.put(w.m.start(g.tablePos), entries); err != nil {
		return err
	}
	return w.put(w.m.start(g.backupPos), w.gptHeader(g.backup, entries))
}

// gptHeader corrects a header's pointers and checksums.
func (w *rewriter) gptHeader(old, entries []byte) []byte {
	b := bytes.Clone(old)
	for _, at := range []int{24, 32, 40, 72} { // MyLBA, AlternateLBA, FirstUsableLBA, PartitionEntryLBA
		le.PutUint64(b[at:], w.mapBlock(le.Uint64(b[at:])))
	}
	le.PutUint64(b[48:], w.mapBlock(le.Uint64(b[48:])+1)-1) // LastUsableLBA
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries))
	sealGPT(b)
	return b
}

// mapBlock maps a block of 512 bytes; what cannot be one stays.
func (w *rewriter) mapBlock(n uint64) uint64 {
	if n > maxImage/blockSize {
		return n
	}
	return uint64(w.m.start(int64(n)*blockSize) / blockSize)
}

// geometry is how a master boot record counts cylinders, heads and sectors, and what it says beyond 1024
// cylinders.
type geometry struct {
	heads, sectors int64
	beyond         int
}

func (g geometry) cylinder() int64 { return g.heads * g.sectors * blockSize }

// put encodes a block number in the three bytes of a partition's entry.
func (g geometry) put(b []byte, block int64) {
	c, h, s := block/g.sectors/g.heads, block/g.sectors%g.heads, block%g.sectors+1
	if c > 1023 {
		c = 1023
		switch g.beyond {
		case 1:
			h, s = g.heads-1, g.sectors
		case 2:
			h, s = 254, 63
		case 3:
			h, s = 255, 63
		}
	}
	b[0], b[1], b[2] = byte(h), byte(s)|byte(c>>8)<<6, byte(c)
}

// geometry finds one by which the entry's start and end are what they are.
func (im *Image) geometry(p *diskPartition) (geometry, bool) {
	if p.table != "MBR" || p.end <= p.start {
		return geometry{}, false
	}
	e := im.system.raw[p.at:][:mbrEntrySize]
	for _, hs := range [][2]int64{{int64(e[5]) + 1, int64(e[6] & 63)}, {64, 32}, {255, 63}, {255, 32}, {128, 32}, {16, 63}} {
		for beyond := range 4 {
			g := geometry{hs[0], hs[1], beyond}
			if g.sectors == 0 || g.heads > 256 {
				continue
			}
			var first, last [3]byte
			g.put(first[:], p.start/blockSize)
			g.put(last[:], p.end/blockSize-1)
			if bytes.Equal(first[:], e[1:4]) && bytes.Equal(last[:], e[5:8]) {
				return g, true
			}
		}
	}
	return geometry{}, false
}
