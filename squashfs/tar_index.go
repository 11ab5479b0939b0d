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
	root   *tarNode
	lower  *tarNode // what hard links may name beside; nil where there is nothing below
	global map[string]string
	last   string // name of the last entry, for errors
}

// index reads an archive's headers. lower is the tree below it, or nil.
func (t *Tar) index(ctx context.Context, src tarSource, lower *tarNode) (*tarNode, error) {
	scan := &tarScanner{r: src.r, size: src.size}
	x := &tarIndexer{tar: t, src: &src, scan: scan, tr: tar.NewReader(scan), lower: lower, root: t.impliedDir()}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		more, err := x.entry()
		if err != nil {
			return nil, err
		}
		if !more {
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
	x.applyGlobal(h)
	name, err := cleanTarName(h.Name)
	if err != nil {
		return err
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

// parent finds the directory of a name, makes those that have no entry, and
// returns it with the last part of the name.
func (x *tarIndexer) parent(name string) (*tarNode, string, error) {
	dir := x.root
	for at := 0; ; {
		i := strings.IndexByte(name[at:], '/')
		if i < 0 {
			return dir, strings.Clone(name[at:]), nil
		}
		part := name[at : at+i]
		next := dir.kids[part]
		switch {
		case next == nil:
			next = x.tar.impliedDir()
			dir.put(strings.Clone(part), next)
		case !next.isDir():
			return nil, "", below(name[:at+i], next)
		}
		dir, at = next, at+i+1
	}
}

// below is the error about an entry below something other than a directory.
func below(name string, n *tarNode) error {
	if n.kind == typeSymlink {
		return fmt.Errorf("lies below %q, a symbolic link to %q: entries are not placed through links", name, n.target)
	}
	return fmt.Errorf("lies below %q, which is not a directory", name)
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
	switch old := dir.kids[base]; {
	case old == nil || !old.isDir():
		dir.put(base, n)
	case n.isDir():
		old.describe(n)
	case len(old.kids) > 0:
		return errors.New("takes the place of a directory that holds something")
	default:
		dir.put(base, n)
	}
	return nil
}

// link gives a file a further name.
func (x *tarIndexer) link(name, target string) error {
	to, err := cleanTarName(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	n := x.root.find(to)
	if n == nil && x.lower != nil {
		n = x.lower.find(to)
	}
	switch {
	case n == nil:
		return fmt.Errorf("hard link to %q, which is not in the archive before it", target)
	case n.isDir():
		return fmt.Errorf("hard link to %q, which is a directory", target)
	case name == "":
		return errors.New("the root is not a directory")
	}
	return x.place(name, n)
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
