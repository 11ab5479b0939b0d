package squashfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
)

// treeWriter writes the inode and the directory table. The two refer to each
// other: an inode of a directory names the place of its listing, and a listing
// the places of inodes. So a directory's listing comes after the inodes of what
// is in it, and those of its directories after their listings.
type treeWriter struct {
	ctx    context.Context
	inodes *metadataWriter
	dirs   *metadataWriter
	ids    *idTable
	tails  []fragment
	ranks  [][]entry  // of the root, by rank
	steady bool       // see Plan.isSteady
	export []inodeRef // by inode number - 1
	total  uint32     // number of inodes
}

// unwritten is the place of an inode that has none yet.
const unwritten = ^inodeRef(0)

// listing is where a directory's entries lie.
type listing struct {
	ref     inodeRef // relative to the directory table
	size    int64    // bytes of listing
	index   []byte   // struct squashfs_dir_index, one after the other
	indexes int
}

// tree writes everything below and including the root, and returns its place.
func (t *treeWriter) tree(root *inode) (inodeRef, error) {
	for _, entries := range t.ranks {
		if err := t.parts(entries); err != nil {
			return 0, err
		}
	}
	if err := t.directory(root); err != nil {
		return 0, err
	}
	if err := t.inode(root); err != nil {
		return 0, root.fail(err)
	}
	if err := t.inodes.flush(); err != nil {
		return 0, err
	}
	return root.ref, t.dirs.flush()
}

// parts writes the inodes of the root's entries of one rank, and of what is below them, but for
// the directories among them. They are in three parts, so that what changes with a place moves little that
// does not: what has no blocks names no place; files with blocks name that of their
// first, so that all behind what grows are other ones; and directories name the places of their listings,
// which name those of inodes.
func (t *treeWriter) parts(entries []entry) error {
	small := func(n *inode) bool { return n.kind != typeDir && !n.hasBlocks() }
	if err := t.files(entries, small); err != nil {
		return err
	}
	t.inodes.plain = t.steady
	if err := t.files(entries, (*inode).hasBlocks); err != nil {
		return err
	}
	t.inodes.plain = false
	return t.directories(entries)
}

// hasBlocks tells whether n is a file with blocks of its own.
func (n *inode) hasBlocks() bool { return n.content != nil && n.content.blocks != nil }

// isSteady tells whether inodes of files with blocks are stored as they are: then other places in them change
// no length, and so no place of an inode behind them. That is cheap where blocks are large, and done where it is
// less than about 0.05 % of the image.
func (p *Plan) isSteady() bool {
	const least, share = 256 << 20, 1 << 14
	size := int64(0)
	p.eachInode(p.root, func(n *inode) {
		if n.hasBlocks() {
			size += 32 + 4*int64(len(n.content.blocks.digests))
		}
	})
	return p.stats.PlannedBytes >= max(least, share*size)
}

// files writes the inodes of one part of and below the entries, in the order of their numbers.
func (t *treeWriter) files(entries []entry, part func(*inode) bool) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	for _, e := range entries {
		if e.node.ref != unwritten || !part(e.node) { // a further hard link
			continue
		}
		if err := t.inode(e.node); err != nil {
			return e.node.fail(err)
		}
	}
	for _, e := range entries {
		if err := t.files(e.node.children(), part); err != nil {
			return err
		}
	}
	return nil
}

// directories writes the directories below the entries, with the listings of those among them.
func (t *treeWriter) directories(entries []entry) error {
	for _, e := range entries {
		if e.node.kind != typeDir {
			continue
		}
		if err := t.directories(e.node.entries); err != nil {
			return err
		}
		if err := t.directory(e.node); err != nil {
			return err
		}
	}
	return nil
}

// directory writes the inodes of the directories in n, in the order of their names: those that
// follow each other in the listing lie in one metadata block, and need few headers. Then comes n's listing.
func (t *treeWriter) directory(n *inode) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	for _, e := range n.entries {
		if e.node.kind != typeDir {
			continue
		}
		if err := t.inode(e.node); err != nil {
			return e.node.fail(err)
		}
	}
	if err := t.list(n); err != nil {
		return n.fail(err)
	}
	return nil
}

// inode writes one inode in the shortest form that holds it.
func (t *treeWriter) inode(n *inode) error {
	ref, err := t.inodes.ref()
	if err != nil {
		return err
	}
	n.ref = ref
	t.export[n.number-1] = ref
	kind, body, err := t.body(n)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	b := make([]byte, 0, 16+len(body))
	b = le.AppendUint16(b, uint16(kind))         // inode_type
	b = le.AppendUint16(b, n.mode)               // mode
	b = le.AppendUint16(b, t.ids.numbers[n.uid]) // uid
	b = le.AppendUint16(b, t.ids.numbers[n.gid]) // guid
	b = le.AppendUint32(b, n.mtime)              // mtime
	b = le.AppendUint32(b, n.number)             // inode_number
	return t.inodes.write(append(b, body...))
}

// body returns the part of an inode that depends on its type, and that type.
func (t *treeWriter) body(n *inode) (inodeType, []byte, error) {
	kind := n.kind
	if n.xattr != invalidXattr {
		kind += extended
	}
	le := binary.LittleEndian
	var b []byte
	switch n.kind {
	case typeFile:
		return t.fileBody(n)
	case typeDir:
		return t.dirBody(n)
	case typeSymlink:
		b = le.AppendUint32(b, n.nlink)               // nlink
		b = le.AppendUint32(b, uint32(len(n.target))) // symlink_size
		b = append(b, n.target...)                    // symlink
	case typeBlockDev, typeCharDev:
		b = le.AppendUint32(b, n.nlink) // nlink
		b = le.AppendUint32(b, n.rdev)  // rdev
	case typeFifo, typeSocket:
		b = le.AppendUint32(b, n.nlink) // nlink
	}
	if kind > extended {
		b = le.AppendUint32(b, n.xattr) // xattr
	}
	return kind, b, nil
}

func (t *treeWriter) fileBody(n *inode) (inodeType, []byte, error) {
	le := binary.LittleEndian
	c := n.content
	frag := fragment{block: invalidFragment}
	if c.tail != noTail {
		frag = t.tails[c.tail]
	}
	at := c.blocks
	if at == nil {
		at = &blocks{}
	}
	var b []byte
	kind := typeFile
	if n.nlink > 1 || n.xattr != invalidXattr || at.sparse > 0 || at.start > math.MaxUint32 || c.size > math.MaxUint32 {
		kind += extended
		// The kernel takes sparse off the size for st_blocks
		// (fs/squashfs/inode.c); mksquashfs keeps it below the size, too.
		sparse := min(at.sparse, uint64(max(c.size-1, 0)))
		b = le.AppendUint64(b, at.start)       // start_block
		b = le.AppendUint64(b, uint64(c.size)) // file_size
		b = le.AppendUint64(b, sparse)         // sparse
		b = le.AppendUint32(b, n.nlink)        // nlink
		b = le.AppendUint32(b, frag.block)     // fragment
		b = le.AppendUint32(b, frag.offset)    // offset
		b = le.AppendUint32(b, n.xattr)        // xattr
	} else {
		b = le.AppendUint32(b, uint32(at.start)) // start_block
		b = le.AppendUint32(b, frag.block)       // fragment
		b = le.AppendUint32(b, frag.offset)      // offset
		b = le.AppendUint32(b, uint32(c.size))   // file_size
	}
	for _, size := range at.sizes {
		b = le.AppendUint32(b, size) // block_list
	}
	return kind, b, nil
}

// listingBase is what the format adds to a listing's size, for "." and ".."
// (fs/squashfs/dir.c).
const listingBase = 3

func (t *treeWriter) dirBody(n *inode) (inodeType, []byte, error) {
	le := binary.LittleEndian
	parent := t.total + 1 // the root's parent: no inode, as mksquashfs has it
	if n.dir != nil {
		parent = n.dir.number
	}
	l := n.listing
	size := l.size + listingBase
	var b []byte
	if size <= math.MaxUint16 && l.indexes == 0 && n.xattr == invalidXattr {
		b = le.AppendUint32(b, uint32(l.ref.block())) // start_block
		b = le.AppendUint32(b, n.nlink)               // nlink
		b = le.AppendUint16(b, uint16(size))          // file_size
		b = le.AppendUint16(b, l.ref.offset())        // offset
		b = le.AppendUint32(b, parent)                // parent_inode
		return typeDir, b, nil
	}
	if size > math.MaxUint32 || l.indexes > math.MaxUint16 {
		return 0, nil, fmt.Errorf("%w: directory with a listing of %d bytes", ErrTooLarge, size)
	}
	b = le.AppendUint32(b, n.nlink)               // nlink
	b = le.AppendUint32(b, uint32(size))          // file_size
	b = le.AppendUint32(b, uint32(l.ref.block())) // start_block
	b = le.AppendUint32(b, parent)                // parent_inode
	b = le.AppendUint16(b, uint16(l.indexes))     // i_count
	b = le.AppendUint16(b, l.ref.offset())        // offset
	b = le.AppendUint32(b, n.xattr)               // xattr
	return typeDir + extended, append(b, l.index...), nil
}

// list writes the entries of a directory: groups behind headers, each group's
// inodes in one metadata block and near in number. About once in 8 KiB a new
// group begins that the index names, so that a look-up need not read from the start.
func (t *treeWriter) list(n *inode) error {
	ref, err := t.dirs.ref()
	if err != nil {
		return err
	}
	l := listing{ref: ref}
	le := binary.LittleEndian
	indexed := int64(0) // listing's size at the last indexed header
	for rest := n.entries; len(rest) > 0; {
		group := group(rest, metadataSize-int(l.size-indexed))
		if len(group) == 0 { // the block's worth since the last index is full
			at, err := t.dirs.ref()
			if err != nil {
				return err
			}
			l.index = le.AppendUint32(l.index, uint32(l.size))              // index
			l.index = le.AppendUint32(l.index, uint32(at.block()))          // start_block
			l.index = le.AppendUint32(l.index, uint32(len(rest[0].name)-1)) // size
			l.index = append(l.index, rest[0].name...)                      // name
			l.indexes++
			indexed = l.size
			continue
		}
		b := encodeGroup(group)
		if err := t.dirs.write(b); err != nil {
			return err
		}
		l.size += int64(len(b))
		rest = rest[len(group):]
	}
	n.listing = l
	return nil
}

const (
	dirHeaderSize = 12 // struct squashfs_dir_header
	dirEntrySize  = 8  // struct squashfs_dir_entry without the name
)

// group returns the entries from the first on that fit behind one header, in
// room bytes.
func group(entries []entry, room int) []entry {
	first := entries[0].node
	size := dirHeaderSize
	for i, e := range entries {
		delta := int64(e.node.number) - int64(first.number)
		size += dirEntrySize + len(e.name)
		if i == maxDirCount || size > room || e.node.ref.block() != first.ref.block() ||
			delta < math.MinInt16 || delta > math.MaxInt16 {
			return entries[:i]
		}
	}
	return entries
}

func encodeGroup(entries []entry) []byte {
	le := binary.LittleEndian
	first := entries[0].node
	var b []byte
	b = le.AppendUint32(b, uint32(len(entries)-1))    // count
	b = le.AppendUint32(b, uint32(first.ref.block())) // start_block
	b = le.AppendUint32(b, first.number)              // inode_number
	for _, e := range entries {
		delta := int16(int64(e.node.number) - int64(first.number))
		b = le.AppendUint16(b, e.node.ref.offset())   // offset
		b = le.AppendUint16(b, uint16(delta))         // inode_number
		b = le.AppendUint16(b, uint16(e.node.kind))   // type
		b = le.AppendUint16(b, uint16(len(e.name)-1)) // size
		b = append(b, e.name...)                      // name
	}
	return b
}

// idTable numbers the owners and groups.
type idTable struct {
	numbers map[uint32]uint16
	ids     []uint32
}

func (t *idTable) add(ids ...uint32) error {
	if t.numbers == nil {
		t.numbers = map[uint32]uint16{}
	}
	for _, id := range ids {
		if _, ok := t.numbers[id]; ok {
			continue
		}
		if len(t.ids) == maxIDs {
			return fmt.Errorf("%w: more than %d owners and groups", ErrTooLarge, maxIDs)
		}
		t.numbers[id] = uint16(len(t.ids))
		t.ids = append(t.ids, id)
	}
	return nil
}

func (t *idTable) encode() []byte {
	var b []byte
	for _, id := range t.ids {
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	return b
}
