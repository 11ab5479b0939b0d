package squashfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
)

// metadataWriter cuts a table into blocks of 8 KiB, each compressed behind a
// 16-bit header with its length. The result is kept: tables are a fraction of a
// per cent of an image.
type metadataWriter struct {
	press *metadataPress
	buf   []byte // the open block
	out   []byte
	plain bool  // blocks of what is written now are stored as they are
	whole bool  // the open block is such a one
	pack  *pack // that the blocks are kept in; nil before the first
}

// ref is the place of the next byte to be written. An error has no prefix: the
// caller knows the file.
func (m *metadataWriter) ref() (inodeRef, error) {
	if uint64(len(m.out)) > math.MaxUint32 {
		return 0, fmt.Errorf("%w: a table over 4 GiB", ErrTooLarge)
	}
	return makeRef(uint32(len(m.out)), uint16(len(m.buf))), nil
}

func (m *metadataWriter) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), metadataSize-len(m.buf))
		m.buf = append(m.buf, b[:n]...)
		m.whole = m.whole || m.plain
		b = b[n:]
		// A full block ends at once: a place is never at offset 8192 of one.
		if len(m.buf) == metadataSize {
			if err := m.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush ends the open block.
func (m *metadataWriter) flush() error {
	if len(m.buf) == 0 {
		return nil
	}
	if m.whole {
		m.out = new(packedBlock).appendTo(m.out, m.buf)
		m.buf, m.whole = m.buf[:0], false
		return nil
	}
	if m.pack == nil || !m.pack.add(m.buf) {
		if m.pack != nil {
			m.press.save(m.pack)
		}
		m.pack = m.press.load(m.buf)
	}
	last := len(m.pack.blocks) - 1
	if err := m.press.fill(m.pack.blocks[last:], [][]byte{m.buf}); err != nil {
		return err
	}
	m.out = m.pack.blocks[last].appendTo(m.out, m.buf)
	m.buf = m.buf[:0]
	return nil
}

// end ends the table.
func (m *metadataWriter) end() error {
	err := m.flush()
	if err == nil && m.pack != nil {
		m.press.save(m.pack)
		m.pack = nil
	}
	return err
}

// tableWriter appends tables to the image.
type tableWriter struct {
	w     io.WriterAt
	pos   uint64 // end of what is written
	press *metadataPress
}

func (e *tableWriter) metadata() *metadataWriter {
	return &metadataWriter{press: e.press, buf: make([]byte, 0, metadataSize)}
}

func (e *tableWriter) raw(b []byte) error {
	_, err := e.w.WriteAt(b, int64(e.pos))
	e.pos += uint64(len(b))
	return err
}

// flush ends m and writes it.
func (e *tableWriter) flush(m *metadataWriter) error {
	if err := m.end(); err != nil {
		return err
	}
	return e.raw(m.out)
}

// blocks writes b as metadata and returns the index of its blocks: a 64-bit
// position each. The blocks do not tell of each other's places, and are compressed
// several at a time.
func (e *tableWriter) blocks(b []byte) (index []byte, err error) {
	var out []byte
	for rest := slices.Collect(slices.Chunk(b, metadataSize)); len(rest) > 0; {
		p := e.press.load(rest[0])
		for len(p.blocks) < len(rest) && p.add(rest[len(p.blocks)]) {
		}
		if err := e.press.fill(p.blocks, rest); err != nil {
			return nil, err
		}
		for i := range p.blocks {
			index = binary.LittleEndian.AppendUint64(index, e.pos+uint64(len(out)))
			out = p.blocks[i].appendTo(out, rest[i])
		}
		e.press.save(p)
		rest = rest[len(p.blocks):]
	}
	return index, e.raw(out)
}

// indexed writes b as metadata with its index behind, and returns the index's
// position, which the superblock holds.
func (e *tableWriter) indexed(b []byte) (start uint64, err error) {
	index, err := e.blocks(b)
	if err != nil {
		return 0, err
	}
	start = e.pos
	return start, e.raw(index)
}
