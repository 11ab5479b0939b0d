package iso

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
)

const (
	maxShift   = 1 << 20        // that a partition's alignment asks for
	maxUnit    = 16 << 20       // of the image's end
	maxPadding = 150 << 11      // that xorriso and mkisofs leave behind the files, for drives that read ahead
	maxBlock32 = math.MaxUint32 // of 512 bytes, in the MBR and an APM
)

// span is a part of the old image and where it lies in the new one.
type span struct {
	old, end    int64
	new, newEnd int64
	cut         bool // its content is another one
}

// spanMap maps positions of the old image to the new one's.
type spanMap struct {
	spans    []span // sorted; they cover the old image
	content  int64  // the old files' end
	inserted int64  // the new files' end
	oldSize  int64
	newSize  int64
}

// start maps where something begins.
func (m *spanMap) start(pos int64) int64 {
	i := sort.Search(len(m.spans), func(i int) bool { return m.spans[i].end > pos })
	if i == len(m.spans) || pos < m.spans[i].old {
		return pos - m.oldSize + m.newSize
	}
	s := m.spans[i]
	if s.cut {
		return s.new
	}
	return pos - s.old + s.new
}

// end maps where something ends. What is made of the files ends behind new ones, too.
func (m *spanMap) end(pos int64, container bool) int64 {
	if pos == m.content && container {
		return m.inserted
	}
	i := sort.Search(len(m.spans), func(i int) bool { return m.spans[i].end >= pos })
	if i == len(m.spans) {
		return pos - m.oldSize + m.newSize
	}
	s := m.spans[i]
	if s.cut {
		return s.newEnd
	}
	return pos - s.old + s.new
}

// claim is a part of the image that something says to be its own.
type claim struct {
	start, end int64
	what       string
	kind       claimKind
	file       *fileExtents
}

const theCatalog = "the boot catalog"

type claimKind int

const (
	solid     claimKind = iota // must stay together
	loader                     // may be replaced as a whole
	mounted                    // a partition with a file system of its own: must stay together, or be replaced as a whole
	container                  // a partition or volume made of what lies in it
	tail                       // as solid, behind all files
	aliased                    // may be replaced as a whole, which is recorded
)

// claims lists what is known of the image.
func (im *Image) claims() []claim {
	list := []claim{{0, systemArea, "the system area", solid, nil}}
	for _, s := range im.sets {
		list = append(list, claim{s.pos, s.end(), "the volume descriptors", solid, nil})
	}
	for _, t := range im.tags {
		list = append(list, claim{t.at, t.at + 4, "a continuation area", solid, nil})
	}
	for _, d := range im.descriptors {
		for _, pos := range d.tree.tables {
			if pos != 0 {
				list = append(list, claim{pos, pos + roundUp(d.tree.tableSize, sectorSize), "a path table", solid, nil})
			}
		}
	}
	for _, d := range im.dirs {
		list = append(list, claim{d.pos, d.pos + roundUp(d.size, sectorSize), "the directory /" + d.path, solid, nil})
	}
	for _, f := range im.files {
		for _, p := range f.pieces {
			list = append(list, claim{p.pos, p.end(), "/" + f.path, solid, f})
		}
	}
	if im.catalog != nil {
		list = append(list, claim{im.catalog.pos, im.catalog.pos + 64, theCatalog, solid, nil})
	}
	if im.hfs != nil {
		list = append(list, im.hfs.claims()...)
	}
	return append(list, im.bootClaims()...)
}

func (im *Image) bootClaims() (list []claim) {
	for _, e := range im.bootImages() {
		list = append(list, claim{e.pos, e.pos + max(e.size(), blockSize), e.String(), loader, nil})
	}
	for _, p := range im.system.parts {
		kind := container
		if p.fs {
			kind = mounted
		}
		list = append(list, claim{p.start, p.end, p.String(), kind, nil})
	}
	if v := im.hfs; v != nil {
		list = append(list, claim{v.bitmap.pos, v.end, "HFS+'s end", tail, nil})
	}
	if g := im.system.gpt; g != nil && g.backup != nil {
		list = append(list, claim{min(g.tablePos, g.backupPos), max(g.tablePos+int64(len(g.entries)), g.backupPos+blockSize), "the backup GPT", tail, nil})
	}
	return list
}

// findContent finds where the files, directories and path tables end.
func (w *rewriter) findContent(claims []claim) {
	for _, c := range claims {
		if c.kind == solid {
			w.content = max(w.content, c.end)
		}
	}
	w.content = min(w.content, w.im.size)
	w.m.content = w.content
}

// check refuses changes that would tear apart what must stay together.
func (w *rewriter) check(ch Changes) error {
	claims := w.im.claims()
	w.findContent(claims)
	if !w.changes {
		return nil
	}
	if w.im.refusal != nil {
		return w.im.refusal
	}
	if err := checkApart(claims); err != nil {
		return err
	}
	if err := w.checkSpace(ch); err != nil {
		return err
	}
	if err := w.checkPatches(claims); err != nil {
		return err
	}
	for i, k := range w.cuts[min(1, len(w.cuts)):] {
		if before := w.cuts[i]; k.start < before.end {
			return fmt.Errorf("iso: /%s %w: it and /%s have sectors in common", k.path, ErrUnsupported, before.path)
		}
	}
	for _, c := range claims {
		i := sort.Search(len(w.cuts), func(i int) bool { return w.cuts[i].end > c.start })
		for ; i < len(w.cuts) && w.cuts[i].start < c.end; i++ {
			if err := w.cuts[i].checkClaim(c); err != nil {
				return err
			}
		}
	}
	if err := w.checkHFS(); err != nil {
		return err
	}
	return w.checkMounted(claims)
}

// checkApart refuses metadata, all of which is written anew, that lies over other metadata or a file. The boot catalog
// may be a file, and optional path tables may be the others.
func checkApart(claims []claim) error {
	list := slices.DeleteFunc(slices.Clone(claims), func(c claim) bool { return c.kind != solid && c.kind != tail })
	slices.SortStableFunc(list, func(a, b claim) int { return cmp.Compare(a.start, b.start) })
	var last claim // that reaches furthest, of all
	var meta claim // and of metadata
	for _, c := range list {
		over := meta
		if c.file == nil {
			over = last
		}
		if c.start < over.end && !c.shares(over) {
			return fmt.Errorf("iso: %w: %s and %s have sectors in common", ErrDamaged, c.what, over.what)
		}
		if c.end > last.end {
			last = c
		}
		if c.file == nil && c.end > meta.end {
			meta = c
		}
	}
	return nil
}

// shares tells whether two claims may be one.
func (c claim) shares(d claim) bool {
	return c.start == d.start && (c.what == d.what || c.what == theCatalog && d.file != nil || d.what == theCatalog && c.file != nil)
}

// checkClaim tells whether a claim survives the cut.
func (k *replacement) checkClaim(c claim) error {
	if c.file == k.file {
		return nil
	}
	same := c.start == k.start && c.end <= k.end && k.content != nil
	switch {
	case c.kind == container && (c.start <= k.start && c.end >= k.end || same):
		return nil
	case (c.kind == loader || c.kind == mounted || c.kind == aliased) && same:
		return nil
	case c.kind == loader && c.start == k.start, c.what == theCatalog && k.content == nil:
		return fmt.Errorf("iso: /%s %w: El Torito starts it, or finds what it starts by it: it cannot be removed", k.path, ErrUnsupported)
	case c.kind == mounted:
		return fmt.Errorf("iso: /%s %w: it lies in %s, whose file system says where it lies", k.path, ErrUnsupported, c.what)
	}
	return fmt.Errorf("iso: /%s %w: it and %s have sectors in common", k.path, ErrUnsupported, c.what)
}

// checkMounted looks at what changes other than by cuts: new files before the end, and what code points to.
func (w *rewriter) checkMounted(claims []claim) error {
	first := w.content
	if len(w.cuts) > 0 {
		first = w.cuts[0].start
	}
	for _, c := range claims {
		if c.kind == mounted && c.start < w.content && c.end > w.content {
			return fmt.Errorf("iso: image %w: %s has a file system over the image's files, and their end moves", ErrUnsupported, c.what)
		}
		if c.kind == loader && c.start > first && w.im.system.code == unknownCode {
			return fmt.Errorf("iso: image %w: the boot code is neither isolinux's nor GRUB's, and %s moves, which it may point to", ErrUnsupported, c.what)
		}
	}
	return nil
}

// checkSpace refuses what block numbers may not reach.
func (w *rewriter) checkSpace(ch Changes) error {
	end := w.im.size + maxUnit
	for _, k := range w.cuts {
		end -= k.end - k.start
		if k.content != nil {
			end += roundUp(k.content.Size, sectorSize) + maxShift
		}
	}
	for _, a := range ch.Add {
		end += roundUp(a.Size, sectorSize)
	}
	if end > maxImage-maxDirectoryBytes {
		return fmt.Errorf("iso: the new image could have %d bytes, ISO 9660 holds %d", end, int64(maxImage))
	}
	return nil
}

// demand is the unit by which old bytes may move: partitions with a file system keep their alignment.
func (w *rewriter) demand(start, end int64) int64 {
	unit := int64(sectorSize)
	for _, p := range w.im.system.parts {
		if p.fs && p.start >= start && p.start < end {
			unit = max(unit, min(p.start&-p.start, maxShift))
		}
	}
	return unit
}

// tailUnit is the unit by which the image's end may move, so that it keeps whole cylinders, or its
// alignment.
func (w *rewriter) tailUnit() int64 {
	unit := w.demand(w.content, w.im.size)
	if !slices.ContainsFunc(w.im.bootClaims(), func(c claim) bool { return c.start >= w.content }) {
		unit = blockSize // cylinders need not be whole sectors
	}
	end := min(w.im.size&-w.im.size, maxShift)
	for _, p := range w.im.system.parts {
		if g, ok := w.im.geometry(p); ok && !p.protective && p.end >= w.content && p.end%g.cylinder() == 0 {
			end = g.cylinder()
		}
	}
	for n := end; n <= maxUnit; n += end {
		if n%unit == 0 {
			return n
		}
	}
	return unit
}

// gap is how many bytes behind the files are zeros that nothing begins or ends in.
func (w *rewriter) gap() int64 {
	end := w.im.size
	for _, c := range w.im.bootClaims() {
		for _, pos := range []int64{c.start, c.end} {
			if pos > w.content {
				end = min(end, pos)
			}
		}
	}
	for _, d := range w.im.descriptors {
		if pos := d.base + int64(le.Uint32(d.raw[80:]))*sectorSize; pos > w.content {
			end = min(end, pos)
		}
	}
	buf := make([]byte, sectorSize)
	for pos := w.content; pos+sectorSize <= min(end, w.content+maxUnit); pos += sectorSize {
		if _, err := w.im.r.ReadAt(buf, pos); err != nil || len(bytes.Trim(buf, "\x00")) > 0 {
			return pos - w.content
		}
	}
	return (min(end, w.content+maxUnit) - w.content) / sectorSize * sectorSize
}
