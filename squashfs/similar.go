package squashfs

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"

	"github.com/isopress/isopress/internal/codec"
)

// Likeness. Small files and tails that share content compress better in one
// fragment block than apart, where the compressor cannot see one from the other.
// Pairs are found by their sketches and joined, the likest first, into clusters
// that fit a block; a cluster lies where the first of it would. This is Kruskal's
// algorithm with a bound on the size of a tree. Unlike a greedy search for the
// next neighbour, it decides by the pairs alone and not by the way that led
// there: a file that comes or goes changes the clusters that it is like, and no others.

const (
	// A shingle of more pieces than this says little, and would cost pairs in
	// the square of them.
	maxSharers = 100
	// The edges kept for each piece, the strongest, and of all together: with many
	// pieces, fewer of each, but two.
	maxEdges    = 16
	maxAllEdges = 4 << 20
	// Shingles of all sketches together; above, all are thinned alike.
	maxShingles = 4 << 20
)

// threshold is how much a pair must share to count as alike, in percent of the
// smaller and of the larger sketch. With less, an image is a little smaller, but the
// files of a directory are scattered over more blocks.
type threshold struct{ ofSmaller, ofLarger int }

// likenessThreshold: whoever takes xz wants a small image more than a quick reader.
func (c Compression) likenessThreshold() threshold {
	if c.spec.Algorithm == codec.XZ {
		return threshold{20, 10}
	}
	return threshold{30, 15}
}

// piece is what goes into fragment blocks: a small file or the tail of a large one.
type piece struct {
	content *content
	size    int
	group   int // those of different groups share no block
}

// hash is a random number that the piece's bytes decide.
func (p *piece) hash() uint64 {
	d := p.content.tailDigest()
	if *d == (digest{}) { // zero bytes: of each size another number
		return uint64(p.size) * 0x9E3779B97F4A7C15
	}
	return binary.LittleEndian.Uint64(d.sum[:])
}

// edge joins two alike pieces, by their indexes.
type edge struct {
	likeness uint32
	tie      uint32 // decides between equal likenesses, by content and not by place
	a, b     int32
}

func compareEdges(x, y edge) int {
	return cmp.Or(cmp.Compare(y.likeness, x.likeness), cmp.Compare(x.tie, y.tie),
		cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b))
}

// clusterAlike returns, for each piece, the next one of its cluster or -1, and
// whether it is the first of one. Clusters hold at most a block.
func (l *layouter) clusterAlike() (next []int32, head []bool, err error) {
	pieces, limit := l.pieces, l.plan.opts.BlockSize
	next, head = make([]int32, len(pieces)), make([]bool, len(pieces))
	type tree struct{ parent, last, size int32 }
	trees := make([]tree, len(pieces))
	for i := range pieces {
		next[i], head[i] = -1, true
		trees[i] = tree{int32(i), int32(i), int32(pieces[i].size)}
	}
	find := func(i int32) int32 {
		for trees[i].parent != i {
			trees[i].parent = trees[trees[i].parent].parent
			i = trees[i].parent
		}
		return i
	}
	edges, err := alike(l.ctx, pieces, l.plan.opts.Compression.likenessThreshold())
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(edges, compareEdges)
	for _, e := range edges {
		a, b := find(e.a), find(e.b)
		if a == b || int(trees[a].size)+int(trees[b].size) > limit {
			continue
		}
		// A tree's root is its first piece: the list begins there.
		a, b = min(a, b), max(a, b)
		next[trees[a].last] = b
		head[b] = false
		trees[b].parent = a
		trees[a].last = trees[b].last
		trees[a].size += trees[b].size
	}
	return next, head, nil
}

// alike returns the pairs that are alike.
func alike(ctx context.Context, pieces []piece, least threshold) ([]edge, error) {
	sharers, ids := postings(pieces)
	each := min(maxEdges, max(2, maxAllEdges/max(1, len(pieces))))
	var edges, mine []edge
	common := make([]uint16, len(pieces)) // of the piece at hand, with each earlier one
	var touched []int32
	for i := range pieces {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		touched, mine = touched[:0], mine[:0]
		for _, id := range ids[i] {
			for _, j := range sharers[id.start:id.end] {
				if int(j) >= i {
					break
				}
				if common[j] == 0 {
					touched = append(touched, j)
				}
				common[j]++
			}
		}
		for _, j := range touched {
			n := int(common[j])
			common[j] = 0
			if pieces[i].group != pieces[j].group {
				continue
			}
			if w := likeness(pieces[i].content.sketch, pieces[j].content.sketch, n, least); w > 0 {
				tie := uint32(pieces[i].hash() ^ pieces[j].hash())
				mine = append(mine, edge{likeness: w, tie: tie, a: j, b: int32(i)})
			}
		}
		if len(mine) > each {
			slices.SortFunc(mine, compareEdges)
			mine = mine[:each]
		}
		edges = append(edges, mine...)
	}
	return edges, nil
}

// likeness of two sketches that have n hashes in common, or 0 where it is too little.
func likeness(a, b *sketch, n int, least threshold) uint32 {
	if n < 2 {
		return 0
	}
	level := max(a.level, b.level)
	small, large := a.at(level), b.at(level)
	if small > large {
		small, large = large, small
	}
	if n*100 < small*least.ofSmaller || n*100 < large*least.ofLarger {
		return 0
	}
	return uint32(n<<16) / uint32(small+large-n) // Jaccard's index, in 1/65536
}

// span is a range of the sharers.
type span struct{ start, end int32 }

// postings returns, in one list, which pieces have each shingle, and for each
// piece where in the list the shingles are that it shares with others.
func postings(pieces []piece) (sharers []int32, shared [][]span) {
	level := uint8(0)
	count := func() (n int) {
		for i := range pieces {
			n += pieces[i].content.sketch.at(level)
		}
		return n
	}
	for count() > maxShingles && level < maxLevel {
		level++
	}
	var all []uint64 // hash, piece
	for i := range pieces {
		s := pieces[i].content.sketch
		if s.level < level {
			s.hashes, s.level = s.hashes[:s.at(level)], level
		}
		for _, v := range s.hashes {
			all = append(all, uint64(v)<<32|uint64(i))
		}
	}
	slices.Sort(all)
	shared = make([][]span, len(pieces))
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n]>>32 == all[0]>>32 {
			n++
		}
		if n >= 2 && n <= maxSharers {
			at := span{int32(len(sharers)), int32(len(sharers) + n)}
			for _, v := range all[:n] {
				i := int32(v & math.MaxUint32)
				sharers = append(sharers, i)
				shared[i] = append(shared[i], at)
			}
		}
		all = all[n:]
	}
	return sharers, shared
}
