package iso

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"
)

// Changes are what a rewritten image has other than the old one. Paths are FS's.
type Changes struct {
	// Replace gives files other contents: files that are there, and not empty. All names of a file change, also those
	// that only share its extents. A file that boots loads as much of the new one as El Torito's catalog says,
	// or all of it if that was so.
	Replace map[string]Content
	// Remove leaves out files and whole directories, and the lines of checksum files that name them. It comes before Add:
	// what is in both is replaced, and such lines are corrected.
	Remove []string
	Add    []Addition
	// Patch changes bytes where they are, in any order. Patches overlap neither one another nor what is replaced or removed.
	Patch []Patch
}

// Content is what a file holds.
type Content struct {
	Size int64 // bytes, at most
	// Write writes it, at offsets from 0 to Size, and returns its size, of which it must have written all.
	Write func(dst io.WriterAt) (size int64, err error)
}

// Addition is a file that the old image does not have. Directories above it are made where they are missing.
type Addition struct {
	Path string
	Content
	Mode    fs.FileMode // permissions, where there is Rock Ridge; 0 stands for 0444
	ModTime time.Time
}

// Output is where an image is written, which is read back for checksums. What it holds does not matter.
type Output interface {
	io.ReaderAt
	io.WriterAt
}

// Rewritten describes a rewritten image.
type Rewritten struct {
	Size  int64    // bytes
	Files []Extent // replaced ones, sorted by path, then those added, in Changes' order
	Sums  []string // the checksum files that were corrected, or lost lines
	// Stale are files that look like signatures of changed ones, which nobody but their makers can renew; checksum files
	// that may be wrong now; and "volume descriptor: " with what of checkmedia's there does not hold.
	Stale    []string
	MediaSum bool // isomd5sum's or checkmedia's checksum was renewed
}

// Rewrite writes the image with changes to dst. Extents keep their order: what lies behind one that changes its size moves,
// and everything that records where it lies is corrected: directories, path tables, Rock Ridge's continuation
// areas, El Torito's catalog, boot information tables, boot code, partition tables. Checksum files that name a changed
// file (md5sum.txt, SHA256SUMS, .treeinfo and the like) are corrected, and isomd5sum's or checkmedia's checksum is
// renewed. All other bytes stay as they are. Without changes the outcome is the same image.
//
// What would not survive is refused before anything is written, with an error that wraps ErrUnsupported and says
// what and where. dst is neither synced nor closed, nor cut off at the image's size.
func (im *Image) Rewrite(ctx context.Context, dst Output, ch Changes) (*Rewritten, error) {
	w := newRewriter(ctx, im, dst)
	for _, step := range []func(Changes) error{w.resolve, w.check, w.copy, w.writeMetadata, w.correctSums} {
		if err := step(ch); err != nil {
			return nil, err
		}
	}
	if err := w.renewMediaSum(); err != nil {
		return nil, fmt.Errorf("iso: %w", err)
	}
	return w.result, nil
}

func newRewriter(ctx context.Context, im *Image, dst Output) *rewriter {
	return &rewriter{
		ctx: ctx, im: im, dst: dst,
		replaced: make(map[*fileExtents]*replacement),
		addedAt:  make(map[string]*addedFile),
		lost:     make(map[*fileExtents]int),
		changed:  make(map[*fileExtents]bool),
		plans:    make(map[*dirExtent]*dirPlan),
		tables:   make(map[*tree]*tablePlan),
		result:   &Rewritten{},
		buf:      make([]byte, 1<<20),
	}
}

// rewriter writes one image.
type rewriter struct {
	ctx context.Context
	im  *Image
	dst Output

	changes  bool           // there are some
	cuts     []*replacement // sorted by position
	replaced map[*fileExtents]*replacement
	added    []*addedFile
	addedAt  map[string]*addedFile // by path
	patches  []Patch               // sorted by position
	removed  []string              // paths of files
	lost     map[*fileExtents]int  // how many names are dropped
	changed  map[*fileExtents]bool
	plans    map[*dirExtent]*dirPlan
	made     []*dirExtent // new directories
	tables   map[*tree]*tablePlan

	hfsMap  int64 // bytes of HFS+'s map of used blocks
	content int64 // where the old image's files, directories and path tables end
	at      int64 // of the new image: what is written
	m       spanMap
	result  *Rewritten
	buf     []byte
}

// replacement is a part of the old image that the new one has otherwise or not at all.
type replacement struct {
	start, end int64
	file       *fileExtents
	path       string
	content    *Content // nil: nothing
	pos, size  int64    // in the new image
}

// addedFile is a file that all its records share.
type addedFile struct {
	Addition
	pos, size int64
}

// resolve finds what the changes name.
func (w *rewriter) resolve(ch Changes) error {
	if err := w.resolveRemoved(ch.Remove); err != nil {
		return err
	}
	replace := make(map[string]Content, len(ch.Replace))
	if err := w.dropSums(replace, ch.Add); err != nil {
		return err
	}
	for path, c := range ch.Replace {
		replace[path] = c
	}
	for path, c := range replace {
		if err := w.resolveReplaced(path, c); err != nil {
			return fmt.Errorf("iso: %s: %w", path, err)
		}
	}
	for _, a := range ch.Add {
		if err := w.resolveAdded(a); err != nil {
			return fmt.Errorf("iso: %s: %w", a.Path, err)
		}
	}
	if err := w.resolvePatches(ch.Patch); err != nil {
		return err
	}
	w.changes = len(w.plans)+len(w.cuts)+len(w.patches) > 0
	slices.SortFunc(w.cuts, func(a, b *replacement) int { return cmp.Compare(a.start, b.start) })
	return nil
}

// resolveReplaced cuts a file's extents out; the new content goes to the first one's place.
func (w *rewriter) resolveReplaced(path string, c Content) error {
	n, err := w.im.lookup("replace", path, true)
	switch {
	case err != nil:
		return err
	case !n.mode.IsRegular():
		return fmt.Errorf("%w: is no regular file", fs.ErrInvalid)
	case n.file == nil:
		return fmt.Errorf("%w: is empty; remove it and add it", ErrUnsupported)
	case n.file.packed:
		return fmt.Errorf("%w: is compressed by zisofs, or sparse", ErrUnsupported)
	case w.replaced[n.file] != nil:
		return fmt.Errorf("%w: shares its extents with %s, which is replaced or removed, too", fs.ErrInvalid, w.replaced[n.file].path)
	}
	w.cutOut(n.file, path, &c)
	return nil
}

// cutOut cuts a file's extents out.
func (w *rewriter) cutOut(f *fileExtents, path string, c *Content) {
	for i, p := range f.pieces {
		k := &replacement{start: p.pos, end: min(p.end(), w.im.size), file: f, path: path}
		if i == 0 {
			k.content = c
			w.replaced[f] = k
			w.changed[f] = true
		}
		w.cuts = append(w.cuts, k)
	}
}

// copy writes the old image's content with the changes, and places what is new.
func (w *rewriter) copy(Changes) error {
	old := int64(0)
	for i, k := range w.cuts {
		if err := w.copySpan(old, k.start); err != nil {
			return err
		}
		if err := w.writeCut(k); err != nil {
			return fmt.Errorf("iso: %s: %w", k.path, err)
		}
		old = k.end
		next := w.content
		if i+1 < len(w.cuts) {
			next = w.cuts[i+1].start
		}
		if err := w.align(old, w.demand(old, next)); err != nil {
			return err
		}
	}
	if err := w.copySpan(old, w.content); err != nil {
		return err
	}
	for _, a := range w.added {
		if err := w.writeAdded(a); err != nil {
			return fmt.Errorf("iso: %s: %w", a.Path, err)
		}
	}
	if err := w.placeDirectories(); err != nil {
		return err
	}
	if err := w.growHFS(); err != nil {
		return err
	}
	if err := w.copyTail(); err != nil {
		return err
	}
	return w.writePatches()
}

// align writes zeros so that what lies at old moves by a multiple of unit.
func (w *rewriter) align(old, unit int64) error {
	return w.zeroTo(old + roundUp64(w.at-old, unit))
}

// roundUp64 is roundUp for negative numbers, too.
func roundUp64(n, unit int64) int64 {
	r := n % unit
	if r > 0 {
		r -= unit
	}
	return n - r
}

// writeCut writes a replaced file's content, or nothing.
func (w *rewriter) writeCut(k *replacement) error {
	k.pos = w.at
	if k.content != nil {
		size, err := w.stream(k.content)
		if err != nil {
			return err
		}
		k.size = size
		w.result.Files = append(w.result.Files, Extent{k.path, k.pos, size})
	}
	w.m.spans = append(w.m.spans, span{old: k.start, end: k.end, new: k.pos, newEnd: w.at, cut: true})
	return nil
}

func (w *rewriter) writeAdded(a *addedFile) error {
	if err := w.zeroTo(roundUp(w.at, sectorSize)); err != nil {
		return err
	}
	a.pos = w.at
	size, err := w.stream(&a.Content)
	a.size = size
	w.result.Files = append(w.result.Files, Extent{a.Path, a.pos, size})
	return err
}

// stream writes a content and fills its last sector up.
func (w *rewriter) stream(c *Content) (int64, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	size, err := c.Write(&window{dst: w.dst, pos: w.at, size: c.Size})
	if err == nil && (size < 0 || size > c.Size) {
		err = fmt.Errorf("%w: has %d bytes, announced were %d", ErrSize, size, c.Size)
	}
	if err != nil {
		return 0, err
	}
	w.at += size
	return size, w.zeroTo(roundUp(w.at, sectorSize))
}

// copySpan copies old bytes to where the new image has got to.
func (w *rewriter) copySpan(start, end int64) error {
	if start >= end {
		return nil
	}
	w.m.spans = append(w.m.spans, span{old: start, end: end, new: w.at, newEnd: w.at + end - start})
	for start < end {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		b := w.buf[:min(end-start, int64(len(w.buf)))]
		if _, err := w.im.r.ReadAt(b, start); err != nil && (err != io.EOF || start+int64(len(b)) != w.im.size) {
			return fmt.Errorf("iso: %w", err)
		}
		if err := w.put(w.at, b); err != nil {
			return err
		}
		start += int64(len(b))
		w.at += int64(len(b))
	}
	return nil
}

// zeroTo writes zeros up to a position.
func (w *rewriter) zeroTo(end int64) error {
	b := w.buf[:min(max(end-w.at, 0), int64(len(w.buf)))]
	clear(b)
	for w.at < end {
		n := min(end-w.at, int64(len(b)))
		if err := w.put(w.at, b[:n]); err != nil {
			return err
		}
		w.at += n
	}
	return nil
}

// put writes bytes of the new image.
func (w *rewriter) put(pos int64, b []byte) error {
	if _, err := w.dst.WriteAt(b, pos); err != nil {
		return fmt.Errorf("iso: %w", err)
	}
	return nil
}

// copyTail copies what lies behind the files: padding, appended partitions, the backup GPT.
func (w *rewriter) copyTail() error {
	start := w.content
	w.m.inserted = w.at
	if delta := w.at - start; delta != 0 {
		unit, gap := w.tailUnit(), w.gap()
		shift := roundUp64(delta, unit)
		if less := shift - unit; shift != delta && gap+less-delta >= min(gap, maxPadding) {
			shift = less
		}
		if drop := delta - shift; drop > 0 {
			w.m.spans = append(w.m.spans, span{old: start, end: start + drop, new: w.at, newEnd: w.at, cut: true})
			start += drop
		} else if err := w.zeroTo(start + shift); err != nil {
			return err
		}
	}
	if err := w.copySpan(start, w.im.size); err != nil {
		return err
	}
	w.m.oldSize, w.m.newSize = w.im.size, w.at
	w.result.Size = w.at
	slices.SortStableFunc(w.m.spans, func(a, b span) int { return cmp.Compare(a.old, b.old) })
	return nil
}
