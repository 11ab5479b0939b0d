package iso

import (
	"errors"
	"fmt"
	"io"
)

// ErrSize reports a file that does not have the size that Options announced.
var ErrSize = errors.New("size is not the announced one")

// Writer writes one image. NewWriter lays it out; every file is then written by WriteFile or Stream,
// in any order but that a file behind a Grow file comes after it; Finish writes the rest. Once a file
// failed, everything fails with its error. A Writer is not for concurrent use.
type Writer struct {
	dst    io.WriterAt
	volume volume

	root   *node
	files  []*content // as in Options
	byPath map[string]*content
	boot   *bootArea // nil: not bootable

	hierarchies []*hierarchy // the primary one, then Joliet's
	end         int64        // of what has a place
	unplaced    []*content
	err         error
}

// Extent is where a part of the image lies, in bytes.
type Extent struct {
	Path   string // of a file
	Offset int64
	Size   int64
}

// Result describes a finished image.
type Result struct {
	Size  int64    // bytes
	Files []Extent // in Options' order

	// Of a bootable image: the EFI system partition, and the pieces of the one file in it.
	ESP Extent
	EFI []Extent
}

// NewWriter checks the options and lays the image out on dst, which holds nothing else; it writes
// nothing yet. The image covers every byte of dst up to its size, so dst need not be empty.
func NewWriter(dst io.WriterAt, opts Options) (*Writer, error) {
	if err := checkVolumeID(opts.VolumeID); err != nil {
		return nil, err
	}
	modTime, err := checkModTime(opts.ModTime, opts.Boot != nil)
	if err != nil {
		return nil, err
	}
	w := &Writer{dst: dst, volume: volume{id: opts.VolumeID, modTime: modTime}}
	if err := w.collect(opts.Files, opts.Boot); err != nil {
		return nil, err
	}
	if err := w.layOut(opts.Joliet); err != nil {
		return nil, err
	}
	w.place()
	return w, nil
}

// place gives positions to the files up to one whose end is not known.
func (w *Writer) place() {
	for len(w.unplaced) > 0 {
		c := w.unplaced[0]
		c.pos, c.placed = c.start(w.end), true
		for _, in := range c.inside {
			in.pos, in.placed = c.pos+in.Offset, true
		}
		if c.Grow && !c.written {
			return
		}
		w.end = c.pos + c.size
		w.unplaced = w.unplaced[1:]
	}
}

// WriteFile writes a file's content, which must be of exactly the announced size (for a Grow file: at
// most) or the error wraps ErrSize.
func (w *Writer) WriteFile(path string, r io.Reader) error {
	return w.Stream(path, func(dst io.WriterAt) (int64, error) {
		buf := make([]byte, 1<<18)
		// Only Read and Write: io.Copy's short cuts would take a smaller buffer.
		return io.CopyBuffer(struct{ io.Writer }{io.NewOffsetWriter(dst, 0)}, struct{ io.Reader }{r}, buf)
	})
}

// Stream lets fn write a file's content straight into the image. Offsets count from the file's start;
// a write beyond the announced size fails. fn returns the size, and must have written all of it.
func (w *Writer) Stream(path string, fn func(dst io.WriterAt) (size int64, err error)) error {
	if w.err != nil {
		return w.err
	}
	c, err := w.writable(path)
	if err != nil {
		return err
	}
	size, err := fn(&window{dst: w.dst, pos: c.pos, size: c.Size})
	if err == nil && (size < 0 || size > c.Size || size < c.Size && !c.Grow) {
		err = fmt.Errorf("%w: has %d bytes, announced were %d", ErrSize, size, c.Size)
	}
	if err != nil {
		w.err = fmt.Errorf("iso: %s: %w", path, err)
		return w.err
	}
	c.size, c.written = size, true
	for _, in := range c.inside {
		if in.written = in.Offset+in.size <= size; !in.written {
			w.err = fmt.Errorf("iso: %s: %w: ends before %s, which lies within it", path, ErrSize, in.Path)
			return w.err
		}
	}
	w.place()
	return nil
}

// writable returns the file of a path, if it can be written now.
func (w *Writer) writable(path string) (*content, error) {
	c := w.byPath[path]
	switch {
	case c == nil:
		return nil, fmt.Errorf("iso: %s: is none of the image's files", path)
	case c.holder != nil:
		return nil, fmt.Errorf("iso: %s: is written with %s, within which it lies", path, c.Within)
	case c.written:
		return nil, fmt.Errorf("iso: %s: is written already", path)
	case !c.placed:
		return nil, fmt.Errorf("iso: %s: has no place until %s is written", path, w.unplaced[0].Path)
	}
	return c, nil
}

// window is the part of the image that a file's content may take.
type window struct {
	dst  io.WriterAt
	pos  int64
	size int64
}

func (w *window) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > w.size || int64(len(p)) > w.size-off {
		return 0, fmt.Errorf("%w: a write of %d bytes at %d, announced were %d", ErrSize, len(p), off, w.size)
	}
	return w.dst.WriteAt(p, w.pos+off)
}
