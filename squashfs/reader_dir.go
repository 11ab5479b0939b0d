package squashfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"
)

// readerListing reads the entries of a directory one by one.
type readerListing struct {
	c     readerCursor
	dir   *readerInode
	pos   uint32 // bytes of the listing read so far
	left  uint32 // bytes of it to come
	count uint32 // entries to come before the next header
	block uint32 // of the header: the inodes' metadata block
	base  uint32 // of the header: the number that the inodes' are relative to
	name  []byte // of the last entry
}

// readerEntry is a directory entry.
type readerEntry struct {
	name []byte // not to be changed: it may lie in a cached block
	typ  inodeType
	ref  inodeRef
	pos  uint32 // where in the listing
}

// listing starts to read dir, at the mark m or, if that is nil, from its start.
// The kernel counts 3 more bytes than a listing has, for "." and "..".
func (r *Reader) listing(dir *readerInode, m *readerMark) readerListing {
	l := readerListing{dir: dir}
	if dir.size > 3 {
		l.left = uint32(dir.size - 3)
	}
	l.c = readerCursor{r: r, pos: r.sb.dirTable + dir.start, end: r.dirEnd, off: int(dir.offset)}
	if m != nil {
		l.c.pos, l.c.off = m.block, int((uint64(m.pos)+uint64(dir.offset))%metadataSize)
		l.pos = m.pos
		l.left -= m.pos
	}
	return l
}

// take returns the next n bytes, which the listing must still have. They are not
// to be changed: unless they go over the end of a metadata block, they lie in it.
func (l *readerListing) take(n int) ([]byte, error) {
	if uint32(n) > l.left {
		return nil, fmt.Errorf("%w: directory listing ends within an entry", ErrCorrupt)
	}
	l.pos += uint32(n)
	l.left -= uint32(n)
	rest, err := l.c.peek()
	if err != nil {
		return nil, err
	}
	if n <= len(rest) {
		l.c.off += n
		return rest[:n:n], nil
	}
	b := make([]byte, n)
	return b, l.c.read(b)
}

// next returns the next entry, or io.EOF. After another error it is where it was,
// since the next reading may succeed.
func (l *readerListing) next() (readerEntry, error) {
	if l.count == 0 && l.left == 0 {
		return readerEntry{}, io.EOF
	}
	before := *l
	if l.count == 0 {
		if err := l.header(); err != nil {
			*l = before
			return readerEntry{}, err
		}
	}
	l.count--
	e, err := l.entry()
	if err != nil {
		*l = before
	}
	return e, err
}

// header reads struct squashfs_dir_header.
func (l *readerListing) header() error {
	b, err := l.take(12)
	if err != nil {
		return err
	}
	l.count = binary.LittleEndian.Uint32(b[:])  // count, less one
	l.block = binary.LittleEndian.Uint32(b[4:]) // start_block
	l.base = binary.LittleEndian.Uint32(b[8:])  // inode_number
	if l.count >= maxDirCount {
		return fmt.Errorf("%w: directory header with %d entries", ErrCorrupt, uint64(l.count)+1)
	}
	l.count++
	return nil
}

// entry reads struct squashfs_dir_entry. Its inode_number is not needed: the
// inode has its own.
func (l *readerListing) entry() (readerEntry, error) {
	e := readerEntry{pos: l.pos}
	b, err := l.take(8)
	if err != nil {
		return e, err
	}
	e.ref = makeRef(l.block, binary.LittleEndian.Uint16(b[:])) // offset
	e.typ = inodeType(binary.LittleEndian.Uint16(b[4:]))       // type
	size := int(binary.LittleEndian.Uint16(b[6:])) + 1         // size, less one
	if e.typ < typeDir || e.typ > typeSocket || size > maxNameLen {
		return e, fmt.Errorf("%w: directory entry of type %d with a name of %d bytes", ErrCorrupt, e.typ, size)
	}
	if e.name, err = l.take(size); err != nil {
		return e, err
	}
	if !readerValidName(e.name) {
		return e, fmt.Errorf("%w: name %q in a directory", ErrCorrupt, e.name)
	}
	// The kernel searches directories relying on the order (fs/squashfs/namei.c).
	if bytes.Compare(l.name, e.name) >= 0 {
		return e, fmt.Errorf("%w: name %q after %q in a directory", ErrCorrupt, e.name, l.name)
	}
	l.name = e.name
	return e, nil
}

// readerValidName: names are path elements.
func readerValidName(name []byte) bool {
	return len(name) > 0 && bytes.IndexByte(name, '/') < 0 && bytes.IndexByte(name, 0) < 0 &&
		string(name) != "." && string(name) != ".."
}

// readerMark is a place in a directory's listing where a header starts, so that
// a search need not start at the beginning.
type readerMark struct {
	name  string // of the first entry after it
	pos   uint32 // bytes of the listing before it
	block uint64 // position of the metadata block it is in
}

const (
	readerMarkCost = 64      // bytes that a mark takes besides its name
	readerMaxIndex = 1 << 13 // marks kept for a directory

	// readerMaxGap is how far apart, in bytes of the listing, the entries of an
	// index may be. Writers make one for each metadata block in which a header
	// starts, and 256 of the longest names after one header take nine of those.
	readerMaxGap = 16 * metadataSize
)

// lookup finds name in dir, or fails with [fs.ErrNotExist].
func (r *Reader) lookup(dir *readerInode, name string) (readerEntry, error) {
	start, err := r.searchStart(dir, name)
	if err != nil {
		return readerEntry{}, err
	}
	l := r.listing(dir, start)
	for {
		e, err := l.next()
		if start != nil && err == nil {
			// An index that lies would hide files from searches only.
			if string(e.name) != start.name {
				return e, fmt.Errorf("%w: directory index: %q at %d, where %q is", ErrCorrupt, start.name, start.pos, e.name)
			}
			start = nil
		}
		switch {
		case err == io.EOF || err == nil && string(e.name) > name:
			return readerEntry{}, fs.ErrNotExist
		case err != nil || string(e.name) == name:
			return e, err
		}
	}
}

// searchStart returns the last mark that is not after name. Listings of less
// than a metadata block are searched from the start: making marks costs more.
func (r *Reader) searchStart(dir *readerInode, name string) (*readerMark, error) {
	if dir.size <= metadataSize {
		return nil, nil
	}
	marks, ok := r.marks.get(dir.ref)
	if !ok {
		var err error
		if marks, err = r.makeMarks(dir); err != nil {
			return nil, err
		}
		cost := 0
		for _, m := range marks {
			cost += len(m.name) + readerMarkCost
		}
		r.marks.add(dir.ref, marks, cost)
	}
	i := sort.Search(len(marks), func(i int) bool { return marks[i].name > name })
	if i == 0 {
		return nil, nil
	}
	return &marks[i-1], nil
}

// makeMarks takes the directory's index, or makes one where there is none, or one
// with gaps that would make searches long.
func (r *Reader) makeMarks(dir *readerInode) ([]readerMark, error) {
	index, err := r.readIndex(dir)
	if err != nil {
		return nil, err
	}
	if len(index) == 0 {
		return r.scanMarks(dir, nil)
	}
	last := uint32(0)
	for _, m := range append(index, readerMark{pos: uint32(dir.size)}) {
		if m.pos-last > readerMaxGap {
			return r.scanMarks(dir, index)
		}
		last = m.pos
	}
	return thinMarks(dir, index), nil
}

// thinMarks leaves out those that are needlessly close to others.
func thinMarks(dir *readerInode, marks []readerMark) []readerMark {
	apart := max(metadataSize/2, uint32(dir.size/readerMaxIndex))
	kept := marks[:0]
	for _, m := range marks {
		if len(kept) == 0 || m.pos-kept[len(kept)-1].pos >= apart {
			kept = append(kept, m)
		}
	}
	return kept
}

// readIndex reads the index of a directory, a struct squashfs_dir_index for
// about every metadata block of the listing.
func (r *Reader) readIndex(dir *readerInode) ([]readerMark, error) {
	c := dir.tail
	var marks []readerMark
	last := readerMark{block: r.sb.dirTable + dir.start}
	for range dir.indexCount {
		var b [12]byte
		if err := c.read(b[:]); err != nil {
			return nil, fmt.Errorf("directory index: %w", err)
		}
		size := uint64(binary.LittleEndian.Uint32(b[8:])) + 1 // size, less one
		if size > maxNameLen {
			return nil, fmt.Errorf("%w: directory index: name of %d bytes", ErrCorrupt, size)
		}
		name := make([]byte, size)
		if err := c.read(name); err != nil {
			return nil, fmt.Errorf("directory index: %w", err)
		}
		m := readerMark{
			name:  string(name),
			pos:   binary.LittleEndian.Uint32(b[:]),                          // index
			block: r.sb.dirTable + uint64(binary.LittleEndian.Uint32(b[4:])), // start_block
		}
		if m.name <= last.name || m.pos < last.pos || m.block < last.block || uint64(m.pos)+3 >= dir.size {
			return nil, fmt.Errorf("%w: directory index: %q at %d", ErrCorrupt, m.name, m.pos)
		}
		marks = append(marks, m)
		last = m
	}
	return marks, nil
}

// scanMarks makes an index for a large directory that has none, as gensquashfs
// and others leave them. What index there is must be right: the kernel uses it.
func (r *Reader) scanMarks(dir *readerInode, index []readerMark) ([]readerMark, error) {
	apart := max(metadataSize, uint32(dir.size/readerMaxIndex))
	var marks []readerMark
	l := r.listing(dir, nil)
	for {
		m := readerMark{pos: l.pos}
		header := l.count == 0 && l.left > 0
		if header {
			if _, err := l.c.peek(); err != nil {
				return nil, err
			}
			m.block = l.c.pos
		}
		e, err := l.next()
		if err == io.EOF && len(index) == 0 {
			return marks, nil
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if len(index) > 0 && (err == io.EOF || m.pos >= index[0].pos) {
			if m.name = string(e.name); !header || m != index[0] {
				return nil, fmt.Errorf("%w: directory index: %q at %d", ErrCorrupt, index[0].name, index[0].pos)
			}
			index = index[1:]
		}
		if header && (len(marks) == 0 || m.pos-marks[len(marks)-1].pos >= apart) {
			m.name = string(e.name)
			marks = append(marks, m)
		}
	}
}

// readerPlace is the one place where a directory may appear: its parent, and
// where in that one's listing.
type readerPlace struct {
	parent inodeRef
	pos    uint32
}

// enter reads the inode of the entry e of dir. A directory must always be come to
// by the same entry. So the directories are a tree, without cycles and without
// the shared branches that a few hundred bytes can unfold to 2^64 paths.
func (r *Reader) enter(dir *readerInode, e readerEntry) (*readerInode, error) {
	n, err := r.entryInode(e.ref, e.typ)
	if err != nil || e.typ != typeDir {
		return n, err
	}
	place := readerPlace{dir.ref, e.pos}
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.places[e.ref]
	if !ok {
		r.places[e.ref] = place
	} else if known != place {
		return nil, fmt.Errorf("%w: directory with two names (inode %d)", ErrCorrupt, n.number)
	}
	return n, nil
}

// entryInode reads the inode of an entry, whose type must be the entry's.
func (r *Reader) entryInode(ref inodeRef, typ inodeType) (*readerInode, error) {
	n, err := r.readInode(ref)
	if err != nil {
		return nil, err
	}
	if n.typ.basic() != typ {
		return nil, fmt.Errorf("%w: inode %d of type %d in an entry of type %d", ErrCorrupt, n.number, n.typ, typ)
	}
	return n, nil
}

// readerDirEntry is an entry as [fs.DirEntry]. Its Info reads the inode.
type readerDirEntry struct {
	r    *Reader
	dir  string
	name string
	typ  inodeType
	ref  inodeRef
}

func (e *readerDirEntry) Name() string      { return e.name }
func (e *readerDirEntry) IsDir() bool       { return e.typ == typeDir }
func (e *readerDirEntry) Type() fs.FileMode { return typeModes[e.typ] }
func (e *readerDirEntry) String() string    { return fs.FormatDirEntry(e) }

func (e *readerDirEntry) Info() (fs.FileInfo, error) {
	n, err := e.r.entryInode(e.ref, e.typ)
	if err != nil {
		return nil, readerError("stat", strings.TrimPrefix(e.dir+"/"+e.name, "./"), err)
	}
	return readerInfo{e.name, n}, nil
}

// readEntries returns up to max entries, or all if max is not positive. At the
// end of the listing it returns no error.
func (l *readerListing) readEntries(dir string, max int) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	for max <= 0 || len(list) < max {
		e, err := l.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return list, err
		}
		list = append(list, &readerDirEntry{l.c.r, dir, string(e.name), e.typ, e.ref})
	}
	return list, nil
}
