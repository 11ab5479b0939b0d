package iso

import (
	"slices"
	"strings"
	"unicode/utf16"
)

// ECMA-119 9.1.6, further flags.
const (
	flagAssociated = 0x04
	selfIdent      = "\x00"
	parentIdent    = "\x01"
)

// dirExtent is a directory as it was read.
type dirExtent struct {
	tree    *tree // by which it was found first
	pos     int64
	size    int64 // as recorded
	path    string
	depth   int
	raw     []byte
	recs    []recordAt
	entries []dirEntry
	parent  *dirExtent
}

// recordAt is where a record lies in its directory.
type recordAt struct {
	at int32
	n  int32
}

// dirEntry is a file or a subdirectory, with one record, or several for a file of several extents.
type dirEntry struct {
	first, count int // records
	ident        string
	name         string // by Rock Ridge, Joliet or ISO 9660, whatever the tree has
	dir          *dirExtent
	file         *fileExtents // nil if empty
	susp         *suspInfo    // nil without Rock Ridge
}

func (d *dirExtent) record(i int) []byte { return d.raw[d.recs[i].at:][:d.recs[i].n] }

// readDirectories reads a tree's directories, each extent once.
func (im *Image) readDirectories(t *tree) error {
	root := t.raw[156:190]
	top, err := im.openDir(t, root, nil, "")
	if err != nil {
		return err
	}
	t.dirs = []*dirExtent{top}
	seen := map[*dirExtent]bool{top: true}
	for i := 0; i < len(t.dirs); i++ {
		d := t.dirs[i]
		if err := im.readEntries(t, d); err != nil {
			return err
		}
		for _, e := range d.entries {
			if e.dir == nil {
				continue
			}
			if seen[e.dir] {
				return damaged("%s: a directory that is there twice", e.dir.path)
			}
			seen[e.dir] = true
			t.dirs = append(t.dirs, e.dir)
		}
	}
	return nil
}

// openDir returns the directory that a record names.
func (im *Image) openDir(t *tree, rec []byte, parent *dirExtent, path string) (*dirExtent, error) {
	d := &dirExtent{tree: t, parent: parent, path: path}
	d.pos, d.size = t.block(le.Uint32(rec[2:])), int64(le.Uint32(rec[10:]))
	if old := im.dirs[d.pos]; old != nil {
		if old.tree.base != t.base || old.parent != parent { // a tree may be another one's, but not a part of it
			return nil, damaged("/%s: a directory of two volumes, or with two parents", path)
		}
		return old, nil
	}
	if parent != nil {
		d.depth = parent.depth + 1
	}
	if im.dirBytes += roundUp(d.size, sectorSize); im.dirBytes > maxDirectoryBytes || d.depth > maxDepth {
		return nil, damaged("/%s: more than %d bytes of directories, or %d levels", path, int64(maxDirectoryBytes), maxDepth)
	}
	var err error
	if d.raw, err = im.bytesAt("directory /"+path, d.pos, roundUp(d.size, sectorSize)); err != nil {
		return nil, err
	}
	im.dirs[d.pos] = d
	return d, d.split()
}

// split finds the records.
func (d *dirExtent) split() error {
	for at := 0; at < int(d.size); {
		n := int(d.raw[at])
		if n == 0 { // the rest of the sector is empty
			at = int(roundUp(int64(at+1), sectorSize))
			continue
		}
		if n < recordHead+1 || at%sectorSize+n > sectorSize || recordHead+int(d.raw[at+32]) > n {
			return damaged("/%s: the directory at %d", d.path, d.pos+int64(at))
		}
		d.recs = append(d.recs, recordAt{int32(at), int32(n)})
		at += n
	}
	if len(d.recs) < 2 || ident(d.record(0)) != selfIdent || ident(d.record(1)) != parentIdent {
		return damaged("/%s: the directory at %d lacks its own records", d.path, d.pos)
	}
	return nil
}

func ident(rec []byte) string { return string(rec[recordHead:][:rec[32]]) }

// readEntries reads what a directory's records say.
func (im *Image) readEntries(t *tree, d *dirExtent) error {
	if d.entries != nil {
		return nil // of a tree that shares it
	}
	if d.parent == nil && !t.joliet {
		t.findRockRidge(d.record(0))
	}
	for i := 0; i < len(d.recs); {
		first := i
		for d.record(i)[25]&flagMultiExtent != 0 && i+1 < len(d.recs) && ident(d.record(i+1)) == ident(d.record(first)) {
			i++
		}
		i++
		if err := im.addEntry(t, d, dirEntry{first: first, count: i - first}); err != nil {
			return err
		}
	}
	return nil
}

func (im *Image) addEntry(t *tree, d *dirExtent, e dirEntry) (err error) {
	rec := d.record(e.first)
	e.ident = ident(rec)
	if rec[1] != 0 || rec[26] != 0 || rec[27] != 0 {
		im.refuse("/%s: a file with extended attributes, or interleaved", d.path)
	}
	if t.rockRidge {
		if e.susp, err = im.readSUSP(t, rec, e.first == 0 && d.parent == nil); err != nil {
			return err
		}
	}
	if e.ident == selfIdent || e.ident == parentIdent {
		return nil
	}
	e.name = t.nameOf(e)
	path := joined(d.path, e.name)
	if im.pathBytes += int64(len(path)); len(path) > maxRockPath || im.pathBytes > maxPathBytes {
		return damaged("/%s: paths of more than %d bytes, or of %d together", d.path, maxRockPath, int64(maxPathBytes))
	}
	switch {
	case rec[25]&flagDirectory != 0:
		e.dir, err = im.openDir(t, rec, d, path)
	default:
		e.file, err = im.openFile(t, d, e, path)
	}
	d.entries = append(d.entries, e)
	return err
}

func joined(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// openFile returns the extents that an entry's records name, or nil for an empty file.
func (im *Image) openFile(t *tree, d *dirExtent, e dirEntry, path string) (*fileExtents, error) {
	f := &fileExtents{path: path}
	for i := range e.count {
		rec := d.record(e.first + i)
		p := piece{t.block(le.Uint32(rec[2:])), int64(le.Uint32(rec[10:]))}
		if p.size == 0 {
			continue
		}
		if err := im.within("/"+path, p.pos, p.size); err != nil {
			return nil, err
		}
		f.pieces = append(f.pieces, p)
		f.size += p.size
	}
	if f.size == 0 {
		return nil, nil
	}
	f.pieces = merged(f.pieces)
	key := piece{f.pieces[0].pos, f.size}
	if old := im.files[key]; old != nil && slices.Equal(old.pieces, f.pieces) {
		f = old
	} else if old == nil {
		im.files[key] = f
	} else {
		return nil, damaged("/%s and /%s: begin alike and lie elsewhere", path, old.path)
	}
	f.names++
	f.packed = f.packed || e.susp != nil && e.susp.packed
	return f, nil
}

// nameOf is an entry's name in the tree's best way.
func (t *tree) nameOf(e dirEntry) string {
	if e.susp != nil && e.susp.name != "" {
		return e.susp.name
	}
	if t.joliet {
		return withoutVersion(decodeUCS2(e.ident))
	}
	return strings.TrimSuffix(strings.ToLower(withoutVersion(e.ident)), ".")
}

func withoutVersion(s string) string {
	if i := strings.LastIndexByte(s, ';'); i > 0 {
		return s[:i]
	}
	return s
}

func decodeUCS2(s string) string {
	var units []uint16
	for b := []byte(s); len(b) >= 2; b = b[2:] {
		units = append(units, be.Uint16(b))
	}
	return string(utf16.Decode(units))
}
