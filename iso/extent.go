package iso

// Extent returns where a file lies that is written already, so that it can be
// read back before the image is finished. The size is 0 for any other.
func (w *Writer) Extent(path string) Extent {
	if c := w.byPath[path]; c != nil && c.written {
		return Extent{path, c.pos, c.size}
	}
	return Extent{Path: path}
}
