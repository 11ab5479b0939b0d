package iso

import (
	"errors"
	"fmt"
	"slices"
)

// chunk is a piece of the image: metadata to write, or, without data, a file's content.
type chunk struct {
	pos  int64
	size int64
	data []byte
}

// Finish writes everything but the files' contents. The seed, a digest of what the image is of, decides
// the GUIDs, the disk signature and the FAT's serial number. dst is neither synced nor closed.
func (w *Writer) Finish(seed [32]byte) (*Result, error) {
	if w.err != nil {
		return nil, w.err
	}
	for _, c := range w.files {
		if !c.written {
			return nil, fmt.Errorf("iso: %s: was not written", c.Path)
		}
	}
	w.err = errors.New("iso: image is finished")
	w.volume.size = roundUp(w.end, sectorSize)
	if w.boot != nil {
		// Whole pages, so that the sectors of large disks hold it, and the backup GPT ends it.
		w.volume.size = roundUp(max(w.end, w.boot.end())+gptSize, espAlign)
	}
	if err := w.write(w.chunks(seed)); err != nil {
		return nil, fmt.Errorf("iso: %w", err)
	}
	return w.result(), nil
}

// chunks encodes the metadata, and adds the files' contents as what is there already.
func (w *Writer) chunks(seed [32]byte) []chunk {
	chunks := w.descriptors()
	for _, h := range w.hierarchies {
		chunks = append(chunks, h.chunks()...)
	}
	for _, c := range w.files {
		if c.holder == nil {
			chunks = append(chunks, chunk{pos: c.pos, size: c.size})
		}
	}
	if w.boot != nil {
		chunks = append(chunks, w.boot.chunks(seed, w.volume)...)
	}
	slices.SortStableFunc(chunks, func(a, b chunk) int { return int(min(max(a.pos-b.pos, -1), 1)) })
	return chunks
}

func data(pos int64, b []byte) chunk { return chunk{pos: pos, size: int64(len(b)), data: b} }

// descriptors encodes the volume descriptors (ECMA-119 8.1). El Torito's must be the second.
func (w *Writer) descriptors() []chunk {
	var all []byte
	for _, h := range w.hierarchies {
		h.resize()
	}
	all = append(all, w.volume.descriptor(w.hierarchies[0])...)
	if w.boot != nil {
		all = append(all, bootRecord(w.boot.catalog)...)
	}
	for _, h := range w.hierarchies[1:] {
		all = append(all, w.volume.descriptor(h)...)
	}
	return []chunk{data(systemArea, append(all, descriptorSetEnd()...))}
}

// resize sets the directories' sizes, now that the files' are known.
func (h *hierarchy) resize() {
	for _, d := range h.dirs {
		records, _ := h.directory(d)
		d.size = int64(len(records))
	}
}

// chunks encodes the path tables and the directories.
func (h *hierarchy) chunks() []chunk {
	all := []chunk{data(h.lTable, h.pathTable(le)), data(h.mTable, h.pathTable(be))}
	for _, d := range h.dirs {
		records, more := h.directory(d)
		all = append(all, data(d.pos, records), data(d.more, more))
	}
	return all
}

// write writes the chunks, sorted by position, and zeros between them and up to the image's end.
func (w *Writer) write(chunks []chunk) error {
	end := int64(0)
	for _, c := range append(chunks, chunk{pos: w.volume.size}) {
		if c.size == 0 && c.pos < w.volume.size {
			continue
		}
		if c.pos < end {
			panic(fmt.Sprintf("iso: bug: two parts of the image at %d", c.pos))
		}
		if err := w.zero(end, c.pos); err != nil {
			return err
		}
		if c.data != nil {
			if _, err := w.dst.WriteAt(c.data, c.pos); err != nil {
				return err
			}
		}
		end = c.pos + c.size
	}
	return nil
}

// zero writes zeros from start to end.
func (w *Writer) zero(start, end int64) error {
	zeros := make([]byte, min(end-start, 1<<20))
	for start < end {
		n, err := w.dst.WriteAt(zeros[:min(end-start, int64(len(zeros)))], start)
		if err != nil {
			return err
		}
		start += int64(n)
	}
	return nil
}

func (w *Writer) result() *Result {
	r := &Result{Size: w.volume.size}
	for _, c := range w.files {
		r.Files = append(r.Files, Extent{c.Path, c.pos, c.size})
	}
	if b := w.boot; b != nil {
		r.ESP = Extent{Offset: b.pos, Size: b.esp.size()}
		for _, p := range b.efi.pieces {
			r.EFI = append(r.EFI, Extent{b.efi.Path, p.pos, p.size})
		}
	}
	return r
}
