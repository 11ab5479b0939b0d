package squashfs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"sync"
	"sync/atomic"
)

// What is known of a tree, for [Options.Trees]: its inodes with the digests and
// sketches of their contents, depth first. Numbers are varints, but where they are said to
// be bytes. A tree with hard links, xattrs or anything to warn of is not kept.
//
//	node:   kind byte, mode, uid, gid, mtime, then by its kind
//	dir:    number of entries, and for each length of name, name, node
//	file:   size, byte that is 1 where the tail contains Options.Volatile, sketch, digests of size/block size blocks, rounded up
//	link:   length of target, target
//	device: rdev
//	digest: 0 byte for zeros, or 1 byte, 32 bytes of SHA-256, 4 bytes of CRC-32C
//	sketch: 0 for none, or number of hashes + 1, level byte, 4 bytes a hash

// keptTree is one that is to be kept once its files are hashed.
type keptTree struct {
	key  [32]byte
	node *inode
}

// treeKey names a tree by its state and the options that what is kept depends on.
func (x *indexer) treeKey(path string) (key [32]byte, ok bool) {
	o := x.opts
	if o.Trees == nil || o.TreeKey == nil || o.Exclude != nil {
		return key, false
	}
	state := o.TreeKey(path)
	if state == "" {
		return key, false
	}
	latest := int64(-1)
	if !o.MaxModTime.IsZero() {
		latest = o.MaxModTime.Unix()
	}
	text := fmt.Appendf(nil, "isopress tree %d\x00%d %d %v %v %v %v %q\x00%s", treeVersion, o.BlockSize, latest,
		x.sketches(), o.AllRoot, o.NoHardLinks, o.NoXattrs, o.Volatile, state)
	if o.TreeCheck != nil {
		text = append(text, "\x00checked"...)
	}
	return sha256.Sum256(text), true
}

// Of each node and block the index takes some hundred bytes, of which a blob may hold few:
// so a damaged or forged one takes no more than these, half a gigabyte. A tree that has
// more is indexed each time.
const (
	maxKeptNodes  = 1 << 20
	maxKeptBlocks = 1 << 22
)

// sketches tells whether files get sketches.
func (x *indexer) sketches() bool {
	return (x.opts.Order == OrderSimilar || x.opts.Sketches) && !x.opts.NoFragments
}

// keepTree keeps a tree that was walked, once its files are hashed: whole is one that has
// nothing special in it.
func (x *indexer) keepTree(t *treeTask, whole bool) {
	checked := t.check != nil
	if !whole {
		t.check = nil
	}
	if checked {
		x.files.addTree(t) // its files wait
	} else if whole {
		x.files.mu.Lock()
		defer x.files.mu.Unlock()
		x.trees = append(x.trees, t.keptTree)
	}
}

// known takes a tree from the cache; nil is none.
func (x *indexer) known(t *foundTree) (*inode, error) {
	select {
	case <-t.looked:
	case <-x.ctx.Done():
		return nil, x.ctx.Err()
	}
	d, n := t.decoder, t.node
	t.decoder, t.node = nil, nil
	if n == nil {
		return nil, nil
	}
	x.count += d.nodes
	x.report.progress(Progress{Stage: StageScan, Done: x.count})
	for _, id := range d.order {
		if err := x.ids.add(id[0], id[1]); err != nil {
			return nil, n.fail(err)
		}
	}
	x.files.addKnown(d.files)
	return n, nil
}

// foundTree is an entry of a directory whose state has a name.
type foundTree struct {
	key     [32]byte
	dir     *inode
	name    string
	looked  chan struct{} // closed once it was looked up
	node    *inode        // nil where the cache has none
	decoder *treeDecoder  // that made node
}

// look takes the tree from the cache.
func (t *foundTree) look(x *indexer, memory *keptMemory) {
	defer close(t.looked)
	data := x.opts.Trees.Load(t.key, nil)
	if data == nil {
		return
	}
	d := &treeDecoder{keptDecoder: keptDecoder{x: x, b: data, memory: memory}, ids: map[[2]uint32]bool{}}
	n := d.node(t.dir, t.name, 0)
	if d.err != nil || len(d.b) > 0 {
		return // as if it were not there: it is made again
	}
	t.decoder, t.node = d, n
}

// findTrees begins to look up those of a directory's entries whose state has a name, in
// their order and several at a time. The function that it returns waits for the end.
func (x *indexer) findTrees(dir *inode, dirPath string, entries []fs.DirEntry) (trees map[string]*foundTree, wait func()) {
	if x.opts.Trees == nil || x.checking {
		return nil, func() {}
	}
	var list []*foundTree
	trees = map[string]*foundTree{}
	for _, e := range entries {
		if key, ok := x.treeKey(path.Join(dirPath, e.Name())); ok {
			t := &foundTree{key: key, dir: dir, name: e.Name(), looked: make(chan struct{})}
			list, trees[t.name] = append(list, t), t
		}
	}
	var next atomic.Int64
	var g sync.WaitGroup
	for range min(x.opts.Workers, len(list)) {
		g.Go(func() {
			var memory keptMemory
			for n := next.Add(1); n <= int64(len(list)) && x.ctx.Err() == nil; n = next.Add(1) {
				list[n-1].look(x, &memory)
			}
		})
	}
	return trees, g.Wait
}

// keepTrees puts the trees that were indexed into the cache.
func (x *indexer) keepTrees() {
	for _, t := range x.trees {
		var e treeEncoder
		e.node(t.node)
		if e.nodes <= maxKeptNodes && e.blocks <= maxKeptBlocks {
			x.opts.Trees.Save(t.key, e.b)
		}
	}
}

type treeEncoder struct {
	b             []byte
	nodes, blocks int64
}

func (e *treeEncoder) node(n *inode) {
	e.nodes++
	e.b = append(e.b, byte(n.kind))
	for _, v := range []uint64{uint64(n.mode), uint64(n.uid), uint64(n.gid), uint64(n.mtime)} {
		e.b = binary.AppendUvarint(e.b, v)
	}
	switch n.kind {
	case typeDir:
		e.b = binary.AppendUvarint(e.b, uint64(len(n.entries)))
		for _, child := range n.entries {
			e.b = appendString(e.b, child.name)
			e.node(child.node)
		}
	case typeFile:
		e.b = appendContent(e.b, n.content)
		e.blocks += int64(len(n.content.digests))
	case typeSymlink:
		e.b = appendString(e.b, n.target)
	case typeBlockDev, typeCharDev:
		e.b = binary.AppendUvarint(e.b, uint64(n.rdev))
	}
}

func appendContent(b []byte, c *content) []byte {
	b = binary.AppendUvarint(b, uint64(c.size))
	b = appendBool(b, c.refers)
	b = appendSketch(b, c.sketch)
	for i := range c.digests {
		b = appendDigest(b, &c.digests[i])
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendSketch(b []byte, s *sketch) []byte {
	if s == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(s.hashes))+1)
	b = append(b, s.level)
	for _, h := range s.hashes {
		b = binary.LittleEndian.AppendUint32(b, h)
	}
	return b
}

func appendDigest(b []byte, d *digest) []byte {
	if *d == (digest{}) {
		return append(b, 0)
	}
	b = append(append(b, 1), d.sum[:]...)
	return binary.LittleEndian.AppendUint32(b, d.check)
}

// keptDecoder reads what a cache returns, which may be anything: nothing is done with it
// before all of it was right.
type keptDecoder struct {
	x             *indexer
	b             []byte
	err           error
	nodes, blocks int64 // so far
	memory        *keptMemory
}

var errKept = errors.New("damaged")

func (d *keptDecoder) take(n uint64) []byte {
	if d.err != nil || n > uint64(len(d.b)) {
		d.err = errKept
		return make([]byte, min(n, 64))
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *keptDecoder) number(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if d.err != nil || n <= 0 || v > limit {
		d.err = errKept
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *keptDecoder) text(limit uint64) string {
	n := d.number(limit)
	if d.err != nil {
		return ""
	}
	return string(d.take(n))
}

// treeDecoder reads what treeEncoder made.
type treeDecoder struct {
	keptDecoder
	files []*inode
	ids   map[[2]uint32]bool
	order [][2]uint32 // of ids
}

// maxTreeDepth bounds the recursion.
const maxTreeDepth = 4096

func (d *treeDecoder) node(dir *inode, name string, depth int) *inode {
	n := &some(&d.memory.inodes, 1)[0]
	*n = inode{dir: dir, name: name, nlink: 1, xattr: invalidXattr, ref: unwritten}
	if d.nodes++; d.nodes > maxKeptNodes {
		d.err = errKept
	}
	n.kind = inodeType(d.take(1)[0])
	n.mode = uint16(d.number(0o7777))
	n.uid, n.gid = uint32(d.number(math.MaxUint32)), uint32(d.number(math.MaxUint32))
	n.mtime = uint32(d.number(math.MaxUint32))
	if id := [2]uint32{n.uid, n.gid}; !d.ids[id] {
		d.ids[id] = true
		d.order = append(d.order, id)
	}
	switch n.kind {
	case typeDir:
		d.entries(n, depth)
	case typeFile:
		n.content = &some(&d.memory.contents, 1)[0]
		n.content.source = n
		d.content(n.content)
		d.files = append(d.files, n)
	case typeSymlink:
		if n.target = d.text(maxWrittenTarget); n.target == "" {
			d.err = errKept
		}
	case typeBlockDev, typeCharDev:
		n.rdev = uint32(d.number(math.MaxUint32))
	case typeFifo, typeSocket:
	default:
		d.err = errKept
	}
	return n
}

func (d *treeDecoder) entries(n *inode, depth int) {
	n.nlink = 2
	count := d.number(uint64(len(d.b)))
	if depth > maxTreeDepth {
		d.err = errKept
	}
	n.dirInode = &dirInode{}
	for i := uint64(0); i < count && d.err == nil; i++ {
		name := d.text(maxNameLen)
		if checkName(name) != nil || i > 0 && name <= n.entries[i-1].name {
			d.err = errKept
			return
		}
		child := d.node(n, name, depth+1)
		if child.kind == typeDir {
			n.nlink++
		}
		n.entries = append(n.entries, entry{name, child})
	}
	n.entries = slices.Clip(n.entries)
}

// keptMemory has room for the many small values of trees.
type keptMemory struct {
	inodes   []inode
	contents []content
	digests  []digest
	sketches []sketch
}

// some are n new values, of those that were allocated together.
func some[T any](free *[]T, n int) []T {
	const together = 64
	if n > together/4 {
		return make([]T, n)
	}
	if len(*free) < n {
		*free = make([]T, together)
	}
	values := (*free)[:n:n]
	*free = (*free)[n:]
	return values
}

// content reads what is known of one.
func (d *keptDecoder) content(c *content) {
	c.size = int64(d.number(math.MaxInt64 - MaxBlockSize))
	c.hashed = true
	d.refers(c)
	d.sketch(c)
	blockSize := int64(d.x.opts.BlockSize)
	blocks := (c.size + blockSize - 1) / blockSize
	if d.blocks += blocks; blocks > int64(len(d.b)) || d.blocks > maxKeptBlocks {
		d.err = errKept
		return
	}
	c.digests = some(&d.memory.digests, int(blocks))
	for i := range c.digests {
		if d.take(1)[0] == 0 {
			continue
		}
		copy(c.digests[i].sum[:], d.take(sha256.Size))
		c.digests[i].check = binary.LittleEndian.Uint32(d.take(4))
	}
}

func (d *keptDecoder) refers(c *content) {
	v := d.take(1)[0]
	if v > 1 || v == 1 && (d.x.opts.Volatile == "" || c.size%int64(d.x.opts.BlockSize) == 0) {
		d.err = errKept
	}
	c.refers = v == 1
}

func (d *keptDecoder) sketch(c *content) {
	count := d.number(maxSketch + 1)
	if (count > 0) != (d.x.sketches() && c.size%int64(d.x.opts.BlockSize) > 0) {
		d.err = errKept
	}
	if count == 0 || d.err != nil {
		return
	}
	s := &some(&d.memory.sketches, 1)[0]
	s.level, s.hashes = d.take(1)[0], make([]uint32, count-1)
	hashes := d.take(4 * uint64(len(s.hashes)))
	if d.err != nil {
		return
	}
	for i := range s.hashes {
		s.hashes[i] = binary.LittleEndian.Uint32(hashes[4*i:])
		if i > 0 && s.hashes[i] <= s.hashes[i-1] {
			d.err = errKept
		}
	}
	if s.level > maxLevel || s.level > 0 && keptAt(s.hashes, s.level) < len(s.hashes) {
		d.err = errKept
	}
	c.sketch = s
}
