package iso

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxDirectories is what a path table's 16-bit parent numbers reach.
const maxDirectories = math.MaxUint16

// hierarchy is a directory hierarchy of a volume: the primary one or Joliet's.
type hierarchy struct {
	rockRidge     bool
	dirs          []*directory // in the path table's order; the root is first
	pathTableSize int64
	lTable        int64 // positions of the path tables, little- and big-endian
	mTable        int64
	stamp         [7]byte
}

// directory is a directory in one hierarchy.
type directory struct {
	ident   string
	parent  *directory
	number  int64 // in the path table
	entries []entry
	subdirs int64

	pos  int64
	size int64

	// Rock Ridge entries that do not fit their records lie here, behind the directory.
	more         int64
	reserved     int64
	moreReserved int64
}

// entry is a file or a subdirectory in a directory.
type entry struct {
	node  *node
	ident string
	dir   *directory // nil for a file
}

// newHierarchy names the tree's nodes and orders the directories as ECMA-119 6.9.1 wants: by level,
// then by their parents' numbers, then by name.
func newHierarchy(root *node, joliet bool, stamp [7]byte) (*hierarchy, error) {
	h := &hierarchy{rockRidge: !joliet, stamp: stamp}
	top := &directory{ident: "\x00", number: 1}
	top.parent = top
	nodes := []*node{root}
	h.dirs = []*directory{top}
	for i := 0; i < len(h.dirs); i++ {
		d := h.dirs[i]
		if err := d.fill(nodes[i], joliet); err != nil {
			return nil, err
		}
		for _, e := range d.entries {
			if e.dir == nil {
				continue
			}
			h.dirs = append(h.dirs, e.dir)
			nodes = append(nodes, e.node)
			e.dir.number = int64(len(h.dirs))
		}
	}
	if len(h.dirs) > maxDirectories {
		return nil, fmt.Errorf("iso: %d directories, ISO 9660 holds %d", len(h.dirs), maxDirectories)
	}
	h.pathTableSize = int64(len(h.pathTable(le)))
	return h, nil
}

// fill makes d's entries from n's children, in the order of their identifiers.
func (d *directory) fill(n *node, joliet bool) error {
	idents, err := identifiers(n.children, joliet)
	if err != nil {
		return err
	}
	keys := make(map[string]string, len(idents))
	for i, c := range n.children {
		e := entry{node: c, ident: idents[i]}
		keys[e.ident] = e.ident
		if !joliet {
			keys[e.ident] = isoSortKey(e.ident)
		}
		if c.file == nil {
			e.dir = &directory{ident: e.ident, parent: d}
			d.subdirs++
		}
		d.entries = append(d.entries, e)
	}
	slices.SortFunc(d.entries, func(a, b entry) int {
		return cmp.Or(strings.Compare(keys[a.ident], keys[b.ident]), strings.Compare(a.ident, b.ident))
	})
	return nil
}

func identifiers(children []*node, joliet bool) ([]string, error) {
	if !joliet {
		return isoNames(children), nil
	}
	idents := make([]string, len(children))
	for i, c := range children {
		ident, err := jolietName(c.name, c.file == nil)
		if err != nil {
			return nil, fmt.Errorf("iso: %s: %w; leave Joliet out or rename it", c.path, err)
		}
		idents[i] = ident
	}
	return idents, nil
}

// place gives the path tables and directories their positions from pos on and returns the next free
// one. It must be called while Grow files have their bounds as sizes: records can only get fewer.
func (h *hierarchy) place(pos int64) (int64, error) {
	table := roundUp(h.pathTableSize, sectorSize)
	h.lTable, h.mTable = pos, pos+table
	pos += 2 * table
	for _, d := range h.dirs {
		records, more := h.directory(d)
		d.reserved, d.moreReserved = int64(len(records)), int64(len(more))
		if d.reserved > math.MaxUint32-sectorSize {
			return 0, fmt.Errorf("iso: a directory of %d entries is too large", len(d.entries))
		}
		d.pos, d.size = pos, d.reserved
		d.more = pos + d.reserved
		pos = d.more + d.moreReserved
	}
	return pos, nil
}

// pathTable encodes the path table (ECMA-119 9.4) in one byte order.
func (h *hierarchy) pathTable(order binary.ByteOrder) []byte {
	var table []byte
	for _, d := range h.dirs {
		r := make([]byte, 8, 8+len(d.ident)+1)
		r[0] = u8(len(d.ident))                    // length of directory identifier
		r[1] = 0                                   // extended attribute record length
		order.PutUint32(r[2:], u32(sector(d.pos))) // location of extent
		order.PutUint16(r[6:], u16(d.parent.number))
		table = append(table, padded(append(r, d.ident...), 2)...)
	}
	return table
}
