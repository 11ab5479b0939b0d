package squashfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/isopress/isopress/internal/codec"
)

// A Base is an image that was written with [Options.BlockList]: another image takes
// from it the blocks that both have, without compressing them again.
type Base struct {
	r      io.ReaderAt
	setup  [32]byte // what its blocks were made with
	blocks map[blockName]baseBlock
}

// blockName is the beginning of a block's key. What it names is compared with the
// content before it is used.
type blockName [16]byte

type baseBlock struct {
	pos   int64
	size  uint32
	check uint32
}

// ErrNoBlockList is wrapped by [OpenBase]'s error for an image without a block list.
var ErrNoBlockList = errors.New("the image has no list of its blocks")

// The list lies behind the image, at the next multiple of 4096 of its bytes_used, where no
// reader of squashfs looks. All numbers are little-endian:
//
//	16 bytes  "isopress blocks" and a version, 1
//	 4        bytes of entries
//	 4        CRC-32C of what follows
//	32        SHA-256 of what the blocks were made with: compression, engine, block size
//	entries, in the order of the blocks: 16 bytes of the key; as uvarints the bytes from the
//	          end of the block before, and the size; 4 bytes CRC-32C of the block as stored
//
// Blocks that are stored as they are have no entry.
const (
	listMagic  = "isopress blocks\x01"
	listHeader = len(listMagic) + 4 + 4 + sha256.Size
	leastEntry = len(blockName{}) + 1 + 1 + 4
	maxList    = 64 << 20 // bytes of entries, of which a reader makes a map of some times that size
	leastList  = 4        // blocks: an image of fewer is made anew as quickly
)

// listEntry is a block of the image that is written.
type listEntry struct {
	key [32]byte
	at  blockAt
	sum uint32
}

// encodeList is what lies behind the image; nothing, where there are too few blocks, or so
// many that OpenBase would refuse the list: more than two million.
func (k blockKeys) encodeList(entries []listEntry) []byte {
	if len(entries) < leastList || len(entries) > maxList/leastEntry {
		return nil
	}
	le := binary.LittleEndian
	var body []byte
	setup := sha256.Sum256(k.prefix)
	body = append(body, setup[:]...)
	end := uint64(0)
	for _, e := range entries {
		body = append(body, e.key[:len(blockName{})]...)
		body = binary.AppendUvarint(body, e.at.start-end)
		body = binary.AppendUvarint(body, uint64(e.at.size))
		body = le.AppendUint32(body, e.sum)
		end = e.at.start + uint64(e.at.size)
	}
	if len(body)-sha256.Size > maxList {
		return nil
	}
	b := append([]byte(nil), listMagic...)
	b = le.AppendUint32(b, uint32(len(body)-sha256.Size))
	b = le.AppendUint32(b, crc32.Checksum(body, castagnoli))
	b = append(b, body...)
	return append(b, make([]byte, roundUp(int64(len(b)), padding)-int64(len(b)))...)
}

// OpenBase reads the block list of the image at the start of r, of which size bytes are there.
// The image need not be trusted.
func OpenBase(r io.ReaderAt, size int64) (*Base, error) {
	head := make([]byte, superblockSize)
	if size < superblockSize {
		return nil, fmt.Errorf("squashfs: %w: of %d bytes", ErrCorrupt, size)
	}
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("squashfs: %w", err)
	}
	sb, err := decodeSuperblock(head)
	if err != nil {
		return nil, fmt.Errorf("squashfs: %w", err)
	}
	if sb.bytesUsed > uint64(size) {
		return nil, fmt.Errorf("squashfs: %w: cut off at %d", ErrCorrupt, size)
	}
	b := &Base{r: r}
	if err := b.readList(roundUp(int64(sb.bytesUsed), padding), size); err != nil {
		return nil, fmt.Errorf("squashfs: %w", err)
	}
	return b, nil
}

func (b *Base) readList(pos, size int64) error {
	head := make([]byte, listHeader-sha256.Size)
	if pos+int64(listHeader) > size {
		return ErrNoBlockList
	}
	if _, err := b.r.ReadAt(head, pos); err != nil {
		return err
	}
	if !bytes.HasPrefix(head, []byte(listMagic)) {
		return ErrNoBlockList
	}
	le := binary.LittleEndian
	length := int64(le.Uint32(head[len(listMagic):]))
	if length > maxList || length > size-pos-int64(listHeader) {
		return fmt.Errorf("%w: block list of %d bytes", ErrCorrupt, length)
	}
	body := make([]byte, sha256.Size+length)
	if _, err := b.r.ReadAt(body, pos+int64(len(head))); err != nil {
		return err
	}
	if crc32.Checksum(body, castagnoli) != le.Uint32(head[len(listMagic)+4:]) {
		return fmt.Errorf("%w: the block list's checksum is wrong", ErrCorrupt)
	}
	copy(b.setup[:], body)
	return b.parse(body[sha256.Size:], pos)
}

// parse reads the entries; blocks lie ahead of limit.
func (b *Base) parse(list []byte, limit int64) error {
	corrupt := fmt.Errorf("%w: the block list's entries", ErrCorrupt)
	b.blocks = make(map[blockName]baseBlock, len(list)/leastEntry)
	number := func() uint64 {
		v, n := binary.Uvarint(list)
		if n <= 0 {
			list = nil
			return math.MaxUint64
		}
		list = list[n:]
		return v
	}
	for end := uint64(0); len(list) > 0; {
		if len(list) < leastEntry {
			return corrupt
		}
		name := blockName(list)
		list = list[len(name):]
		gap, size := number(), number()
		if gap > uint64(limit) || size == 0 || size > MaxBlockSize || end+gap+size > uint64(limit) || len(list) < 4 {
			return corrupt
		}
		b.blocks[name] = baseBlock{int64(end + gap), uint32(size), binary.LittleEndian.Uint32(list)}
		list = list[4:]
		end += gap + size
	}
	return nil
}

// Fits tells whether an image of these options can take blocks from the base: whether the
// base's were made with the same compression, by the same engine, and of the same block size.
func (b *Base) Fits(o Options) bool {
	o, err := o.withDefaults()
	return err == nil && b.fits(newBlockKeys(&o))
}

func (b *Base) fits(keys blockKeys) bool { return b.setup == sha256.Sum256(keys.prefix) }

// load returns a block as it is stored in the base, or nil. Whether it is what its key says
// is still to be seen.
func (b *Base) load(keys blockKeys, key [32]byte, buf []byte) []byte {
	if b == nil || !b.fits(keys) {
		return nil
	}
	at, ok := b.blocks[blockName(key[:])]
	if !ok {
		return nil
	}
	if cap(buf) < int(at.size) {
		buf = make([]byte, at.size)
	}
	buf = buf[:at.size]
	if _, err := b.r.ReadAt(buf, at.pos); err != nil {
		return nil
	}
	return buf
}

// verifier compares blocks of a base with what they should hold.
type verifier struct {
	codec.Decoder
	buf []byte
}

// holds tells whether stored, of a base, is what was written there and expands to just the
// job's parts. One does not follow from the other: zstd's frames have a bit that no decoder
// looks at.
func (v *verifier) holds(p *Plan, j *job, stored []byte) bool {
	if crc32.Checksum(stored, castagnoli) != p.opts.Base.blocks[blockName(j.key[:])].check {
		return false
	}
	if v.Decoder == nil {
		dec, err := codec.NewDecoder(p.opts.Compression.algorithm().engine())
		if err != nil {
			return false
		}
		v.Decoder, v.buf = dec, make([]byte, p.opts.BlockSize)
	}
	want := p.jobLen(j)
	n, err := v.Decode(v.buf[:want], stored)
	if err != nil || n != want || len(stored) >= want {
		return false
	}
	at := 0
	for _, t := range j.parts {
		end := at + p.partLen(t)
		if digestOf(v.buf[at:end]) != t.digest() {
			return false
		}
		at = end
	}
	return true
}
