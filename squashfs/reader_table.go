package squashfs

import (
	"encoding/binary"
	"fmt"
)

// readerMeta is an expanded metadata block.
type readerMeta struct {
	data []byte
	next uint64 // position of the block after it
}

// metadata returns the metadata block at pos, which must end by end.
func (r *Reader) metadata(pos, end uint64) (*readerMeta, error) {
	if pos < superblockSize || end > r.sb.bytesUsed || pos+2 < pos || pos+2 > end {
		return nil, fmt.Errorf("%w: metadata block at %d, outside its table", ErrCorrupt, pos)
	}
	m, ok := r.meta.get(pos)
	if !ok {
		var err error
		if m, err = r.readMetadata(pos, end); err != nil {
			return nil, fmt.Errorf("metadata block at %d: %w", pos, err)
		}
		r.meta.add(pos, m, cap(m.data))
	}
	if m.next > end {
		return nil, fmt.Errorf("%w: metadata block at %d reaches out of its table", ErrCorrupt, pos)
	}
	return m, nil
}

func (r *Reader) readMetadata(pos, end uint64) (*readerMeta, error) {
	var header [2]byte
	if err := r.readAt(header[:], pos); err != nil {
		return nil, err
	}
	word := binary.LittleEndian.Uint16(header[:])
	size := uint64(word &^ metadataRaw)
	if size == 0 || size > metadataSize || pos+2+size > end {
		return nil, fmt.Errorf("%w: %d bytes long", ErrCorrupt, size)
	}
	data := make([]byte, metadataSize)
	n, err := r.expand(data, pos+2, size, word&metadataRaw != 0)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: empty", ErrCorrupt)
	}
	return &readerMeta{readerClip(data, n), pos + 2 + size}, nil
}

// readerCursor reads through metadata blocks that follow each other, as though
// the expanded blocks were one stream.
type readerCursor struct {
	r    *Reader
	pos  uint64 // of the block that off is in
	end  uint64 // where the table must have ended
	off  int
	meta *readerMeta // nil until read
}

func (c *readerCursor) read(p []byte) error {
	for len(p) > 0 {
		rest, err := c.peek()
		if err != nil {
			return err
		}
		n := copy(p, rest)
		c.off += n
		p = p[n:]
	}
	return nil
}

// peek returns what is left of the current block, or the next one at its end.
func (c *readerCursor) peek() ([]byte, error) {
	for {
		if c.meta == nil {
			m, err := c.r.metadata(c.pos, c.end)
			if err != nil {
				return nil, err
			}
			c.meta = m
		}
		switch {
		case c.off < len(c.meta.data):
			return c.meta.data[c.off:], nil
		case c.off > len(c.meta.data):
			return nil, fmt.Errorf("%w: offset %d in the metadata block at %d, which has %d bytes",
				ErrCorrupt, c.off, c.pos, len(c.meta.data))
		}
		c.pos, c.off, c.meta = c.meta.next, 0, nil
	}
}

// readerTable is an array of fixed-size entries in metadata blocks, whose
// positions are listed at start.
type readerTable struct {
	r     *Reader
	name  string
	start uint64
	count uint64
	size  int // of an entry, a divisor of metadataSize
	end   uint64
}

// check: the list of positions ends by end.
func (t *readerTable) check() error {
	blocks := (t.count*uint64(t.size) + metadataSize - 1) / metadataSize
	if t.start < superblockSize || t.start > t.end || blocks*8 > t.end-t.start {
		return fmt.Errorf("%w: %s of %d entries at %d, there is room up to %d", ErrCorrupt, t.name, t.count, t.start, t.end)
	}
	return nil
}

// entry reads entry i into p, which is as long as an entry.
func (t *readerTable) entry(i uint32, p []byte) error {
	if uint64(i) >= t.count {
		return fmt.Errorf("%w: entry %d of the %s, which has %d", ErrCorrupt, i, t.name, t.count)
	}
	per := uint32(metadataSize / t.size)
	data, err := t.block(i / per)
	if err != nil {
		return err
	}
	off := int(i%per) * t.size
	if off+t.size > len(data) {
		return fmt.Errorf("%w: %s: entry %d is missing from its block", ErrCorrupt, t.name, i)
	}
	copy(p, data[off:off+t.size])
	return nil
}

// block returns the table's metadata block number n. Its blocks lie before the
// list of their positions.
func (t *readerTable) block(n uint32) ([]byte, error) {
	var word [8]byte
	if err := t.r.readAt(word[:], t.start+8*uint64(n)); err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	pos := binary.LittleEndian.Uint64(word[:])
	if pos < t.r.sb.dirTable {
		return nil, fmt.Errorf("%w: %s: block at %d", ErrCorrupt, t.name, pos)
	}
	m, err := t.r.metadata(pos, t.start)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	return m.data, nil
}

// readTables finds and checks the tables and reads the ids.
func (r *Reader) readTables() error {
	sb := r.sb
	xattrStart, err := r.openXattrs()
	if err != nil {
		return err
	}
	ids := readerTable{r, "id table", sb.idTable, uint64(sb.ids), 4, xattrStart}
	if err := r.readIDs(&ids); err != nil {
		return err
	}
	r.dirEnd = sb.idTable
	if sb.export != invalidBlock {
		r.export = readerTable{r, "export table", sb.export, uint64(sb.inodes), 8, r.dirEnd}
		if err := r.export.check(); err != nil {
			return err
		}
		r.dirEnd = sb.export
	}
	r.frags = readerTable{r, "fragment table", sb.fragTable, uint64(sb.fragments), fragmentSize, r.dirEnd}
	if sb.fragments == 0 {
		return nil
	}
	r.dirEnd = sb.fragTable
	return r.frags.check()
}

func (r *Reader) readIDs(t *readerTable) error {
	if err := t.check(); err != nil {
		return err
	}
	r.ids = make([]uint32, r.sb.ids)
	for i := range r.ids {
		var e [4]byte
		if err := t.entry(uint32(i), e[:]); err != nil {
			return err
		}
		r.ids[i] = binary.LittleEndian.Uint32(e[:])
	}
	return nil
}

// exported returns the place of the inode with the given number, from the table
// that the kernel's NFS export uses.
func (r *Reader) exported(number uint32) (inodeRef, error) {
	var e [8]byte
	if err := r.export.entry(number-1, e[:]); err != nil {
		return 0, err
	}
	return inodeRef(binary.LittleEndian.Uint64(e[:])), nil
}
