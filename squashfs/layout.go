package squashfs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// layouter decides which content lies where.
type layouter struct {
	ctx    context.Context
	plan   *Plan
	pieces []piece
	top    *inode // in the root, of which
	rank   int    // is this
}

// layOut plans the contents of files, in the order of the walk.
func (p *Plan) layOut(ctx context.Context, files []*inode) error {
	l := layouter{ctx: ctx, plan: p}
	l.unite(files)
	if err := p.findRaw(); err != nil {
		return err
	}
	l.findTails()
	for _, c := range p.contents {
		l.planBlocks(c)
	}
	l.shareRuns()
	if err := l.packTails(); err != nil {
		return err
	}
	l.order()
	return ctx.Err()
}

// unite makes files of equal content share the first one's.
func (l *layouter) unite(files []*inode) {
	st := &l.plan.stats
	st.Files = int64(len(files))
	first := firstEquals(len(files), func(i int) sortKey {
		c := files[i].content
		if c.size == 0 {
			return sortKey{}
		}
		return sortKey{c.size, c.digests[0].hash()}
	}, func(i, j int) int { return compareContents(files[i].content, files[j].content) })
	for i, n := range files {
		st.Bytes += n.content.size
		if int(first[i]) == i {
			l.plan.contents = append(l.plan.contents, n.content)
			continue
		}
		if n.content.size > 0 {
			st.DuplicateFiles++
			st.DuplicateBytes += n.content.size
		}
		n.content = files[first[i]].content
	}
}

func compareContents(a, b *content) int {
	return cmp.Or(cmp.Compare(a.size, b.size), slices.CompareFunc(a.digests, b.digests, compareDigests))
}

// hash is a random number that the content decides; 0 for zero bytes.
func (d *digest) hash() uint64 { return binary.LittleEndian.Uint64(d.sum[:]) }

func compareDigests(a, b digest) int { return bytes.Compare(a.sum[:], b.sum[:]) }

// findTails makes pieces of what goes into fragment blocks: of equal tails one.
func (l *layouter) findTails() {
	size := func(c *content) int { return int(c.size % int64(l.plan.opts.BlockSize)) }
	var tails []*content
	for _, c := range l.plan.contents {
		c.tail = noTail
		if size(c) > 0 && !l.plan.opts.NoFragments && !c.raw {
			tails = append(tails, c)
		}
	}
	first := firstEquals(len(tails), func(i int) sortKey {
		return sortKey{int64(size(tails[i])), tails[i].tailDigest().hash()}
	}, func(i, j int) int { return compareDigests(*tails[i].tailDigest(), *tails[j].tailDigest()) })
	for i, c := range tails {
		if int(first[i]) != i {
			c.tail = tails[first[i]].tail
			continue
		}
		c.tail = int32(len(l.pieces))
		l.pieces = append(l.pieces, piece{c, size(c), l.groupOf(c)})
		l.plan.stats.PlannedBytes += int64(size(c))
	}
}

// groupOf is ascending in the order in which groups lie: by rank, and behind the
// others of each rank what refers to other files.
func (l *layouter) groupOf(c *content) int {
	g := 2 * l.rankOf(c)
	if c.refers {
		g++
	}
	return g
}

// rankOf is the rank of the place of the first file that has the content.
func (l *layouter) rankOf(c *content) int {
	n := c.source
	for n.dir != nil && n.dir.dir != nil {
		n = n.dir
	}
	if order := l.plan.opts.RootOrder; order != nil && n != l.top {
		l.top, l.rank = n, order(n.name).Rank
	}
	return l.rank
}

// planBlocks counts the blocks outside fragments; a block of zero bytes is none.
func (l *layouter) planBlocks(c *content) {
	n := len(c.digests)
	if c.tail != noTail {
		n--
	}
	if n == 0 {
		return
	}
	c.blocks = &blocks{digests: c.digests[:n], raw: c.raw}
	if c.raw {
		c.blocks.stored, c.blocks.bytes = n, c.size
		return
	}
	for i, d := range c.blocks.digests {
		n := int64(blockLen(c.size, i, l.plan.opts.BlockSize))
		if d == (digest{}) {
			c.blocks.sparse += uint64(n)
			continue
		}
		if c.blocks.stored == 0 {
			c.blocks.first = i
		}
		c.blocks.stored++
		c.blocks.bytes += n
	}
}

const (
	// How many contents with one and the same first block are tried against each
	// block that equals it.
	maxSameStart = 64
	// How many digests are compared for each block of all contents, on average:
	// a tree of nothing but near-equal long files may leave runs unshared.
	maxCompared = 16
)

// shareRuns finds contents whose blocks are a run of another's, block for block,
// and lets them lie in it. The longest are the first to take others in, so that
// what is taken in has taken none in itself.
func (l *layouter) shareRuns() {
	var long []*blocks // in which and of which runs are looked for
	equal := map[[sha256.Size]byte]*blocks{}
	starts := map[digest][]*blocks{}
	budget := 0
	for _, c := range l.rawFirst() {
		b := c.blocks
		if b == nil || b.stored == 0 || b.raw && slices.Contains(b.digests, digest{}) {
			continue
		}
		key := digestOfAll(b.digests)
		if first := equal[key]; first != nil {
			b.base = first // of another tail
			continue
		}
		equal[key] = b
		long = append(long, b)
		budget += maxCompared * len(b.digests)
		if start := b.digests[b.first]; len(starts[start]) < maxSameStart {
			starts[start] = append(starts[start], b)
		}
	}
	slices.SortStableFunc(long, func(a, b *blocks) int { return cmp.Compare(len(b.digests), len(a.digests)) })
	for _, base := range long {
		if base.base != nil {
			continue
		}
		for i, d := range base.digests {
			for _, b := range starts[d] {
				at := i - b.first
				if b == base || b.base != nil || b.isBase || b.raw || at < 0 || at+len(b.digests) > len(base.digests) || budget <= 0 {
					continue
				}
				same := commonPrefix(b.digests, base.digests[at:])
				budget -= same + 1
				if same == len(b.digests) {
					b.base, b.at = base, at
					base.isBase = true
				}
			}
		}
	}
	for _, c := range l.plan.contents {
		b := c.blocks
		if b == nil {
			continue
		}
		if b.base == nil {
			l.plan.stats.Blocks += int64(b.stored)
			l.plan.stats.PlannedBytes += b.bytes
			continue
		}
		l.plan.stats.SharedBlocks += int64(b.stored)
		if b.base.base != nil {
			b.base, b.at = b.base.base, b.base.at
		}
	}
}

// rawFirst are the contents, with the raw ones ahead: what equals them lies in them,
// and not they in it.
func (l *layouter) rawFirst() []*content {
	contents := slices.Clone(l.plan.contents)
	slices.SortStableFunc(contents, func(a, b *content) int {
		switch {
		case a.raw == b.raw:
			return 0
		case a.raw:
			return -1
		}
		return 1
	})
	return contents
}

// commonPrefix is how many digests from the first on are equal.
func commonPrefix(a, b []digest) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func digestOfAll(list []digest) [sha256.Size]byte {
	h := sha256.New()
	for i := range list {
		h.Write(list[i].sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// packTails puts the pieces into fragment blocks, group by group and cluster by cluster.
func (l *layouter) packTails() error {
	p := l.plan
	var next []int32
	var head []bool
	if p.opts.Order == OrderSimilar {
		var err error
		if next, head, err = l.alikeClusters(); err != nil {
			return err
		}
	}
	for _, c := range p.contents {
		c.sketch = nil // has served
	}
	p.tails = make([]fragment, len(l.pieces))
	for clusters := l.clusters(next, head); len(clusters) > 0; {
		n := l.cut(clusters)
		r := run{first: l.pieces[clusters[0].first].content}
		fill := 0
		for _, g := range clusters[:n] {
			for j := g.first; j >= 0; {
				t := &l.pieces[j]
				p.tails[j] = fragment{uint32(p.stats.FragmentBlocks), uint32(fill)}
				r.parts = append(r.parts, part{t.content, len(t.content.digests) - 1})
				fill += t.size
				if next == nil {
					break
				}
				j = next[j]
			}
		}
		p.runs = append(p.runs, r)
		p.stats.FragmentBlocks++
		clusters = clusters[n:]
	}
	return nil
}

// clusters are the lists that clusterAlike made, or each piece by itself, by group.
func (l *layouter) clusters(next []int32, head []bool) []cluster {
	var clusters []cluster
	for i := range l.pieces {
		g := cluster{first: int32(i), size: l.pieces[i].size}
		if head != nil {
			if !head[i] {
				continue
			}
			for j := next[i]; j >= 0; j = next[j] {
				g.size += l.pieces[j].size
			}
		}
		clusters = append(clusters, g)
	}
	slices.SortStableFunc(clusters, func(a, b cluster) int { return cmp.Compare(l.group(a), l.group(b)) })
	return clusters
}

// cluster is a run of pieces that stay together.
type cluster struct {
	first int32
	size  int
}

func (l *layouter) group(c cluster) int { return l.pieces[c.first].group }

// cut returns how many of the clusters fill the next fragment block. A block ends
// once it is seven eighths full or more, before the cluster with the least hash of
// those that it could end before. As that is decided by content, not by position,
// the boundaries behind a change fall into step with the old ones again, mostly at
// once. Where they do not, they do at the next anchor, which ends a block that is not
// nearly empty.
func (l *layouter) cut(clusters []cluster) int {
	limit := l.plan.opts.BlockSize
	fill, end, least := 0, 0, ^uint64(0)
	for i, c := range clusters {
		if l.group(c) != l.group(clusters[0]) {
			return i
		}
		h := l.pieces[c.first].hash()
		if fill >= limit/8 && isAnchor(h, c.size, limit) {
			return i
		}
		if fill >= limit/8*7 || i > 0 && fill+c.size > limit {
			if h < least || end == 0 {
				end, least = i, h
			}
		}
		if fill += c.size; fill > limit {
			return end
		}
	}
	return len(clusters)
}

// anchorBlocks is how many blocks apart anchors are, on average.
const anchorBlocks = 4

// isAnchor chooses clusters by their content, the more often the larger they are,
// so that the bytes between two do not depend on the clusters' sizes.
func isAnchor(hash uint64, size, limit int) bool {
	return float64(hash>>11)*anchorBlocks*float64(limit) < float64(size)*(1<<53)
}

// order sorts the runs as the files are, behind the raw ones: a fragment block lies behind the blocks
// of the first file that has a tail in it, or, of what refers to others, behind all of that rank.
func (l *layouter) order() {
	p := l.plan
	fragments := p.runs
	p.runs = p.rawRuns(make([]run, 0, len(fragments)+len(p.contents)/16))
	numbers := make(map[*content]int, len(fragments))
	for i := range fragments {
		numbers[fragments[i].first] = i
	}
	renumbered := make([]uint32, len(fragments))
	n := uint32(0)
	fragment := func(c *content) {
		if i, ok := numbers[c]; ok {
			p.runs = append(p.runs, fragments[i])
			renumbered[i] = n
			n++
		}
	}
	var late []*content
	for i, c := range p.contents {
		if b := c.blocks; b != nil && b.stored > 0 && b.base == nil && !b.raw {
			p.runs = append(p.runs, run{first: c})
		}
		if c.refers {
			late = append(late, c)
		} else {
			fragment(c)
		}
		if i+1 == len(p.contents) || l.rankOf(p.contents[i+1]) != l.rankOf(c) {
			for _, c := range late {
				fragment(c)
			}
			late = nil
		}
	}
	for i := range p.tails {
		p.tails[i].block = renumbered[p.tails[i].block]
	}
}

// blockLen is the length in bytes of block i of a file.
func blockLen(size int64, i, blockSize int) int {
	return int(min(size-int64(i)*int64(blockSize), int64(blockSize)))
}
