package iso

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// dirPlan is what becomes of a directory whose entries change.
type dirPlan struct {
	d       *dirExtent
	fresh   []*freshEntry
	dropped map[int]bool // entries
	subdirs int64        // how many more there are
	gone    bool         // nothing refers to it
	made    bool         // it is new,
	source  *addedFile   // for this file

	// Where its records have changed their number:
	records []*template
	pos     int64
	size    int64
	moved   bool
	more    sectors // new continuation areas
	morePos int64
}

// freshEntry is a new entry of a directory: a file or a new directory.
type freshEntry struct {
	ident string
	name  string
	file  *addedFile
	dir   *dirPlan
	t     *tree
}

// template is a record that is to be written.
type template struct {
	b     []byte
	entry *dirEntry // of an old one; nil for the directory's own
	part  int       // of a replaced file
	fresh *freshEntry
	ce    int // where its new continuation entry is; 0 if none
}

func (w *rewriter) plan(d *dirExtent) *dirPlan {
	p := w.plans[d]
	if p == nil {
		p = &dirPlan{d: d, dropped: make(map[int]bool), made: d.raw == nil}
		w.plans[d] = p
	}
	return p
}

// extents are where a file of the new image lies, in parts that a record holds.
func extents(pos, size int64) []piece { return (&content{pos: pos, size: size}).extents() }

// parts are the records that an entry's file takes.
func (w *rewriter) parts(e *dirEntry) int {
	if k := w.replaced[e.file]; e.file != nil && k != nil {
		return len(extents(k.pos, k.size))
	}
	return e.count
}

// rebuilt tells whether a directory's records have to be laid out anew.
func (w *rewriter) rebuilt(d *dirExtent) bool {
	if p := w.plans[d]; p != nil && (p.made || len(p.fresh)+len(p.dropped) > 0) {
		return true
	}
	return slices.ContainsFunc(d.entries, func(e dirEntry) bool { return w.parts(&e) != e.count })
}

// placeDirectories lays out the directories whose records are others, and the path tables.
func (w *rewriter) placeDirectories() error {
	for _, d := range w.allDirs() {
		if p := w.plans[d]; p != nil && p.gone || !w.rebuilt(d) {
			continue
		}
		if err := w.placeDirectory(w.plan(d)); err != nil {
			return err
		}
	}
	for _, t := range w.im.trees {
		if err := w.placeTables(t); err != nil {
			return err
		}
	}
	return nil
}

// allDirs are the directories by position, then the new ones in the order in which they were made.
func (w *rewriter) allDirs() []*dirExtent {
	list := slices.Collect(maps.Values(w.im.dirs))
	slices.SortFunc(list, func(a, b *dirExtent) int { return cmp.Compare(a.pos, b.pos) })
	return append(list, w.made...)
}

// placeDirectory finds a place for a directory: its own if that is large enough.
func (w *rewriter) placeDirectory(p *dirPlan) error {
	var b sectors
	p.records = w.templates(p)
	for _, t := range p.records {
		b.add(t.b)
	}
	p.size = roundUp(int64(len(b)), sectorSize)
	if p.size > maxDirectoryBytes {
		return damaged("/%s: a directory of %d bytes", p.d.path, p.size)
	}
	if old := roundUp(p.d.size, sectorSize); p.made || p.size > old {
		pos, err := w.reserve(p.size)
		if err != nil {
			return err
		}
		p.pos, p.moved = pos, true
	} else {
		p.size = p.d.size
	}
	var err error
	p.morePos, err = w.reserve(int64(len(p.more)))
	return err
}

// reserve takes whole sectors behind what is written.
func (w *rewriter) reserve(size int64) (pos int64, err error) {
	if size == 0 {
		return 0, nil
	}
	err = w.zeroTo(roundUp(w.at, sectorSize))
	pos = w.at
	w.at += roundUp(size, sectorSize)
	return pos, err
}

// templates lists a directory's records: the old ones in their order, with the new ones where their
// identifiers belong.
func (w *rewriter) templates(p *dirPlan) []*template {
	var list []*template
	fresh := slices.Clone(p.fresh)
	add := func(limit string, all bool) {
		for len(fresh) > 0 && (all || fresh[0].key() < limit) {
			list = append(list, w.freshRecords(p, fresh[0])...)
			fresh = fresh[1:]
		}
	}
	slices.SortFunc(fresh, func(a, b *freshEntry) int { return cmp.Compare(a.key(), b.key()) })
	for i := range min(2, len(p.d.recs)) {
		list = append(list, &template{b: bytes.Clone(p.d.record(i))})
	}
	if p.made {
		list = w.ownRecords(p)
	}
	for i := range p.d.entries {
		e := &p.d.entries[i]
		if p.dropped[i] {
			continue
		}
		add(sortKey(p.d.tree, e.ident), false)
		for part := range w.parts(e) {
			rec := p.d.record(e.first + min(part, e.count-1))
			list = append(list, &template{b: bytes.Clone(rec), entry: e, part: part})
		}
	}
	add("", true)
	return list
}

func (e *freshEntry) key() string { return sortKey(e.t, e.ident) }

// sortKey orders a directory's identifiers (ECMA-119 9.3; Joliet's as they are).
func sortKey(t *tree, ident string) string {
	if t.joliet || len(ident) > maxISODirectory+2 {
		return ident
	}
	return isoSortKey(ident)
}

// dirPlace is where a directory of the old image, or a new one, lies in the new one.
func (w *rewriter) dirPlace(d *dirExtent) (pos, size int64) {
	p := w.plans[d]
	switch {
	case p != nil && p.moved:
		return p.pos, p.size
	case d.raw == nil:
		return 0, 0
	}
	return w.m.start(d.pos), d.size
}

// writeDirectories writes all directories.
func (w *rewriter) writeDirectories() error {
	for _, d := range w.allDirs() {
		p := w.plans[d]
		var b []byte
		var err error
		switch {
		case p != nil && p.gone:
			b = make([]byte, len(d.raw))
		case p != nil && p.records != nil:
			if b, err = w.encodePlan(p); err == nil && p.moved && !p.made {
				err = w.put(w.m.start(d.pos), make([]byte, len(d.raw)))
			}
		default:
			b = w.patched(d)
		}
		if err != nil {
			return err
		}
		pos, _ := w.dirPlace(d)
		if err := w.put(pos, b); err != nil {
			return err
		}
	}
	return nil
}

// patched is a directory whose records keep their number.
func (w *rewriter) patched(d *dirExtent) []byte {
	b := bytes.Clone(d.raw)
	record := func(i int) []byte { return b[d.recs[i].at:][:d.recs[i].n] }
	w.patchRecord(d, record(0), nil, 0)
	w.patchRecord(d, record(1), nil, 0)
	for i := range d.entries {
		e := &d.entries[i]
		for part := range e.count {
			w.patchRecord(d, record(e.first+part), e, part)
		}
	}
	return b
}

// encodePlan is a directory with other records than it had. Its new continuation area is written, too.
func (w *rewriter) encodePlan(p *dirPlan) ([]byte, error) {
	var b sectors
	for _, t := range p.records {
		switch {
		case t.fresh != nil:
			w.patchFresh(p, t)
		default:
			w.patchRecord(p.d, t.b, t.entry, t.part)
		}
		if t.ce != 0 {
			block := int64(le.Uint32(t.b[t.ce+4:]))
			putBoth32(t.b[t.ce+4:], p.d.tree.number(p.morePos)+block)
		}
		b.add(t.b)
	}
	if len(p.more) > 0 {
		if err := w.put(p.morePos, padded(p.more, sectorSize)); err != nil {
			return nil, err
		}
	}
	out := make([]byte, roundUp(p.size, sectorSize))
	copy(out, b)
	return out, nil
}

// patchRecord corrects an old record: where its file or directory lies, how large it is, and what its
// system use entries point to. e is nil for the directory's own records.
func (w *rewriter) patchRecord(d *dirExtent, rec []byte, e *dirEntry, part int) {
	old := d.tree.block(le.Uint32(rec[2:]))
	switch target := w.im.dirs[old]; {
	case rec[25]&flagDirectory != 0 && target != nil:
		w.patchDirRecord(d.tree, rec, target)
	case e != nil && e.file != nil && w.replaced[e.file] != nil:
		k := w.replaced[e.file]
		all := extents(k.pos, k.size)
		putBoth32(rec[2:], d.tree.number(all[part].pos))
		putBoth32(rec[10:], all[part].size)
		rec[25] &^= flagMultiExtent
		if part < len(all)-1 {
			rec[25] |= flagMultiExtent
		}
	default:
		w.patchBlock(d.tree, rec[2:], w.m.start(old))
	}
	root := d.parent == nil && e == nil && ident(rec) == selfIdent
	if !d.tree.rockRidge || root && d.tree.skip != 0 {
		return
	}
	for _, su := range suspEntries(rec[d.tree.systemUse(rec, root):]) {
		w.patchSUSP(d.tree, su)
	}
}

// patchDirRecord corrects a record that names a directory, with its number of links.
func (w *rewriter) patchDirRecord(t *tree, rec []byte, target *dirExtent) {
	pos, size := w.dirPlace(target)
	w.patchBlock(t, rec[2:], pos)
	p := w.plans[target]
	if p == nil {
		return
	}
	if p.moved {
		putBoth32(rec[10:], size)
	}
	if p.subdirs == 0 || !t.rockRidge {
		return
	}
	for _, su := range suspEntries(rec[t.systemUse(rec, false):]) {
		if string(su[:2]) == "PX" && len(su) >= 20 {
			putBoth32(su[12:], max(int64(le.Uint32(su[12:]))+p.subdirs, 1))
		}
	}
}

// patchBlock puts a block number, unless it is there: a byte order that is wrong stays so in what does not move.
func (w *rewriter) patchBlock(t *tree, b []byte, pos int64) {
	n := (pos - t.base) / sectorSize
	if n >= 0 && n <= math.MaxUint32 && int64(le.Uint32(b)) != n {
		putBoth32(b, n)
	}
}

func (w *rewriter) patchSUSP(t *tree, e []byte) {
	sig := string(e[:2])
	if (sig != "CE" && sig != "CL" && sig != "PL") || len(e) < 12 {
		return
	}
	target := t.block(le.Uint32(e[4:]))
	w.patchBlock(t, e[4:], w.suspTarget(target, sig != "CE"))
}

func (w *rewriter) suspTarget(target int64, dir bool) int64 {
	if d := w.im.dirs[target]; dir && d != nil {
		pos, _ := w.dirPlace(d)
		return pos
	}
	return w.m.start(target)
}

// writeTags corrects the block numbers in continuation areas.
func (w *rewriter) writeTags() error {
	for _, t := range w.im.tags {
		target := w.suspTarget(t.target, t.dir)
		if target == t.target {
			continue
		}
		b := make([]byte, 8)
		w.patchBlock(t.tree, b, target)
		if err := w.put(w.m.start(t.at), b); err != nil {
			return err
		}
	}
	return nil
}

// tablePlan are the path tables of a tree that has other directories than it had.
type tablePlan struct {
	dirs []*dirExtent
	h    *hierarchy
	pos  [4]int64 // of those that moved
}

// placeTables finds a place for a tree's path tables, if its directories are others.
func (w *rewriter) placeTables(t *tree) error {
	changed := slices.ContainsFunc(w.made, func(d *dirExtent) bool { return d.tree == t }) ||
		slices.ContainsFunc(t.dirs, func(d *dirExtent) bool { p := w.plans[d]; return p != nil && p.gone })
	if !changed {
		return nil
	}
	p, err := w.newTable(t)
	if err != nil {
		return err
	}
	w.tables[t] = p
	if p.h.pathTableSize <= roundUp(t.tableSize, sectorSize) {
		return nil
	}
	for i, old := range t.tables {
		if old == 0 {
			continue
		}
		var err error
		if p.pos[i], err = w.reserve(p.h.pathTableSize); err != nil {
			return err
		}
	}
	return nil
}

// newTable orders a tree's directories as ECMA-119 6.9.1 wants.
func (w *rewriter) newTable(t *tree) (*tablePlan, error) {
	top := &directory{ident: selfIdent, number: 1}
	top.parent = top
	p := &tablePlan{dirs: []*dirExtent{t.dirs[0]}, h: &hierarchy{dirs: []*directory{top}}}
	for i := 0; i < len(p.dirs); i++ {
		for _, c := range w.subdirectories(p.dirs[i]) {
			p.dirs = append(p.dirs, c.d)
			p.h.dirs = append(p.h.dirs, &directory{ident: c.ident, parent: p.h.dirs[i], number: int64(len(p.dirs))})
		}
	}
	if len(p.dirs) > maxDirectories {
		return nil, fmt.Errorf("iso: image %w: %d directories, ISO 9660 holds %d", ErrUnsupported, len(p.dirs), maxDirectories)
	}
	p.h.pathTableSize = int64(len(p.h.pathTable(le)))
	return p, nil
}

type namedDir struct {
	ident string
	d     *dirExtent
}

// subdirectories are a directory's subdirectories in the new image, in order.
func (w *rewriter) subdirectories(d *dirExtent) []namedDir {
	var list []namedDir
	p := w.plans[d]
	for i, e := range d.entries {
		if e.dir != nil && (p == nil || !p.dropped[i]) {
			list = append(list, namedDir{e.ident, e.dir})
		}
	}
	if p == nil {
		return list
	}
	for _, e := range p.fresh {
		if e.dir != nil {
			list = append(list, namedDir{e.ident, e.dir.d})
		}
	}
	slices.SortStableFunc(list, func(a, b namedDir) int {
		return cmp.Compare(sortKey(d.tree, a.ident), sortKey(d.tree, b.ident))
	})
	return list
}

// writeTables writes a tree's path tables and corrects their descriptor.
func (w *rewriter) writeTables(d *descriptor) error {
	t := d.tree
	raw := bytes.Clone(d.raw)
	size := t.tableSize
	if p := w.tables[t]; p != nil {
		size = p.h.pathTableSize
		for i, sub := range p.dirs {
			pos, _ := w.dirPlace(sub)
			p.h.dirs[i].pos = pos - t.base
		}
	}
	for i, old := range t.tables {
		if old == 0 {
			continue
		}
		order := []binary.ByteOrder{le, be}[i/2]
		pos, err := w.writeTable(t, i, order)
		if err != nil {
			return err
		}
		order.PutUint32(raw[pathTableFields[i]:], u32(t.number(pos)))
	}
	if size != t.tableSize {
		putBoth32(raw[132:], size)
	}
	w.patchDirRecord(t, raw[156:190], t.dirs[0])
	end := d.block(le.Uint32(raw[80:]))
	if n := (w.m.end(end, true) - d.base + sectorSize - 1) / sectorSize; n != int64(le.Uint32(raw[80:])) {
		putBoth32(raw[80:], n)
	}
	return w.put(w.m.start(d.pos), raw)
}

// writeTable writes the i-th of a tree's path tables and returns where.
func (w *rewriter) writeTable(t *tree, i int, order binary.ByteOrder) (pos int64, err error) {
	p := w.tables[t]
	if p == nil {
		pos = w.m.start(t.tables[i])
		b, err := w.im.bytesAt("path table", t.tables[i], t.tableSize)
		if err != nil {
			return 0, err
		}
		w.patchTable(t, b, order)
		return pos, w.put(pos, b)
	}
	b := padded(p.h.pathTable(order), sectorSize)
	if pos = p.pos[i]; pos == 0 {
		pos = w.m.start(t.tables[i])
		b = append(b, make([]byte, roundUp(t.tableSize, sectorSize)-int64(len(b)))...)
	}
	return pos, w.put(pos, b)
}

// patchTable corrects the block numbers of a path table (ECMA-119 9.4).
func (w *rewriter) patchTable(t *tree, b []byte, order binary.ByteOrder) {
	for len(b) > 8 {
		n := int(roundUp(8+int64(b[0]), 2))
		if n > len(b) {
			return
		}
		pos := w.suspTarget(t.block(order.Uint32(b[2:])), true)
		if block := (pos - t.base) / sectorSize; block >= 0 && block <= math.MaxUint32 {
			order.PutUint32(b[2:], u32(block))
		}
		b = b[n:]
	}
}

// writeMetadata writes everything that says where something lies.
func (w *rewriter) writeMetadata(Changes) error {
	for _, d := range w.im.descriptors {
		if err := w.writeTables(d); err != nil {
			return err
		}
	}
	if err := w.writeDirectories(); err != nil {
		return err
	}
	if err := w.writeTags(); err != nil {
		return err
	}
	if w.im.catalog != nil {
		b := make([]byte, 4)
		le.PutUint32(b, u32(sector(w.m.start(w.im.catalog.pos))))
		for _, record := range w.im.catalog.records {
			if err := w.put(w.m.start(record)+71, b); err != nil {
				return err
			}
		}
	}
	if err := w.writeHFS(); err != nil {
		return err
	}
	return w.writeBoot()
}
