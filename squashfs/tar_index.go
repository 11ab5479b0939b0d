package squashfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxTarPath is Linux's PATH_MAX, which counts a byte at the end.
const maxTarPath = 4096

// tarIndexer reads the headers of one archive into a tree.
type tarIndexer struct {
	tar    *Tar
	src    *tarSource
	scan   *tarScanner
	tr     *tar.Reader
	root   *tarNode // of the tree, with all that the layers below have left
	layer  *tarLayering
	dir    tarDirAt // of the last entry
	global map[string]string
	last   string // name of the last entry, for errors
}

// tarDirAt is a directory with the name under which it was found, "" for none.
type tarDirAt struct {
	name string
	node *tarNode
	path int // bytes of its path
}

// index reads an archive's headers: as a layer into tree, or, where that is nil,
// into a tree of its own.
func (t *Tar) index(ctx context.Context, src tarSource, tree *tarNode) (*tarNode, error) {
	t.layer++
	t.stored += src.size
	scan := &tarScanner{r: src.r, size: src.size}
	x := &tarIndexer{tar: t, src: &src, scan: scan, tr: tar.NewReader(scan), root: tree}
	if tree != nil {
		x.layer = newTarLayering()
	} else {
		var err error
		if x.root, err = t.impliedDir(); err != nil {
			return nil, err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		more, err := x.entry()
		if err != nil {
			return nil, err
		}
		if !more {
			x.layer.warn(t.opts.Warn)
			return x.root, nil
		}
	}
}

// entry reads one entry; more is false at the archive's end.
func (x *tarIndexer) entry() (more bool, err error) {
	x.scan.member = -1
	h, err := x.tr.Next()
	switch {
	case err == io.EOF:
		return false, x.checkEnd()
	case err != nil && !errors.Is(err, tar.ErrInsecurePath): // names are checked below
		return false, x.damaged(err)
	}
	if err := x.add(h); err != nil {
		return false, fmt.Errorf("byte %d: %q: %w", x.scan.member, h.Name, err)
	}
	x.last = h.Name
	return true, nil
}

var errNoTarEnd = errors.New("it lacks the zero bytes that end a tar archive, and may be cut off; if it is whole, append 1024 of them")

// checkEnd tells the end of an archive from the end of what is left of one.
// archive/tar takes the latter for the former, where it comes between two blocks.
func (x *tarIndexer) checkEnd() error {
	var block [tarBlock]byte
	n, err := x.src.r.ReadAt(block[:], x.scan.member)
	if n < len(block) && err != io.EOF {
		return err
	}
	switch {
	case n == len(block) && isZero(block[:]):
		return nil
	case n == 0:
		return x.damaged(errNoTarEnd)
	}
	return x.damaged(io.ErrUnexpectedEOF)
}

// damaged says where an archive cannot be read.
func (x *tarIndexer) damaged(err error) error {
	switch {
	case x.src.size == 0:
		return errors.New("empty: a tar archive has at least the zero bytes that end it")
	case errors.Is(err, tar.ErrHeader) && x.last == "" && x.scan.member <= 0, x.src.size < tarBlock:
		return fmt.Errorf("not a tar archive, or one compressed in a way other than gzip, bzip2, xz and zstd: %w", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("the archive is cut off: %w", err)
	}
	if x.last == "" {
		return fmt.Errorf("byte %d: %w", x.scan.pos, err)
	}
	return fmt.Errorf("byte %d, after %q: %w", x.scan.pos, x.last, err)
}

// add puts one entry into the tree.
func (x *tarIndexer) add(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return x.setGlobal(h.PAXRecords)
	case typeTarVolume:
		return nil
	}
	x.tar.entries++
	x.applyGlobal(h)
	name, err := cleanTarName(h.Name)
	if err != nil {
		return err
	}
	if x.layer != nil {
		if done, err := x.whiteout(h, name); done || err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeLink {
		return x.link(name, h.Linkname)
	}
	n, err := x.node(h)
	if err != nil {
		return err
	}
	return x.place(name, n)
}

// cleanTarName is a name as a path from the root, "" for the root itself.
func cleanTarName(name string) (string, error) {
	if name == "" {
		return "", errors.New("an entry without a name")
	}
	if len(name) >= maxTarPath {
		return "", fmt.Errorf("%w: path of %d bytes: Linux opens none of %d or more", ErrTooLarge, len(name), maxTarPath)
	}
	clean := make([]byte, 0, len(name))
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			return "", errors.New(`".." in the name`)
		}
		if err := checkName(part); err != nil {
			return "", err
		}
		if len(clean) > 0 {
			clean = append(clean, '/')
		}
		clean = append(clean, part...)
	}
	return string(clean), nil
}

// parent finds the directory of a name, through symbolic links, makes what is
// not there, and returns it with the last part of the name.
func (x *tarIndexer) parent(name string) (*tarNode, string, error) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return x.root, strings.Clone(name), nil
	}
	dir, base := name[:i], strings.Clone(name[i+1:])
	if x.dir.name != dir {
		if err := x.enter(dir); err != nil {
			return nil, "", err
		}
	}
	if n := x.dir.path + len(base); n >= maxTarPath { // links can make it longer than the name
		return nil, "", fmt.Errorf("%w: path of %d bytes: Linux opens none of %d or more", ErrTooLarge, n, maxTarPath)
	}
	return x.dir.node, base, nil
}

// enter goes to a directory.
func (x *tarIndexer) enter(name string) error {
	w := newTarWalk(x.root)
	w.made = true
	if err := w.walk(name, true); err != nil {
		return below(&w, err)
	}
	if n := w.at(); n != nil && !n.isDir() {
		return below(&w, errReaderNotDir)
	}
	at, length := x.root, 0
	for _, s := range w.steps[1:] {
		length += len(s.name) + len("/")
		if s.node == nil {
			if err := checkName(s.name); err != nil { // a link's target may name anything
				return err
			}
			var err error
			if s.node, err = x.tar.impliedDir(); err != nil {
				return err
			}
			at.put(strings.Clone(s.name), s.node)
		}
		at = s.node
		at.layer = x.tar.layer
	}
	x.dir = tarDirAt{strings.Clone(name), at, length}
	return nil
}

// below is the error about an entry whose directory cannot be reached.
func below(w *tarWalk, err error) error {
	if err == errReaderNotDir {
		return fmt.Errorf("lies below %q, which is not a directory", w.path())
	}
	return fmt.Errorf("its directory: %w", err)
}

// place gives a node its name, which an earlier one may have had.
func (x *tarIndexer) place(name string, n *tarNode) error {
	if name == "" {
		if !n.isDir() {
			return errors.New("the root is not a directory")
		}
		x.root.describe(n)
		return nil
	}
	dir, base, err := x.parent(name)
	if err != nil {
		return err
	}
	old := dir.kids[base]
	switch {
	case old != nil && old.isDir() && n.isDir():
		old.describe(n)
		return nil
	case old != nil && old.isDir() && x.holds(old):
		return errors.New("takes the place of a directory that holds something")
	case old != nil && (old.isDir() || old.kind == typeSymlink):
		x.dir = tarDirAt{} // it may have led there
	}
	dir.put(base, n)
	x.layer.placed(x.tar.layer, dir, base, n)
	return nil
}

// link gives a file a further name.
func (x *tarIndexer) link(name, target string) error {
	n, err := x.linked(target)
	switch {
	case err != nil:
		return fmt.Errorf("hard link to %q: %w", target, err)
	case n == nil:
		return fmt.Errorf("hard link to %q, which is not in the archive before it", target)
	case n.isDir():
		return fmt.Errorf("hard link to %q, which is a directory", target)
	case name == "":
		return errors.New("the root is not a directory")
	}
	return x.place(name, n)
}

// linked is what a hard link's target names, or nil.
func (x *tarIndexer) linked(target string) (*tarNode, error) {
	to, err := cleanTarName(target)
	if err != nil {
		return nil, err
	}
	if x.layer != nil && x.layer.aufs[to] != nil {
		return x.layer.aufs[to], nil
	}
	w := newTarWalk(x.root)
	if err := w.walk(to, false); err == errReaderLinks || err == errTarSteps {
		return nil, err
	} else if err != nil {
		return nil, nil // not there, or below a file
	}
	return w.at(), nil
}

// tarBlock is the unit in which tar archives are read.
const tarBlock = 512

// tarScanner reads an archive's headers and skips its contents. It implements
// [io.Seeker], with which archive/tar skips.
type tarScanner struct {
	r      io.ReaderAt
	size   int64
	pos    int64
	member int64 // where the entry begins, with all headers that belong to it; -1 until it is read
	buf    [32 << 10]byte
	bufAt  int64
	bufLen int
}

func (s *tarScanner) Read(b []byte) (int, error) {
	// Skipping reads less than a block, so that the first read of a whole one
	// is that of the next entry's first header.
	if s.member < 0 && len(b) == tarBlock {
		s.member = s.pos
	}
	if s.pos >= s.size {
		return 0, io.EOF
	}
	if s.pos < s.bufAt || s.pos >= s.bufAt+int64(s.bufLen) {
		n, err := s.r.ReadAt(s.buf[:min(int64(len(s.buf)), s.size-s.pos)], s.pos)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		s.bufAt, s.bufLen = s.pos, n
	}
	n := copy(b, s.buf[s.pos-s.bufAt:s.bufLen])
	s.pos += int64(n)
	return n, nil
}

// Seek implements [io.Seeker].
func (s *tarScanner) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, errors.New("seek to before the start")
	}
	s.pos = offset
	return offset, nil
}
