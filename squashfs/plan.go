package squashfs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math"
)

// A Plan is a tree that is indexed and laid out, ready to be written. Everything
// about the image's bytes is decided in it; what is left to do is to compress
// and to record where things came to lie.
type Plan struct {
	opts     Options
	fsys     fs.FS
	root     *inode
	inodes   uint32
	xattrs   xattrTable
	ids      idTable
	report   *reporter
	runs     []run // in the order of the image
	contents []*content
	tails    uint32 // number of fragment blocks
	stats    Stats
	written  bool
}

// content is what equal files share.
type content struct {
	source  *inode // the first file that has it: it is read from there
	size    int64
	whole   int // blocks outside fragment blocks, a short last one included
	start   uint64
	blocks  []uint32 // sizes on disk of those blocks, 0 for one of zero bytes
	tail    fragment
	hasTail bool
	sparse  uint64 // bytes in blocks of zero bytes
}

// fragment is a place in a fragment block.
type fragment struct{ block, offset uint32 }

// run is what is written together: the blocks of one content, or one fragment block.
type run struct {
	content *content
	parts   []part // of a fragment block
}

// part is the tail of a content, in a fragment block.
type part struct {
	source *inode
	offset int64
	size   int
	digest digest
}

// Stats count what a plan holds.
type Stats struct {
	Inodes         int64 `json:"inodes"`
	Files          int64 `json:"files"`           // regular, hard links counted once
	Bytes          int64 `json:"bytes"`           // content of regular files
	DuplicateFiles int64 `json:"duplicate_files"` // files whose content another has
	DuplicateBytes int64 `json:"duplicate_bytes"`
	Blocks         int64 `json:"blocks"` // data blocks, without zero ones
	FragmentBlocks int64 `json:"fragment_blocks"`
	PlannedBytes   int64 `json:"planned_bytes"` // content that will be read and compressed
}

// Prepare indexes fsys, which means to read every file once, and lays the image
// out. Names are sorted, and nothing depends on the order of fsys's answers.
func Prepare(ctx context.Context, fsys fs.FS, opts Options) (*Plan, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	root, x, err := index(ctx, fsys, &opts)
	if err != nil {
		return nil, err
	}
	p := &Plan{opts: opts, fsys: fsys, root: root, xattrs: x.xattrs, ids: x.ids, report: x.report}
	l := layouter{plan: p, contents: map[contentKey]*content{}, tails: map[tailKey]fragment{}}
	for _, f := range x.files {
		l.file(f)
	}
	l.endFragment()
	if err := p.number(); err != nil {
		return nil, err
	}
	p.stats.Files = int64(len(x.files))
	p.stats.Inodes = int64(p.inodes)
	return p, nil
}

// Stats of the plan.
func (p *Plan) Stats() Stats { return p.stats }

// contentKey is equal for files of equal content.
type contentKey struct {
	size   int64
	digest digest // of the block, or of the digests of several
}

func keyOf(n *inode) contentKey {
	if len(n.digests) == 1 {
		return contentKey{n.size, n.digests[0]}
	}
	h := sha256.New()
	for i := range n.digests {
		h.Write(n.digests[i][:])
	}
	return contentKey{n.size, digest(h.Sum(nil))}
}

type tailKey struct {
	size   int
	digest digest
}

// layouter puts files into blocks, in the order in which they come.
type layouter struct {
	plan     *Plan
	contents map[contentKey]*content
	tails    map[tailKey]fragment
	open     []part // of the fragment block that is being filled
	fill     int    // bytes in it
}

func (l *layouter) file(n *inode) {
	st := &l.plan.stats
	st.Bytes += n.size
	key := keyOf(n)
	if c := l.contents[key]; c != nil {
		if n.size > 0 {
			st.DuplicateFiles++
			st.DuplicateBytes += n.size
		}
		n.content, n.digests = c, nil
		return
	}
	c := &content{source: n, size: n.size}
	l.contents[key] = c
	n.content = c
	l.plan.contents = append(l.plan.contents, c)

	size := int64(l.plan.opts.BlockSize)
	tail := int(n.size % size)
	c.whole = len(n.digests)
	if tail > 0 && !l.plan.opts.NoFragments {
		c.whole--
		c.hasTail = true
		c.tail = l.addTail(n, tail)
	}
	l.addBlocks(c)
}

// addBlocks plans the blocks outside fragments; a block of zero bytes has none.
func (l *layouter) addBlocks(c *content) {
	stored := 0
	for i := range c.whole {
		n := blockLen(c.size, i, l.plan.opts.BlockSize)
		if c.source.digests[i] == (digest{}) {
			c.sparse += uint64(n)
			continue
		}
		stored++
		l.plan.stats.PlannedBytes += int64(n)
	}
	if c.whole > 0 {
		c.blocks = make([]uint32, c.whole)
	}
	if stored > 0 {
		l.plan.runs = append(l.plan.runs, run{content: c})
		l.plan.stats.Blocks += int64(stored)
	}
}

// blockLen is the length in bytes of block i of a file.
func blockLen(size int64, i, blockSize int) int {
	return int(min(size-int64(i)*int64(blockSize), int64(blockSize)))
}

// addTail gives the last size bytes of n a place in a fragment block, one that
// has the same bytes where there is one.
func (l *layouter) addTail(n *inode, size int) fragment {
	d := n.digests[len(n.digests)-1]
	key := tailKey{size, d}
	if at, ok := l.tails[key]; ok {
		return at
	}
	if l.fill+size > l.plan.opts.BlockSize {
		l.endFragment()
	}
	at := fragment{l.plan.tails, uint32(l.fill)}
	l.open = append(l.open, part{source: n, offset: n.size - int64(size), size: size, digest: d})
	l.fill += size
	l.tails[key] = at
	l.plan.stats.PlannedBytes += int64(size)
	return at
}

// endFragment plans the open fragment block, if there is one.
func (l *layouter) endFragment() {
	if l.fill == 0 {
		return
	}
	l.plan.runs = append(l.plan.runs, run{parts: l.open})
	l.plan.tails++
	l.plan.stats.FragmentBlocks++
	l.open, l.fill = nil, 0
}

// number gives the inodes their numbers: those of one directory in a row, so
// that their differences fit a directory header's 16 bits.
func (p *Plan) number() error {
	queue := []*inode{p.root}
	count := uint64(1)
	p.root.number = 1
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		for _, e := range dir.entries {
			if e.node.number != 0 {
				continue // a further hard link
			}
			if count++; count >= math.MaxUint32 {
				return fmt.Errorf("squashfs: %w: more than %d files", ErrTooLarge, uint32(math.MaxUint32))
			}
			e.node.number = uint32(count)
			if e.node.kind == typeDir {
				queue = append(queue, e.node)
			}
		}
	}
	p.inodes = uint32(count)
	return nil
}

// MaxSize is the most bytes that the image can take: the size that it has when
// nothing at all compresses.
func (p *Plan) MaxSize() int64 {
	meta := int64(superblockSize + 64)
	count := func(n *inode) {
		// The largest inode is 56 bytes; its uid and gid may be new ones; an
		// export entry has 8.
		meta += 56 + 8 + 8 + int64(len(n.target))
		if n.content != nil {
			meta += 4 * int64(n.content.whole)
		}
		for _, e := range n.entries {
			// An entry with a directory header of its own, and an index entry.
			meta += 2*int64(len(e.name)) + 8 + 12 + 12
		}
	}
	p.eachInode(p.root, count)
	for _, s := range p.xattrs.sets {
		meta += int64(len(s.encoded)) + xattrIDSize
	}
	meta += int64(p.tails) * fragmentSize
	// Behind each 8 KiB of a table: 2 bytes of header and 8 of index. Eight
	// tables may end in a short block.
	meta += (meta/metadataSize + 8) * 10
	return roundUp(p.stats.PlannedBytes+meta, padding)
}

// eachInode calls f once for each inode below and at n.
func (p *Plan) eachInode(n *inode, f func(*inode)) {
	f(n)
	for _, e := range n.entries {
		if e.node.dir == n && e.node.name == e.name {
			p.eachInode(e.node, f)
		}
	}
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
