package iso

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/isopress/isopress/internal/treefs"
)

// maxLinks is how many symbolic links Open follows, as Linux does.
const maxLinks = 40

// node9660 is a file or directory of an Image's tree, by the best names that there are.
type node9660 struct {
	name     string
	mode     fs.FileMode
	modTime  time.Time
	link     string
	file     *fileExtents // nil if empty
	children []*node9660  // sorted by name
	dir      *dirExtent   // where the entry is
	entry    int
	own      *dirExtent // of a directory
}

// buildView makes the tree by Rock Ridge's names, or else Joliet's, or else ISO 9660's.
func (im *Image) buildView() error {
	t, names := im.trees[0], "Rock Ridge"
	if !t.rockRidge {
		names = "ISO 9660"
		for _, other := range im.trees {
			if other.joliet && other.base == 0 {
				t, names = other, "Joliet"
				break
			}
		}
	}
	im.view, im.names = t, names
	im.root = &node9660{name: ".", mode: fs.ModeDir | 0o555, own: t.dirs[0], modTime: recordTime(t.raw[156+18:])}
	return im.fill(im.root, map[*dirExtent]bool{t.dirs[0]: true})
}

// fill adds n's children, and theirs. Directories that Rock Ridge has relocated are where they belong. Names that package
// fs does not allow, such as those that are not UTF-8, are not to be seen; a rewritten image keeps them.
func (im *Image) fill(n *node9660, seen map[*dirExtent]bool) error {
	names := make(map[string]bool, len(n.own.entries))
	for i, e := range n.own.entries {
		c := im.child(n.own, i, e)
		if c == nil || names[c.name] || c.name == "." || !fs.ValidPath(c.name) || strings.Contains(c.name, "/") {
			continue
		}
		if c.own != nil {
			if seen[c.own] {
				return damaged("/%s: a directory that is there twice", c.own.path)
			}
			seen[c.own] = true
			if err := im.fill(c, seen); err != nil {
				return err
			}
		}
		names[c.name] = true
		n.children = append(n.children, c)
	}
	slices.SortFunc(n.children, func(a, b *node9660) int { return strings.Compare(a.name, b.name) })
	return nil
}

// child is the node of an entry, or nil where nothing is to be seen.
func (im *Image) child(d *dirExtent, i int, e dirEntry) *node9660 {
	rec := d.record(e.first)
	if rec[25]&flagAssociated != 0 {
		return nil
	}
	c := &node9660{name: e.name, mode: 0o444, modTime: recordTime(rec[18:]), file: e.file, own: e.dir, dir: d, entry: i}
	if e.dir != nil {
		c.mode = fs.ModeDir | 0o555
	}
	if s := e.susp; s != nil {
		if s.relocated {
			return nil
		}
		c.useSUSP(im, s)
	}
	if c.mode.IsDir() != (c.own != nil) {
		c.mode = c.mode&fs.ModePerm | map[bool]fs.FileMode{true: fs.ModeDir}[c.own != nil]
	}
	return c
}

func (n *node9660) useSUSP(im *Image, s *suspInfo) {
	if s.mode != 0 {
		n.mode = posixMode(s.mode)
	}
	if !s.modTime.IsZero() {
		n.modTime = s.modTime
	}
	n.link = s.link
	if s.child != 0 {
		n.own, n.file = im.dirs[s.child], nil
	}
}

// child is the child of a name, or nil.
func (n *node9660) child(name string) *node9660 {
	i, ok := slices.BinarySearchFunc(n.children, name, func(c *node9660, s string) int { return strings.Compare(c.name, s) })
	if !ok {
		return nil
	}
	return n.children[i]
}

// lookup returns a path's node. Links are followed, the last one only if follow is set; none leaves the image.
func (im *Image) lookup(op, name string, follow bool) (*node9660, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	stack := []*node9660{im.root}
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(len(stack)-1, 1)]
			continue
		}
		c := stack[len(stack)-1].child(part)
		if c == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		if c.mode&fs.ModeSymlink == 0 || len(todo) == 0 && !follow {
			stack = append(stack, c)
			continue
		}
		if links++; links > maxLinks {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
		}
		if path.IsAbs(c.link) {
			stack = stack[:1]
		}
		todo = append(strings.Split(c.link, "/"), todo...)
	}
	return stack[len(stack)-1], nil
}

// FS is the image's tree: by Rock Ridge's names, or else Joliet's, or else ISO 9660's in lower case without versions.
// A regular file that is opened is an io.ReaderAt, io.Seeker and io.WriterTo, too.
func (im *Image) FS() fs.FS { return imageFS{im} }

// Names says whose names FS has: "Rock Ridge", "Joliet" or "ISO 9660".
func (im *Image) Names() string { return im.names }

// Extents are where a file lies in the image, in order, or nil if it is empty. Links are followed.
func (im *Image) Extents(name string) ([]Extent, error) {
	n, err := im.lookup("extents", name, true)
	if err != nil {
		return nil, err
	}
	if n.file == nil {
		return nil, nil
	}
	var list []Extent
	for _, p := range n.file.pieces {
		list = append(list, Extent{name, p.pos, p.size})
	}
	return list, nil
}

type imageFS struct{ im *Image }

func (f imageFS) Open(name string) (fs.File, error) {
	n, err := f.im.lookup("open", name, true)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		d := &treefs.Dir{Info: n.info()}
		for _, c := range n.children {
			d.Entries = append(d.Entries, c.info())
		}
		return d, nil
	}
	return &treefs.File{Info: n.info(), SectionReader: f.im.content(n.file)}, nil
}

func (f imageFS) Lstat(name string) (fs.FileInfo, error) {
	n, err := f.im.lookup("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return n.info(), nil
}

func (f imageFS) ReadLink(name string) (string, error) {
	n, err := f.im.lookup("readlink", name, false)
	if err == nil && n.mode&fs.ModeSymlink == 0 {
		err = &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return "", err
	}
	return n.link, nil
}

// content is what a file holds.
func (im *Image) content(f *fileExtents) *io.SectionReader {
	switch {
	case f == nil:
		return io.NewSectionReader(strings.NewReader(""), 0, 0)
	case len(f.pieces) == 1:
		return io.NewSectionReader(im.r, f.pieces[0].pos, f.size)
	}
	return io.NewSectionReader(pieceReader{im.r, f.pieces}, 0, f.size)
}

// pieceReader joins pieces of an image.
type pieceReader struct {
	r      io.ReaderAt
	pieces []piece
}

func (p pieceReader) ReadAt(b []byte, off int64) (n int, err error) {
	for _, at := range p.pieces {
		if off >= at.size {
			off -= at.size
			continue
		}
		want := min(int64(len(b)-n), at.size-off)
		got, err := p.r.ReadAt(b[n:n+int(want)], at.pos+off)
		if n += got; got < int(want) {
			return n, err
		}
		if off = 0; n == len(b) {
			return n, nil
		}
	}
	return n, io.EOF
}

func (n *node9660) info() fs.FileInfo { return info9660{n} }

type info9660 struct{ n *node9660 }

func (i info9660) Name() string       { return i.n.name }
func (i info9660) Mode() fs.FileMode  { return i.n.mode }
func (i info9660) ModTime() time.Time { return i.n.modTime }
func (i info9660) IsDir() bool        { return i.n.mode.IsDir() }
func (i info9660) Sys() any           { return nil }

func (i info9660) Size() int64 {
	switch {
	case i.n.mode&fs.ModeSymlink != 0:
		return int64(len(i.n.link))
	case i.n.file != nil:
		return i.n.file.size
	}
	return 0
}
