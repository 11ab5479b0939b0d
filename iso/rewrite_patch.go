package iso

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
)

// Patch is other bytes in the place of old ones: in files that stay, or in what no file holds, such as an appended
// partition.
type Patch struct {
	Pos   int64 // in the old image
	Bytes []byte
}

// resolvePatches finds the files that patches change.
func (w *rewriter) resolvePatches(list []Patch) error {
	w.patches = slices.Clone(list)
	slices.SortStableFunc(w.patches, func(a, b Patch) int { return cmp.Compare(a.Pos, b.Pos) })
	end := int64(systemArea)
	for _, p := range w.patches {
		if p.Pos < end || p.Pos > w.im.size || int64(len(p.Bytes)) > w.im.size-p.Pos {
			return fmt.Errorf("iso: patch at %d: %w: outside of files and partitions, or over another patch", p.Pos, fs.ErrInvalid)
		}
		end = p.Pos + int64(len(p.Bytes))
	}
	for _, f := range w.im.files {
		for _, k := range f.pieces {
			if slices.ContainsFunc(w.patches, func(p Patch) bool { return p.Pos < k.pos+k.size && p.Pos+int64(len(p.Bytes)) > k.pos }) {
				w.changed[f] = true
			}
		}
	}
	return nil
}

// checkPatches wants what the image consists of beside its files to be left alone.
func (w *rewriter) checkPatches(claims []claim) error {
	for _, p := range w.patches {
		end := p.Pos + int64(len(p.Bytes))
		for _, c := range claims {
			if (c.kind == solid || c.kind == tail) && c.file == nil && c.start < end && c.end > p.Pos {
				return fmt.Errorf("iso: patch at %d: %w: it and %s have bytes in common", p.Pos, fs.ErrInvalid, c.what)
			}
		}
		for _, k := range w.cuts {
			if k.start < end && k.end > p.Pos {
				return fmt.Errorf("iso: patch at %d: %w: /%s, which is replaced or removed, has bytes in common with it", p.Pos, fs.ErrInvalid, k.path)
			}
		}
	}
	return nil
}

// writePatches writes the patches to where their places are now.
func (w *rewriter) writePatches() error {
	for _, p := range w.patches {
		if len(p.Bytes) == 0 {
			continue
		}
		last := int64(len(p.Bytes)) - 1
		pos := w.m.start(p.Pos)
		if w.m.start(p.Pos+last) != pos+last {
			return fmt.Errorf("iso: patch at %d: %w: its place does not stay together", p.Pos, ErrUnsupported)
		}
		if err := w.put(pos, p.Bytes); err != nil {
			return err
		}
	}
	return nil
}
