package squashfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/isopress/isopress/internal/codec"
)

// metadataWriter cuts a table into blocks of 8 KiB, each compressed behind a
// 16-bit header with its length. The result is kept: tables are a fraction of a
// per cent of an image.
type metadataWriter struct {
	block codec.Block
	buf   []byte // the open block
	out   []byte
	comp  []byte
}

func newMetadataWriter(block codec.Block) *metadataWriter {
	return &metadataWriter{block: block, buf: make([]byte, 0, metadataSize)}
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

func (m *metadataWriter) flush() error {
	if len(m.buf) == 0 {
		return nil
	}
	c, err := m.block.Compress(m.comp, m.buf)
	if err != nil {
		return err
	}
	if c == nil {
		m.out = binary.LittleEndian.AppendUint16(m.out, uint16(len(m.buf))|metadataRaw)
		m.out = append(m.out, m.buf...)
	} else {
		m.comp = c[:0]
		m.out = binary.LittleEndian.AppendUint16(m.out, uint16(len(c)))
		m.out = append(m.out, c...)
	}
	m.buf = m.buf[:0]
	return nil
}

// tableWriter appends tables to the image.
type tableWriter struct {
	w     io.WriterAt
	pos   uint64 // end of what is written
	block codec.Block
}

func (e *tableWriter) metadata() *metadataWriter { return newMetadataWriter(e.block) }

func (e *tableWriter) raw(b []byte) error {
	_, err := e.w.WriteAt(b, int64(e.pos))
	e.pos += uint64(len(b))
	return err
}

// flush ends m and writes it.
func (e *tableWriter) flush(m *metadataWriter) error {
	if err := m.flush(); err != nil {
		return err
	}
	return e.raw(m.out)
}

// blocks writes b as metadata and returns the index of its blocks: a 64-bit
// position each.
func (e *tableWriter) blocks(b []byte) (index []byte, err error) {
	m := e.metadata()
	for len(b) > 0 {
		n := min(len(b), metadataSize)
		index = binary.LittleEndian.AppendUint64(index, e.pos+uint64(len(m.out)))
		if err := m.write(b[:n]); err != nil {
			return nil, err
		}
		if err := m.flush(); err != nil {
			return nil, err
		}
		b = b[n:]
	}
	return index, e.raw(m.out)
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
