package iso

import (
	"fmt"
	"math"
)

// maxImage is what 32-bit block numbers reach.
const maxImage = math.MaxUint32 * sectorSize

// collect checks the files and puts them into the tree.
func (w *Writer) collect(files []File, boot *Boot) error {
	w.root = &node{}
	w.byPath = make(map[string]*content, len(files))
	for _, f := range files {
		if err := checkFile(f); err != nil {
			return err
		}
		c := &content{File: f, size: f.Size}
		if err := w.root.add(c); err != nil {
			return err
		}
		w.files = append(w.files, c)
		w.byPath[f.Path] = c
	}
	for _, c := range w.files {
		if err := w.collectWithin(c); err != nil {
			return err
		}
	}
	if boot == nil {
		w.unplaced = unplaced(w.files, nil)
		return nil
	}
	var err error
	if w.boot, err = w.newBootArea(boot); err != nil {
		return err
	}
	w.unplaced = unplaced(w.files, w.boot.holder)
	for _, c := range []*content{w.boot.efi, w.boot.loader} {
		if err := w.root.add(c); err != nil {
			return fmt.Errorf("%w; a bootable image makes %s itself", err, c.Path)
		}
	}
	return nil
}

// collectWithin finds the file that c lies within, if it does.
func (w *Writer) collectWithin(c *content) error {
	if c.Within == "" {
		return nil
	}
	holder := w.byPath[c.Within]
	switch {
	case holder == nil:
		return fmt.Errorf("iso: %s: lies within %q, which is none of the image's files", c.Path, c.Within)
	case holder.Within != "":
		return fmt.Errorf("iso: %s: lies within %s, which lies within another file itself", c.Path, c.Within)
	case c.Offset > holder.Size-c.Size:
		return fmt.Errorf("iso: %s: ends beyond %s, within which it lies", c.Path, c.Within)
	}
	c.holder = holder
	holder.inside = append(holder.inside, c)
	return nil
}

// unplaced are the files that lie behind what boots, in their order; the one that holds what boots is
// the first.
func unplaced(files []*content, holder *content) []*content {
	var list []*content
	if holder != nil {
		list = append(list, holder)
	}
	for _, c := range files {
		if !c.placed && c.holder == nil && c != holder {
			list = append(list, c)
		}
	}
	return list
}

// layOut gives everything a position that has one before the files' final sizes are known.
func (w *Writer) layOut(joliet bool) error {
	w.root.sort()
	stamp := recordDate(w.volume.modTime)
	h, err := newHierarchy(w.root, false, stamp)
	if err != nil {
		return err
	}
	w.hierarchies = []*hierarchy{h}
	if joliet {
		if h, err = newHierarchy(w.root, true, stamp); err != nil {
			return err
		}
		w.hierarchies = append(w.hierarchies, h)
	}
	pos := int64(systemArea) + int64(len(w.hierarchies)+1)*sectorSize // with the terminator
	if w.boot != nil {
		w.boot.catalog = pos + sectorSize // behind the boot record
		pos = w.boot.catalog + sectorSize
	}
	for _, h := range w.hierarchies {
		if pos, err = h.place(pos); err != nil {
			return err
		}
	}
	if w.boot != nil {
		pos = w.boot.place(pos)
	}
	w.end = pos
	return w.checkSpace()
}

// checkSpace refuses an image that its block numbers cannot reach, if every Grow file takes its bound.
func (w *Writer) checkSpace() error {
	end := w.end
	for _, c := range w.unplaced {
		end = c.start(end) + c.size
		if end > maxImage-gptSize-espAlign {
			return fmt.Errorf("iso: %s: does not fit: an image holds %d bytes", c.Path, int64(maxImage))
		}
	}
	return nil
}

// start is where a file begins that is placed behind end, if it has no place yet.
func (c *content) start(end int64) int64 {
	if c.placed {
		return c.pos
	}
	return roundUp(end, max(c.Align, sectorSize))
}
