package iso

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// resolveRemoved drops the entries of files and directories from all trees.
func (w *rewriter) resolveRemoved(paths []string) error {
	for _, path := range paths {
		if err := w.removeEverywhere(path); err != nil {
			return fmt.Errorf("iso: %s: %w", path, err)
		}
	}
	return nil
}

func (w *rewriter) removeEverywhere(path string) error {
	n, err := w.im.lookup("remove", path, false)
	switch {
	case err != nil:
		return err
	case n == w.im.root:
		return fmt.Errorf("%w: is the root", fs.ErrInvalid)
	case n.own != nil && n.dir.entries[n.entry].dir == nil:
		return fmt.Errorf("%w: is a directory that Rock Ridge has relocated", ErrUnsupported)
	}
	if w.plan(n.dir).dropped[n.entry] {
		return nil // below another one that goes
	}
	e := n.dir.entries[n.entry]
	if err := w.drop(n.dir, n.entry, path); err != nil {
		return err
	}
	done := map[*dirExtent]bool{w.im.view.dirs[0]: true}
	for _, t := range w.im.trees {
		if done[t.dirs[0]] {
			continue
		}
		done[t.dirs[0]] = true
		if err := w.removeTwin(t, path, e); err != nil {
			return err
		}
	}
	return nil
}

// removeTwin drops from another tree what was a path's entry: by its name there, or else by its extents.
func (w *rewriter) removeTwin(t *tree, path string, e dirEntry) error {
	d := t.dirs[0]
	parts := strings.Split(path, "/")
	for i, name := range parts {
		at := d.entry(name)
		switch {
		case at < 0:
			return w.removeByExtents(t, path, e)
		case i == len(parts)-1:
			if other := d.entries[at]; other.file != e.file || (other.dir == nil) != (e.dir == nil) {
				return w.removeByExtents(t, path, e)
			}
			return w.drop(d, at, path)
		}
		if d = d.entries[at].dir; d == nil {
			return w.removeByExtents(t, path, e)
		}
	}
	return nil
}

// removeByExtents drops the one entry of another tree that has the file's extents.
func (w *rewriter) removeByExtents(t *tree, path string, e dirEntry) error {
	var dir *dirExtent
	at := -1
	for _, d := range t.dirs {
		for i, other := range d.entries {
			if e.file == nil || other.file != e.file || w.plan(d).dropped[i] {
				continue
			}
			if at >= 0 {
				return fmt.Errorf("%w: which of the names in another of the image's trees is its is not clear: %s or %s", ErrUnsupported, dir.entries[at].name, other.name)
			}
			dir, at = d, i
		}
	}
	if at < 0 {
		if m := e.mode(); m.Type() != 0 && !m.IsDir() {
			return nil // what only Rock Ridge knows
		}
		return fmt.Errorf("%w: its name in another of the image's trees was not found", ErrUnsupported)
	}
	return w.drop(dir, at, path)
}

// mode is an entry's mode by Rock Ridge, or 0.
func (e *dirEntry) mode() fs.FileMode {
	if e.susp == nil {
		return 0
	}
	return posixMode(e.susp.mode)
}

// entry is the index of a name, or -1. Other trees than Rock Ridge's do not know of case, or do not tell.
func (d *dirExtent) entry(name string) int {
	for i, e := range d.entries {
		if e.name == name || !d.tree.rockRidge && strings.EqualFold(e.name, name) {
			return i
		}
	}
	return -1
}

// drop drops an entry, with all that is below it. Extents that nothing refers to any more are cut out.
func (w *rewriter) drop(d *dirExtent, i int, path string) error {
	p := w.plan(d)
	if p.dropped[i] {
		return nil
	}
	p.dropped[i] = true
	e := d.entries[i]
	switch {
	case e.susp != nil && (e.susp.child != 0 || e.susp.relocated):
		return fmt.Errorf("%w: %s is a directory that Rock Ridge has relocated", ErrUnsupported, joined(d.path, e.name))
	case e.dir != nil:
		p.subdirs--
		w.plan(e.dir).gone = true
		for j := range e.dir.entries {
			if err := w.drop(e.dir, j, joined(path, e.dir.entries[j].name)); err != nil {
				return err
			}
		}
	case e.file != nil:
		w.lost[e.file]++
		if w.lost[e.file] == e.file.names {
			w.cutOut(e.file, path, nil)
		}
	}
	if d.tree == w.im.view && e.dir == nil {
		w.removed = append(w.removed, path)
	}
	return nil
}

// resolveAdded makes the new entries in all trees.
func (w *rewriter) resolveAdded(a Addition) error {
	if err := checkPath(a.Path); err != nil {
		return fmt.Errorf("%w: %w", fs.ErrInvalid, err)
	}
	modTime, err := checkModTime(a.ModTime, false)
	if err != nil {
		return err
	}
	f := &addedFile{Addition: a}
	f.ModTime = modTime
	w.added = append(w.added, f)
	w.addedAt[f.Path] = f
	done := make(map[*dirExtent]bool)
	for _, t := range w.im.trees {
		if done[t.dirs[0]] {
			continue
		}
		done[t.dirs[0]] = true
		if err := w.addTo(t, f); err != nil {
			return err
		}
	}
	return nil
}

// addTo adds a file to a tree, with the directories above it.
func (w *rewriter) addTo(t *tree, f *addedFile) error {
	if t.rockRidge && t.skip > maxSkip {
		return fmt.Errorf("%w: its records have %d bytes ahead of Rock Ridge's", ErrUnsupported, t.skip)
	}
	p := w.plan(t.dirs[0])
	parts := strings.Split(f.Path, "/")
	for i, name := range parts[:len(parts)-1] {
		sub, err := w.subdirectory(p, name)
		if err != nil {
			return err
		}
		if sub == nil {
			if sub, err = w.makeDirectory(t, p, name, strings.Join(parts[:i+1], "/"), f); err != nil {
				return err
			}
		}
		p = sub
	}
	name := parts[len(parts)-1]
	if at := p.d.entry(name); at >= 0 && !p.dropped[at] || p.freshEntry(name) != nil {
		return fs.ErrExist
	}
	return w.addEntry(t, p, &freshEntry{name: name, file: f, t: t})
}

func (p *dirPlan) freshEntry(name string) *freshEntry {
	i := slices.IndexFunc(p.fresh, func(e *freshEntry) bool { return e.name == name })
	if i < 0 {
		return nil
	}
	return p.fresh[i]
}

// subdirectory is the plan of a subdirectory, or nil if there is none.
func (w *rewriter) subdirectory(p *dirPlan, name string) (*dirPlan, error) {
	if e := p.freshEntry(name); e != nil {
		if e.dir == nil {
			return nil, fmt.Errorf("%w: %s is a file", fs.ErrExist, name)
		}
		return e.dir, nil
	}
	at := p.d.entry(name)
	if at < 0 || p.dropped[at] {
		return nil, nil
	}
	e := p.d.entries[at]
	switch {
	case e.dir != nil:
		return w.plan(e.dir), nil
	case e.susp != nil && w.im.dirs[e.susp.child] != nil:
		return w.plan(w.im.dirs[e.susp.child]), nil
	}
	return nil, fmt.Errorf("%w: %s is no directory", fs.ErrExist, name)
}

func (w *rewriter) makeDirectory(t *tree, parent *dirPlan, name, path string, f *addedFile) (*dirPlan, error) {
	d := &dirExtent{tree: t, path: path, parent: parent.d}
	w.made = append(w.made, d)
	if len(t.dirs)+len(w.made) > maxDirectories {
		return nil, errors.New("more directories than ISO 9660 holds")
	}
	parent.subdirs++
	e := &freshEntry{name: name, dir: w.plan(d), t: t, file: f}
	e.dir.source = f
	return e.dir, w.addEntry(t, parent, e)
}

// addEntry gives a new entry its identifier.
func (w *rewriter) addEntry(t *tree, p *dirPlan, e *freshEntry) error {
	var err error
	if t.joliet {
		e.ident, err = jolietName(e.name, e.dir != nil)
	} else {
		e.ident = p.taken().name(e.name, e.dir != nil)
	}
	if err != nil {
		return err
	}
	if e.dir == nil && !w.im.versions(t) {
		e.ident = e.ident[:len(e.ident)-len(versionOne(t))]
	}
	p.fresh = append(p.fresh, e)
	return nil
}

func versionOne(t *tree) string {
	if t.joliet {
		return "\x00;\x001"
	}
	return ";1"
}

// versions tells whether the tree's files have versions, as ECMA-119 wants and some makers leave out.
func (im *Image) versions(t *tree) bool {
	for _, d := range t.dirs {
		for _, e := range d.entries {
			if e.dir == nil {
				return strings.HasSuffix(e.ident, versionOne(t))
			}
		}
	}
	return true
}

// taken are the ISO 9660 names in a directory.
func (p *dirPlan) taken() isoTaken {
	taken := make(isoTaken)
	add := func(ident string) {
		ident = withoutVersion(ident)
		if !strings.Contains(ident, ".") {
			ident += "."
		}
		taken[ident] = 0
	}
	for i, e := range p.d.entries {
		if !p.dropped[i] {
			add(e.ident)
		}
	}
	for _, e := range p.fresh {
		add(e.ident)
	}
	return taken
}

// ownRecords are the first two records of a new directory.
func (w *rewriter) ownRecords(p *dirPlan) []*template {
	var list []*template
	for _, ident := range []string{selfIdent, parentIdent} {
		dir := p
		if ident == parentIdent {
			dir = w.plan(p.d.parent)
		}
		e := &freshEntry{ident: ident, dir: dir, t: p.d.tree, file: p.source}
		list = append(list, &template{b: e.record().encode(), fresh: e})
	}
	return list
}

// freshRecords are the records of a new entry.
func (w *rewriter) freshRecords(p *dirPlan, e *freshEntry) []*template {
	r := e.record()
	ce := 0
	if e.t.rockRidge {
		name := alternateName(e.name)
		if suStart(r.ident)+len(r.su)+len(name) <= maxRecord {
			r.su = append(r.su, name...)
		} else {
			ce = suStart(r.ident) + len(r.su)
			at := int64(p.more.add(name))
			entry := make([]byte, 28)
			copy(entry, "CE\x1C\x01")
			putBoth32(entry[4:], at/sectorSize)
			putBoth32(entry[12:], at%sectorSize)
			putBoth32(entry[20:], int64(len(name)))
			r.su = append(r.su, entry...)
		}
	}
	parts := 1
	if e.dir == nil {
		parts = len(extents(e.file.pos, e.file.size))
	}
	var list []*template
	for part := range parts {
		list = append(list, &template{b: r.encode(), fresh: e, part: part, ce: ce})
	}
	return list
}

// record is a new entry's record without its place and name.
func (e *freshEntry) record() record {
	r := record{ident: e.ident, stamp: recordDate(e.file.ModTime.UTC())}
	mode, links := int64(0o100000|0o444), int64(1)
	if m := e.file.Mode.Perm(); m != 0 {
		mode = 0o100000 | int64(m)
	}
	if e.dir != nil {
		r.flags, mode, links = flagDirectory, modeDirectory, 2+e.dir.subdirs
		if !e.dir.made {
			mode, links = e.dir.posix()
		}
	}
	if e.t.rockRidge {
		s := susp{h: &hierarchy{stamp: r.stamp}}
		r.su = append(make([]byte, e.t.skip), s.posix(mode, links)...)
	}
	return r
}

// posix is an old directory's mode, and its number of links as it will be.
func (p *dirPlan) posix() (mode, links int64) {
	rec := p.d.record(0)
	for _, e := range suspEntries(rec[p.d.tree.systemUse(rec, p.d.parent == nil):]) {
		if string(e[:2]) == "PX" && len(e) >= 20 {
			return int64(le.Uint32(e[4:])), int64(le.Uint32(e[12:])) + p.subdirs
		}
	}
	return modeDirectory, 2 + p.subdirs
}

// patchFresh puts a new record's place.
func (w *rewriter) patchFresh(p *dirPlan, t *template) {
	pos, size := int64(0), int64(0)
	if e := t.fresh; e.dir != nil {
		pos, size = w.dirPlace(e.dir.d)
	} else {
		all := extents(e.file.pos, e.file.size)
		pos, size = all[t.part].pos, all[t.part].size
		if t.part < len(all)-1 {
			t.b[25] |= flagMultiExtent
		}
	}
	putBoth32(t.b[2:], p.d.tree.number(pos))
	putBoth32(t.b[10:], size)
}
