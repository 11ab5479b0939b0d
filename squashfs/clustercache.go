package squashfs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Which pieces are alike is kept as well: for each piece, a varint of how far behind it
// the next one of its cluster is, 0 for none.

// alikeClusters is clusterAlike, where that is not known from a build with the same pieces.
func (l *layouter) alikeClusters() (next []int32, head []bool, err error) {
	cache := l.plan.opts.Blocks
	if cache == nil || len(l.pieces) < 2 {
		return l.clusterAlike()
	}
	key := l.clustersKey()
	if next, head := l.parseClusters(cache.Load(key, nil)); next != nil {
		return next, head, nil
	}
	if next, head, err = l.clusterAlike(); err == nil {
		cache.Save(key, encodeClusters(next))
	}
	return next, head, err
}

// clustersKey is of all that clusterAlike decides by: sketches are made of the content.
func (l *layouter) clustersKey() [32]byte {
	o := &l.plan.opts
	h := sha256.New()
	fmt.Fprintf(h, "isopress clusters %d\x00%d %v\x00", clusterVersion, o.BlockSize, o.Compression.likenessThreshold())
	var b []byte
	for i := range l.pieces {
		p := &l.pieces[i]
		b = append(b[:0], p.content.tailDigest().sum[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(p.size))
		h.Write(binary.LittleEndian.AppendUint64(b, uint64(p.group)))
	}
	return [32]byte(h.Sum(nil))
}

func encodeClusters(next []int32) (b []byte) {
	for i, n := range next {
		step := int64(0)
		if n >= 0 {
			step = int64(n) - int64(i)
		}
		b = binary.AppendVarint(b, step)
	}
	return b
}

// parseClusters reads what encodeClusters made; nil is of what is not of these pieces. Each
// must be in one cluster, and a cluster fit into a block.
func (l *layouter) parseClusters(b []byte) (next []int32, head []bool) {
	if len(b) < len(l.pieces) {
		return nil, nil
	}
	next, head = make([]int32, len(l.pieces)), make([]bool, len(l.pieces))
	for i := range head {
		next[i], head[i] = -1, true
	}
	for i := range next {
		step, n := binary.Varint(b)
		if n <= 0 {
			return nil, nil
		}
		b = b[n:]
		if step == 0 {
			continue
		}
		if step < -int64(i) || step >= int64(len(next)-i) || !head[i+int(step)] {
			return nil, nil
		}
		next[i], head[i+int(step)] = int32(i+int(step)), false
	}
	if len(b) > 0 || !l.fitBlocks(next, head) {
		return nil, nil
	}
	return next, head
}

// fitBlocks tells whether the clusters have all pieces, and none is larger than a block.
func (l *layouter) fitBlocks(next []int32, head []bool) bool {
	found := 0
	for i := range head {
		if !head[i] {
			continue
		}
		size := 0
		for j := int32(i); j >= 0; j = next[j] {
			size += l.pieces[j].size
			found++
		}
		if size > l.plan.opts.BlockSize {
			return false
		}
	}
	return found == len(next)
}
