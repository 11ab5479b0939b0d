package squashfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/isopress/isopress/internal/codec"
)

// Metadata blocks are kept in packs of some that follow one another, as one alone is
// small. A pack is named by its first block, and ends before a block whose digest says so:
// behind a change in a table the packs fall into step with those that were kept, where
// the blocks do.
//
//	block: 32 bytes of SHA-256 of its content, 2 bytes of length, that many bytes of it
//	       compressed; a length of 0 is of a block that is stored as it is
const (
	packBlocks    = 32 // on average
	maxPackBlocks = 4 * packBlocks
)

// pack is a row of metadata blocks that are kept together.
type pack struct {
	key    [32]byte
	kept   []packedBlock
	blocks []packedBlock // as they are now
}

// packedBlock is a metadata block without its content.
type packedBlock struct {
	sum        [sha256.Size]byte
	compressed []byte // empty where it is stored as it is
	known      bool   // compressed is valid
}

// add appends a block, with what was kept of it, unless another pack begins with it.
func (p *pack) add(raw []byte) bool {
	sum := sha256.Sum256(raw)
	if len(p.blocks) == maxPackBlocks || int(sum[0]) < 256/packBlocks {
		return false
	}
	p.append(sum, len(raw))
	return true
}

func (p *pack) append(sum [sha256.Size]byte, size int) {
	for _, k := range p.kept {
		if k.sum == sum && len(k.compressed) < size {
			p.blocks = append(p.blocks, k)
			return
		}
	}
	p.blocks = append(p.blocks, packedBlock{sum: sum})
}

// appendTo appends the block as it lies in a table.
func (b *packedBlock) appendTo(out, raw []byte) []byte {
	if len(b.compressed) == 0 {
		out = binary.LittleEndian.AppendUint16(out, uint16(len(raw))|metadataRaw)
		return append(out, raw...)
	}
	out = binary.LittleEndian.AppendUint16(out, uint16(len(b.compressed)))
	return append(out, b.compressed...)
}

// metadataPress compresses the metadata blocks of all tables, and keeps them where there
// is a cache.
type metadataPress struct {
	opts   *Options
	prefix []byte        // of the packs' keys
	blocks []codec.Block // of the workers; made when they are wanted
	memory [][]byte
}

func newMetadataPress(o *Options) *metadataPress {
	return &metadataPress{opts: o, prefix: fmt.Appendf(nil, "metadata of %s", newBlockKeys(o).prefix),
		blocks: make([]codec.Block, o.Workers), memory: make([][]byte, o.Workers)}
}

func (m *metadataPress) close() {
	for _, b := range m.blocks {
		if b != nil {
			b.Close()
		}
	}
}

// fill compresses those of the blocks that are not known, several at a time.
func (m *metadataPress) fill(blocks []packedBlock, raw [][]byte) error {
	var missing []int
	for i := range blocks {
		if !blocks[i].known {
			missing = append(missing, i)
		}
	}
	if len(missing) == 1 {
		return m.compress(0, &blocks[missing[0]], raw[missing[0]])
	}
	var g errgroup.Group
	var next atomic.Int64
	for worker := range min(len(m.blocks), len(missing)) {
		g.Go(func() error {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(missing) {
					return nil
				}
				if err := m.compress(worker, &blocks[missing[n]], raw[missing[n]]); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// compress is called by one goroutine at a time for each worker.
func (m *metadataPress) compress(worker int, b *packedBlock, raw []byte) error {
	if m.blocks[worker] == nil {
		block, err := m.opts.newBlock()
		if err != nil {
			return err
		}
		m.blocks[worker] = block
	}
	out, err := m.blocks[worker].Compress(m.memory[worker], raw)
	if err != nil {
		return err
	}
	if out != nil {
		m.memory[worker] = out[:0]
		b.compressed = bytes.Clone(out)
	}
	return nil
}

// load begins a pack with a block, and with what was kept of it.
func (m *metadataPress) load(first []byte) *pack {
	sum := sha256.Sum256(first)
	p := &pack{key: sha256.Sum256(append(slices.Clip(m.prefix), sum[:]...))}
	if m.opts.Blocks != nil {
		p.kept = parsePack(m.opts.Blocks.Load(p.key, nil))
	}
	p.append(sum, len(first))
	return p
}

// save keeps a pack that holds blocks which were not known.
func (m *metadataPress) save(p *pack) {
	if m.opts.Blocks == nil {
		return
	}
	var out []byte
	fresh := false
	for _, b := range p.blocks {
		out = append(out, b.sum[:]...)
		out = binary.LittleEndian.AppendUint16(out, uint16(len(b.compressed)))
		out = append(out, b.compressed...)
		fresh = fresh || !b.known
	}
	if fresh {
		m.opts.Blocks.Save(p.key, out)
	}
}

// parsePack reads what save has kept; of what is no pack it knows nothing.
func parsePack(data []byte) (blocks []packedBlock) {
	const head = sha256.Size + 2
	for len(data) > 0 {
		if len(data) < head || len(blocks) == maxPackBlocks {
			return nil
		}
		end := head + int(binary.LittleEndian.Uint16(data[sha256.Size:]))
		if end > len(data) {
			return nil
		}
		blocks = append(blocks, packedBlock{[sha256.Size]byte(data), data[head:end:end], true})
		data = data[end:]
	}
	return blocks
}
