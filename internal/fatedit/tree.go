package fatedit

import (
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/isopress/isopress/internal/treefs"
)

const (
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrLong      = 0x0F
	lowerName     = 0x08 // DIR_NTRes: what is in capitals is meant in small letters
	lowerExt      = 0x10
)

// node is a file or directory.
type node struct {
	name     string
	mode     fs.FileMode
	modTime  time.Time
	size     int64
	first    uint32 // cluster; 0 of an empty file, and of the root directory outside the clusters
	entry    int64  // where its directory entry is
	children []*node
}

// all yields n and what is below it.
func (n *node) all(yield func(*node) bool) {
	if !yield(n) {
		return
	}
	for _, c := range n.children {
		c.all(yield)
	}
}

func (f *FS) readTree(int64) error {
	f.tree = &node{name: ".", mode: fs.ModeDir | 0o555, first: f.rootFirst}
	return f.readDirectory(f.tree, 0)
}

// readDirectory adds n's children, and theirs.
func (f *FS) readDirectory(n *node, depth int) error {
	if f.seen[n.first] || depth > maxDepth {
		return damaged("%s: a directory that is there twice, or too deep", n.name)
	}
	f.seen[n.first] = true
	parts, err := f.directoryParts(n)
	if err != nil {
		return err
	}
	var long longName
	for _, p := range parts {
		more, err := f.readEntries(n, p, &long)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	slices.SortStableFunc(n.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	for _, c := range n.children {
		if c.mode.IsDir() {
			if err := f.readDirectory(c, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// part is a piece of a directory.
type part struct{ pos, size int64 }

func (f *FS) directoryParts(n *node) (list []part, err error) {
	if n.first == 0 {
		list = []part{{f.root, f.rootSize}}
	} else {
		chain, err := f.chain(n.first, maxDirectories)
		if err != nil {
			return nil, err
		}
		for _, c := range chain {
			list = append(list, part{f.pos(c), f.cluster})
		}
	}
	for _, p := range list {
		if f.dirBytes += p.size; f.dirBytes > maxDirectories {
			return nil, damaged("directories of more than %d bytes", maxDirectories)
		}
	}
	return list, nil
}

// readEntries reads a piece of a directory, and tells whether there may be more.
func (f *FS) readEntries(n *node, p part, long *longName) (more bool, err error) {
	b := make([]byte, p.size)
	if err := f.read(b, p.pos); err != nil {
		return false, err
	}
	for i := 0; i+entrySize <= len(b); i += entrySize {
		e := b[i : i+entrySize]
		switch {
		case e[0] == 0:
			return false, nil
		case e[0] == 0xE5: // deleted
			*long = longName{}
		case e[11]&0x3F == attrLong:
			long.add(e)
		default:
			name := long.take(e)
			if c := f.newNode(e, name, p.pos+int64(i)); c != nil {
				n.children = append(n.children, c)
			}
		}
	}
	return true, nil
}

// newNode is the node of a directory entry, or nil where there is nothing to see.
func (f *FS) newNode(e []byte, name string, pos int64) *node {
	if name == "" {
		name = shortName(e)
	}
	if e[11]&attrVolume != 0 || name == "." || !fs.ValidPath(name) || strings.Contains(name, "/") {
		return nil
	}
	c := &node{name: name, mode: 0o444, entry: pos, size: int64(le.Uint32(e[28:])), first: uint32(le.Uint16(e[26:])), modTime: dosTime(e)}
	if f.bits == 32 {
		c.first |= uint32(le.Uint16(e[20:])) << 16
	}
	if e[11]&attrDirectory != 0 {
		c.mode, c.size = fs.ModeDir|0o555, 0
		if c.first == 0 {
			return nil // the root once more
		}
	}
	return c
}

func dosTime(e []byte) time.Time {
	t, d := int(le.Uint16(e[22:])), int(le.Uint16(e[24:]))
	return time.Date(1980+d>>9, time.Month(d>>5&15), d&31, t>>11, t>>5&63, t&31*2, 0, time.UTC)
}

// shortName is the name in 8.3, of which letters outside ASCII are left out of account.
func shortName(e []byte) string {
	name, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if e[12]&lowerName != 0 {
		name = strings.ToLower(name)
	}
	if e[12]&lowerExt != 0 {
		ext = strings.ToLower(ext)
	}
	if ext != "" {
		name += "." + ext
	}
	return name
}

// longName gathers the entries of a long name, which come last part first.
type longName struct {
	units []uint16
	next  byte // number of the entry that has to follow; 0: the short one
	sum   byte
}

func (l *longName) add(e []byte) {
	number := e[0] & 0x3F
	if e[0]&0x40 != 0 {
		*l = longName{next: number, sum: e[13]}
	}
	if number == 0 || number != l.next || e[13] != l.sum {
		*l = longName{}
		return
	}
	l.next--
	var units []uint16
	for _, at := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := at[0]; i < at[1]; i += 2 {
			units = append(units, le.Uint16(e[i:]))
		}
	}
	l.units = append(units, l.units...)
}

// take returns the long name that belongs to a short entry, or "".
func (l *longName) take(e []byte) string {
	units, ok := l.units, l.next == 0 && len(l.units) > 0
	sum := l.sum
	*l = longName{}
	var want byte
	for _, c := range e[:11] {
		want = want>>1 | want<<7
		want += c
	}
	if !ok || want != sum {
		return ""
	}
	if i := slices.Index(units, 0); i >= 0 {
		units = units[:i]
	}
	return string(utf16.Decode(units))
}

func (f *FS) lookup(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := f.tree
	if name == "." {
		return n, nil
	}
	for _, part := range strings.Split(name, "/") {
		i, ok := slices.BinarySearchFunc(n.children, part, func(c *node, s string) int { return strings.Compare(c.name, s) })
		if !ok {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		n = n.children[i]
	}
	return n, nil
}

// Open opens a file or directory as it is on the disk: what replaced it is not seen.
func (f *FS) Open(name string) (fs.File, error) {
	n, err := f.lookup("open", name)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		d := &treefs.Dir{Info: info{n}}
		for _, c := range n.children {
			d.Entries = append(d.Entries, info{c})
		}
		return d, nil
	}
	c := &content{f: f, size: n.size}
	if n.size > 0 {
		if c.chain, err = f.chain(n.first, n.size); err == nil && int64(len(c.chain))*f.cluster < n.size {
			err = damaged("%d clusters for %d bytes", len(c.chain), n.size)
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return &treefs.File{Info: info{n}, SectionReader: io.NewSectionReader(c, 0, n.size)}, nil
}

// content reads a file's clusters.
type content struct {
	f     *FS
	chain []uint32
	size  int64
}

func (c *content) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && off < c.size {
		i, skip := off/c.f.cluster, off%c.f.cluster
		part := b[n:][:min(int64(len(b)-n), c.f.cluster-skip, c.size-off)]
		if err := c.f.read(part, c.f.pos(c.chain[i])+skip); err != nil {
			return n, err
		}
		n += len(part)
		off += int64(len(part))
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

type info struct{ n *node }

func (i info) Name() string       { return i.n.name }
func (i info) Size() int64        { return i.n.size }
func (i info) Mode() fs.FileMode  { return i.n.mode }
func (i info) ModTime() time.Time { return i.n.modTime }
func (i info) IsDir() bool        { return i.n.mode.IsDir() }
func (i info) Sys() any           { return nil }
