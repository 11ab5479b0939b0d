package iso

import (
	"bytes"
	"fmt"
)

// checkHFS refuses what the HFS+ volume's catalog could not tell of.
func (w *rewriter) checkHFS() error {
	v := w.im.hfs
	if v == nil {
		return nil
	}
	if v.bitmap.pos < w.content {
		return fmt.Errorf("iso: image %w: its files go beyond those of HFS+", ErrUnsupported)
	}
	for _, f := range v.forks {
		for _, p := range f.pieces {
			if k := w.cutAt(p.pos); k != nil && len(f.pieces) > 1 {
				return fmt.Errorf("iso: /%s %w: it has several extents in HFS+", k.path, ErrUnsupported)
			}
		}
	}
	return nil
}

// cutAt is what begins at a position of the old image and is replaced, or nil.
func (w *rewriter) cutAt(pos int64) *replacement {
	for _, k := range w.cuts {
		if k.start == pos {
			return k
		}
	}
	return nil
}

// growHFS leaves room, behind the files, for what HFS+'s map of used blocks grows by.
func (w *rewriter) growHFS() error {
	v := w.im.hfs
	if v == nil || !w.changes {
		return nil
	}
	// At most: the end has to be aligned, and the map itself takes blocks.
	blocks := (v.end - v.start + max(w.at-w.content, 0) + 2*maxUnit) / v.block
	w.hfsMap = max(v.bitmap.size, roundUp(blocks/8+1, v.block))
	return w.zeroTo(w.at + roundUp(w.hfsMap-v.bitmap.size, sectorSize))
}

// writeHFS corrects the HFS+ volume's catalog, its map of used blocks, and both headers.
func (w *rewriter) writeHFS() error {
	v := w.im.hfs
	if v == nil || !w.changes {
		return nil
	}
	start, end := w.m.start(v.start), w.m.end(v.end, true)
	for _, f := range v.forks {
		if err := w.put(w.m.start(f.at), w.moveFork(v, start, f)); err != nil {
			return err
		}
	}
	total := (end - start) / v.block
	header := bytes.Clone(v.header)
	be.PutUint32(header[hfsTotalBlocks:], u32(total))
	for _, at := range []int{hfsExtentsFork, hfsCatalogFork} {
		copy(header[at:], w.moveFork(v, start, v.fork(0, header[at:])))
	}
	bitmap := w.m.start(v.bitmap.pos) - (w.hfsMap - v.bitmap.size)
	putFork(header[hfsAllocationFork:], (total+7)/8, (bitmap-start)/v.block, w.hfsMap/v.block)
	for _, pos := range []int64{start + hfsHeader, end - hfsHeader} {
		if err := w.put(pos, header); err != nil {
			return err
		}
	}
	return w.writeHFSMap(bitmap, total)
}

// moveFork is a fork as the new image has it, in a volume that begins at start.
func (w *rewriter) moveFork(v *hfsVolume, start int64, f hfsFork) []byte {
	b := bytes.Clone(f.raw)
	if len(f.pieces) == 1 {
		if k := w.cutAt(f.pieces[0].pos); k != nil {
			putFork(b, k.size, (k.pos-start)/v.block, roundUp(k.size, v.block)/v.block)
			return b
		}
	}
	for i := range hfsExtents {
		if e := b[16+8*i:]; be.Uint32(e[4:]) > 0 {
			old := v.start + int64(be.Uint32(e))*v.block
			be.PutUint32(e, u32((w.m.start(old)-start)/v.block))
		}
	}
	return b
}

// putFork sets a fork of one extent.
func putFork(b []byte, size, block, count int64) {
	be.PutUint64(b, uint64(size))
	be.PutUint32(b[12:], u32(count))
	clear(b[16:hfsForkSize])
	if count > 0 {
		be.PutUint32(b[16:], u32(block))
		be.PutUint32(b[20:], u32(count))
	}
}

// writeHFSMap writes a map in which all blocks are used.
func (w *rewriter) writeHFSMap(pos, blocks int64) error {
	for at := int64(0); at < w.hfsMap; {
		b := w.buf[:min(w.hfsMap-at, int64(len(w.buf)))]
		for i := range b {
			used := min(max(blocks-8*(at+int64(i)), 0), 8)
			b[i] = ^byte(0xFF >> used)
		}
		if err := w.put(pos+at, b); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return nil
}
