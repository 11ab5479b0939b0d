package squashfs

import (
	"context"
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
	placed   []entry // of the root, in the order of their places
	inodes   uint32
	xattrs   xattrTable
	ids      idTable
	report   *reporter
	runs     []run // in the order of the image
	contents []*content
	tails    []fragment
	raw      []RawFile // as Options.Raw
	stats    Stats
	written  bool
}

// content is what equal files share.
type content struct {
	source  *inode // the first file that has it: it is read from there
	size    int64
	digests []digest // of its blocks, the tail included
	sketch  *sketch  // of the tail, until the plan is made
	blocks  *blocks  // nil where all of it is a tail
	tail    int32    // index into Plan.tails, or noTail
	raw     bool     // one of Options.Raw
	refers  bool     // the tail contains Options.Volatile
	hashed  bool     // its digests are known without reading it, or with a tree's

	state  *fileState // until it is kept, with the digests
	unread bool       // the digests are those that were kept with this state
}

const noTail = -1

func (c *content) tailDigest() *digest { return &c.digests[len(c.digests)-1] }

// blocks are what of a content lies outside fragment blocks.
type blocks struct {
	digests []digest // a short last block's included
	first   int      // index of the first that is not zero bytes, where stored > 0
	stored  int      // blocks that are not zero bytes
	bytes   int64    // content in those
	sparse  uint64   // bytes in blocks of zero bytes

	base   *blocks // where these are blocks of another content, which has them from at on
	at     int
	isBase bool
	raw    bool // stored as they are, all of them, in one piece

	start uint64   // once written
	sizes []uint32 // on disk, 0 for a block of zero bytes; once written
}

// fragment is a place in a fragment block.
type fragment struct{ block, offset uint32 }

// run is what is written together: the blocks of one content, or one fragment block.
type run struct {
	first *content // the one content, or the one whose tail is first
	parts []part   // of a fragment block
}

// part is one block of a content, or its tail in a fragment block.
type part struct {
	content *content
	index   int
}

func (p part) digest() digest { return p.content.digests[p.index] }

// Stats count what a plan holds.
type Stats struct {
	Inodes         int64 `json:"inodes"`
	Files          int64 `json:"files"`           // regular, hard links counted once
	Bytes          int64 `json:"bytes"`           // content of regular files
	DuplicateFiles int64 `json:"duplicate_files"` // files whose content another has
	DuplicateBytes int64 `json:"duplicate_bytes"`
	Blocks         int64 `json:"blocks"`        // data blocks, without zero ones
	SharedBlocks   int64 `json:"shared_blocks"` // further data blocks, which are those of another file
	FragmentBlocks int64 `json:"fragment_blocks"`
	PlannedBytes   int64 `json:"planned_bytes"` // content that will be read and compressed
}

// Prepare indexes fsys, which means to read every file once, and lays the image
// out. Names are sorted, and nothing depends on the order of fsys's answers. What is
// asked of fsys is said in the package's documentation; [Plan.Write] reads it again.
func Prepare(ctx context.Context, fsys fs.FS, opts Options) (*Plan, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	root, x, err := index(ctx, fsys, &opts)
	if err != nil {
		return nil, err
	}
	p := &Plan{opts: opts, fsys: fsys, root: root, placed: x.placed, xattrs: x.xattrs, ids: x.ids, report: x.report}
	if p.placed == nil {
		p.placed = root.children()
	}
	if err := p.layOut(ctx, x.files.found); err != nil {
		return nil, err
	}
	p.placeRaw()
	if err := p.number(); err != nil {
		return nil, err
	}
	p.stats.Inodes = int64(p.inodes)
	return p, nil
}

// Stats of the plan.
func (p *Plan) Stats() Stats { return p.stats }

// number gives the inodes their numbers: those of one directory in a row, so
// that their differences fit a directory header's 16 bits, and all of a directory together, so
// that a change moves no more than what is behind it.
func (p *Plan) number() error {
	p.root.number, p.inodes = 1, 1
	return p.numberEntries(p.placed)
}

func (p *Plan) numberEntries(entries []entry) error {
	for _, e := range entries {
		if e.node.number != 0 {
			continue // a further hard link
		}
		if p.inodes++; p.inodes == math.MaxUint32 {
			return fmt.Errorf("squashfs: %w: more than %d files", ErrTooLarge, uint32(math.MaxUint32))
		}
		e.node.number = p.inodes
	}
	for _, e := range entries {
		if e.node.kind == typeDir {
			if err := p.numberEntries(e.node.entries); err != nil {
				return err
			}
		}
	}
	return nil
}

// ranks are the root's entries, by the ranks of their places.
func (p *Plan) ranks() (ranks [][]entry) {
	last := 0
	for i, e := range p.placed {
		rank := 0
		if p.opts.RootOrder != nil {
			rank = p.opts.RootOrder(e.name).Rank
		}
		if i == 0 || rank != last {
			ranks = append(ranks, nil)
		}
		ranks[len(ranks)-1] = append(ranks[len(ranks)-1], e)
		last = rank
	}
	return ranks
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
			meta += 4 * int64(len(n.content.digests))
		}
		for _, e := range n.children() {
			// An entry with a directory header of its own, and an index entry.
			meta += 2*int64(len(e.name)) + 8 + 12 + 12
		}
	}
	p.eachInode(p.root, count)
	for _, s := range p.xattrs.sets {
		meta += int64(len(s.encoded)) + xattrIDSize
	}
	meta += p.stats.FragmentBlocks * fragmentSize
	// Behind each 8 KiB of a table: 2 bytes of header and 8 of index. Eight
	// tables may end in a short block.
	meta += (meta/metadataSize + 8) * 10
	gaps := int64(len(p.raw)) * p.opts.RawAlign
	size := roundUp(p.stats.PlannedBytes+gaps+meta, padding)
	if p.opts.BlockList {
		const entry = 16 + 10 + 10 + 4
		size += roundUp(int64(listHeader)+entry*(p.stats.Blocks+p.stats.FragmentBlocks), padding)
	}
	return size
}

// eachInode calls f once for each inode below and at n.
func (p *Plan) eachInode(n *inode, f func(*inode)) {
	f(n)
	for _, e := range n.children() {
		if e.node.dir == n && e.node.name == e.name {
			p.eachInode(e.node, f)
		}
	}
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
