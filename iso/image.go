package iso

import (
	"errors"
	"fmt"
	"io"
)

// Bounds of what Open takes in. A DVD of Debian has 10,000 directories of 5 MB in all.
const (
	maxDescriptors    = 64
	maxDirectoryBytes = 256 << 20 // of all directories together
	maxPathTable      = 16 << 20
	maxDepth          = 1024
)

// Errors that Open and Rewrite wrap.
var (
	// ErrDamaged reports an image that contradicts itself or reaches beyond its end.
	ErrDamaged = errors.New("damaged ISO image")
	// ErrUnsupported reports what may be sound but cannot be rewritten.
	ErrUnsupported = errors.New("cannot be rewritten")
)

// Image is an ISO 9660 image that anybody may have made. It reads from what Open got, which must hold
// still; it is for concurrent use.
type Image struct {
	r    io.ReaderAt
	size int64

	descriptors []*descriptor
	sets        []piece // of descriptors, all of them and what ends them
	trees       []*tree
	dirs        map[int64]*dirExtent // by position and what their block numbers count from
	dirBytes    int64
	suspBytes   int64
	pathBytes   int64
	files       map[piece]*fileExtents // by position and size
	tags        []suspPointer
	catalog     *catalog
	system      diskLayout
	hfs         *hfsVolume
	view        *tree // the one with the best names
	root        *node9660
	names       string // whose names they are

	refusal error // why it cannot be rewritten; may be nil
}

// Open reads the metadata of an ISO 9660 image of size bytes. The image need not be trusted: an error wraps ErrNotISO,
// ErrDamaged or ErrUnsupported, or is r's. The memory it takes is in proportion to the image's
// directories, of which it takes in 256 MiB.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	im := &Image{r: r, size: size, dirs: make(map[int64]*dirExtent), files: make(map[piece]*fileExtents)}
	if err := im.read(); err != nil {
		return nil, fmt.Errorf("iso: %w", err)
	}
	return im, nil
}

func (im *Image) read() error {
	if err := im.readSystemArea(); err != nil {
		return err
	}
	if err := im.readDescriptors(systemArea, 0); err != nil {
		return err
	}
	if err := im.readSession(); err != nil {
		return err
	}
	bases, err := im.offsets()
	if err != nil {
		return err
	}
	for _, base := range bases {
		if err := im.readDescriptors(base+systemArea, base); err != nil {
			return err
		}
	}
	for _, d := range im.descriptors {
		if err := im.readTree(d); err != nil {
			return err
		}
	}
	if err := im.readCatalog(); err != nil {
		return err
	}
	if err := im.readBootPointers(); err != nil {
		return err
	}
	im.checkWhole()
	return im.buildView()
}

// checkWhole refuses an image that is cut off behind its files: what is said to be there would be said again.
func (im *Image) checkWhole() {
	if size := int64(le.Uint32(im.descriptors[0].raw[80:])) * sectorSize; size > im.size {
		im.refuse("it is cut off: the volume has %d bytes, and %d are there", size, im.size)
	}
	for _, p := range im.system.parts {
		if p.start >= im.size && !p.protective || p.fs && p.end > im.size {
			im.refuse("it is cut off: %s ends at %d, and %d bytes are there", p, p.end, im.size)
		}
	}
}

// Size is the image's size in bytes.
func (im *Image) Size() int64 { return im.size }

// VolumeID is the primary volume descriptor's volume identifier, without the spaces behind it.
func (im *Image) VolumeID() string { return trimmed(im.descriptors[0].raw[40:72]) }

// Check says why the image cannot be rewritten: nil, or an error that wraps ErrUnsupported. What depends on
// the changes is for [Image.Rewrite] to say.
func (im *Image) Check() error { return im.refusal }

// refuse keeps the first reason.
func (im *Image) refuse(format string, args ...any) {
	if im.refusal == nil {
		im.refusal = fmt.Errorf("iso: image %w: "+format, append([]any{ErrUnsupported}, args...)...)
	}
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// bytesAt reads n bytes that must lie in the image; what is for the error.
func (im *Image) bytesAt(what string, pos, n int64) ([]byte, error) {
	if err := im.within(what, pos, n); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := im.r.ReadAt(b, pos); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}

// within wants n bytes at pos to lie in the image.
func (im *Image) within(what string, pos, n int64) error {
	if pos < 0 || n < 0 || pos > im.size || n > im.size-pos {
		return damaged("%s: %d bytes at %d, the image has %d", what, n, pos, im.size)
	}
	return nil
}

// fileExtents are the extents that a file's records name. Files with the same extents are one.
type fileExtents struct {
	pieces []piece
	size   int64
	path   string // one of its names
	names  int    // how many records name it, in all trees
	packed bool   // zisofs or a sparse file: its bytes are not its content
}

// end is the first byte behind the sectors of a part of the image.
func (p piece) end() int64 { return p.pos + roundUp(p.size, sectorSize) }
