package squashfs

import "iter"

// Block is one block of data that a plan's image will have: one of a file's content, or a fragment block,
// which holds small files and the tails of larger ones. Blocks of zero bytes are none.
type Block struct {
	run, index int // of the run's contents; 0 for a fragment block
	size       int
}

// Size of the block's content, in bytes.
func (b Block) Size() int { return b.size }

// Blocks are the blocks of the image's data, in its order, but for those of [Options.Raw]: what there is to compress.
func (p *Plan) Blocks() []Block {
	blocks := make([]Block, 0, p.stats.Blocks+p.stats.FragmentBlocks)
	for i := range p.runs {
		r := &p.runs[i]
		if r.parts != nil {
			n := 0
			for _, t := range r.parts {
				n += p.partLen(t)
			}
			blocks = append(blocks, Block{run: i, size: n})
			continue
		}
		if r.first.raw {
			continue
		}
		for k, d := range r.first.blocks.digests {
			if d != (digest{}) {
				blocks = append(blocks, Block{i, k, p.partLen(part{r.first, k})})
			}
		}
	}
	return blocks
}

// Digest is the SHA-256 of a block that is one of a file's content, and zeros of a fragment block.
func (p *Plan) Digest(b Block) [32]byte {
	if r := &p.runs[b.run]; r.parts == nil {
		return r.first.blocks.digests[b.index].sum
	}
	return [32]byte{}
}

// IsFragment tells whether a block of the plan holds small files and tails.
func (p *Plan) IsFragment(b Block) bool { return p.runs[b.run].parts != nil }

// ReadBlock reads a block's content into buf's memory where it fits. It may be called
// from several goroutines at once, before [Plan.Write]. Whether the files changed since they were indexed
// is not looked at, but for their lengths.
func (p *Plan) ReadBlock(b Block, buf []byte) ([]byte, error) {
	if cap(buf) < b.size {
		buf = make([]byte, b.size)
	}
	buf = buf[:b.size]
	r := &p.runs[b.run]
	parts := r.parts
	if parts == nil {
		parts = []part{{r.first, b.index}}
	}
	at := 0
	for _, t := range parts {
		n := p.partLen(t)
		if err := p.readTail(t, buf[at:at+n]); err != nil {
			return nil, err
		}
		at += n
	}
	return buf, nil
}

// PlannedFile is a name of a regular file with the blocks that hold its content.
type PlannedFile struct {
	Path   string
	Size   int64
	Blocks []int // indexes into what [Plan.Blocks] returned, in the content's order; valid until the next file
}

// Files yields the regular files in the order of a walk by names, each name once. The list is that of
// [Plan.Blocks].
func (p *Plan) Files(list []Block) iter.Seq[PlannedFile] {
	f := fileBlocks{plan: p, first: map[*blocks]int{}}
	for i, b := range list {
		r := &p.runs[b.run]
		if r.parts != nil {
			f.fragments = append(f.fragments, i)
		} else if b.index == r.first.blocks.first {
			f.first[r.first.blocks] = i
		}
	}
	return func(yield func(PlannedFile) bool) { f.walk(p.root, yield) }
}

// fileBlocks finds the blocks of files.
type fileBlocks struct {
	plan      *Plan
	first     map[*blocks]int // where in the list those lie that are stored
	fragments []int           // where in the list the fragment blocks lie, in their order
	buf       []int
}

func (f *fileBlocks) walk(dir *inode, yield func(PlannedFile) bool) bool {
	for _, e := range dir.entries {
		switch n := e.node; n.kind {
		case typeDir:
			if !f.walk(n, yield) {
				return false
			}
		case typeFile:
			name := e.name
			if dir.dir != nil {
				name = dir.path() + "/" + name
			}
			if !yield(PlannedFile{name, n.content.size, f.of(n.content)}) {
				return false
			}
		}
	}
	return true
}

// of lists the blocks of a content, the tail's last.
func (f *fileBlocks) of(c *content) []int {
	f.buf = f.buf[:0]
	if b := c.blocks; b != nil {
		in, skip := b, 0
		if b.base != nil {
			in, skip = b.base, b.at
		}
		if i, ok := f.first[in]; ok {
			for k, d := range in.digests[:skip+len(b.digests)] {
				if d == (digest{}) {
					continue
				}
				if k >= skip {
					f.buf = append(f.buf, i)
				}
				i++
			}
		}
	}
	if c.tail != noTail {
		f.buf = append(f.buf, f.fragments[f.plan.tails[c.tail].block])
	}
	return f.buf
}
