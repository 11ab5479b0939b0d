package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/isopress/isopress/internal/codec"
)

// readerDecoder is what one goroutine needs to expand a block.
type readerDecoder struct {
	codec.Decoder
	in []byte // a block as stored
}

// readerBlock names a data or fragment block: its position and its size word,
// bit 24 of which says that it is stored as it is.
type readerBlock struct {
	pos  uint64
	word uint32
}

func (b readerBlock) stored() uint64 { return uint64(b.word & blockSizeMask) }
func (b readerBlock) raw() bool      { return b.word&blockRaw != 0 }

// openDecoder makes the first decoder, to learn whether the compression is known.
func (r *Reader) openDecoder() error {
	dec, err := r.newDecoder()
	if err != nil {
		return fmt.Errorf("the image uses %s: %w", r.sb.algorithm, err)
	}
	r.decoders.Put(dec)
	return nil
}

func (r *Reader) newDecoder() (*readerDecoder, error) {
	dec, err := codec.NewDecoder(r.sb.algorithm.engine())
	return &readerDecoder{Decoder: dec}, err
}

// readAt fills p from the image. A source that ends early is a corrupt image,
// any other failure is the source's own.
func (r *Reader) readAt(p []byte, pos uint64) error {
	n, err := r.src.ReadAt(p, int64(pos))
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: cut off at %d", ErrCorrupt, pos+uint64(n))
	}
	return fmt.Errorf("reading at %d: %w", pos, err)
}

// expand reads stored bytes at pos and expands them into dst. It returns how
// many bytes of dst they filled; more than dst holds is an error.
func (r *Reader) expand(dst []byte, pos, stored uint64, raw bool) (int, error) {
	if raw {
		if stored > uint64(len(dst)) {
			return 0, fmt.Errorf("%w: %d bytes where %d are expected", ErrCorrupt, stored, len(dst))
		}
		return int(stored), r.readAt(dst[:stored], pos)
	}
	d, err := r.takeDecoder()
	if err != nil {
		return 0, err
	}
	defer r.decoders.Put(d)
	if uint64(cap(d.in)) < stored {
		d.in = make([]byte, stored)
	}
	d.in = d.in[:stored]
	if err := r.readAt(d.in, pos); err != nil {
		return 0, err
	}
	n, err := d.Decode(dst, d.in)
	if err != nil && !errors.Is(err, ErrUnsupported) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return n, err
}

func (r *Reader) takeDecoder() (*readerDecoder, error) {
	if d, ok := r.decoders.Get().(*readerDecoder); ok {
		return d, nil
	}
	return r.newDecoder()
}

// checkBlock: a block lies inside the image, and takes at most the block size
// there (kernel: squashfs_read_data in block.c, squashfs_block_size).
func (r *Reader) checkBlock(b readerBlock) error {
	switch {
	case b.word>>25 != 0 || b.stored() == 0 || b.stored() > uint64(r.sb.blockSize):
		return fmt.Errorf("%w: block size word %#x", ErrCorrupt, b.word)
	case b.pos < superblockSize || b.pos > r.sb.bytesUsed || b.stored() > r.sb.bytesUsed-b.pos:
		return fmt.Errorf("%w: block of %d bytes at %d, outside the image", ErrCorrupt, b.stored(), b.pos)
	}
	return nil
}

// expandBlock expands a block into dst, which it must fill exactly.
func (r *Reader) expandBlock(dst []byte, b readerBlock) error {
	if err := r.checkBlock(b); err != nil {
		return err
	}
	n, err := r.expand(dst, b.pos, b.stored(), b.raw())
	if err == nil && n != len(dst) {
		err = fmt.Errorf("%w: %d bytes where %d are expected", ErrCorrupt, n, len(dst))
	}
	if err != nil {
		return fmt.Errorf("block at %d: %w", b.pos, err)
	}
	return nil
}

// cachedBlock returns a data block of want bytes.
func (r *Reader) cachedBlock(b readerBlock, want int) ([]byte, error) {
	if data, ok := r.data.get(b); ok {
		if len(data) != want {
			return nil, fmt.Errorf("%w: block at %d: %d bytes where %d are expected", ErrCorrupt, b.pos, len(data), want)
		}
		return data, nil
	}
	data := make([]byte, want)
	if err := r.expandBlock(data, b); err != nil {
		return nil, err
	}
	r.data.add(b, data, cap(data))
	return data, nil
}

// fragment returns fragment block number i.
func (r *Reader) fragment(i uint32) ([]byte, error) {
	var e [fragmentSize]byte
	if err := r.frags.entry(i, e[:]); err != nil {
		return nil, err
	}
	b := readerBlock{
		pos:  binary.LittleEndian.Uint64(e[:]),      // start_block
		word: binary.LittleEndian.Uint32(e[8:][:4]), // size
	}
	if data, ok := r.data.get(b); ok {
		return data, nil
	}
	if err := r.checkBlock(b); err != nil {
		return nil, fmt.Errorf("fragment %d: %w", i, err)
	}
	data := make([]byte, r.sb.blockSize)
	n, err := r.expand(data, b.pos, b.stored(), b.raw())
	if err != nil {
		return nil, fmt.Errorf("fragment %d: block at %d: %w", i, b.pos, err)
	}
	data = readerClip(data, n)
	r.data.add(b, data, cap(data))
	return data, nil
}

// readerClip cuts b to n bytes, and copies them where most of b would be waste.
func readerClip(b []byte, n int) []byte {
	if n < len(b)/2 {
		return append(make([]byte, 0, n), b[:n]...)
	}
	return b[:n:n]
}
