package squashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

const (
	readerMaxLinks = 40      // as the kernel's MAXSYMLINKS
	readerMaxSteps = 1 << 15 // names on the way, those in links included
)

var (
	errReaderLinks  = errors.New("too many levels of symbolic links")
	errReaderNotDir = errors.New("not a directory")
	errReaderIsDir  = errors.New("is a directory")
)

// readerValidPath is [fs.ValidPath] without its demand for UTF-8.
func readerValidPath(name string) bool {
	if name == "." {
		return true
	}
	for elem := range strings.SplitSeq(name, "/") {
		if elem == "" || elem == "." || elem == ".." {
			return false
		}
	}
	return true
}

// readerWalk is a path being resolved.
type readerWalk struct {
	r     *Reader
	above []*readerInode // the directories that lead to at, for ".."
	at    *readerInode
	links int
	steps int
}

// resolve finds the inode that name leads to; if follow, through a last element
// that is a symbolic link.
func (r *Reader) resolve(name string, follow bool) (*readerInode, error) {
	if !readerValidPath(name) {
		return nil, fs.ErrInvalid
	}
	w := readerWalk{r: r, at: r.root}
	if err := w.walk(name, follow); err != nil {
		return nil, err
	}
	return w.at, nil
}

// walk goes down rest, an element at a time. A link's target replaces the link
// in front of what is left.
func (w *readerWalk) walk(rest string, follow bool) error {
	for more := true; more; {
		var elem string
		elem, rest, more = strings.Cut(rest, "/")
		if w.steps++; w.steps > readerMaxSteps {
			return fmt.Errorf("path of over %d names", readerMaxSteps)
		}
		link, err := w.step(elem)
		if err != nil {
			return err
		}
		if link == nil {
			continue
		}
		if !more && !follow {
			w.at = link
			return nil
		}
		target, err := w.follow(link)
		if err != nil {
			return err
		}
		if more {
			target += "/" + rest
		}
		rest, more = target, true
	}
	return nil
}

// step goes to the entry elem of the directory it is at. A symbolic link is
// returned, it does not go there.
func (w *readerWalk) step(elem string) (link *readerInode, err error) {
	if w.at.typ.basic() != typeDir {
		return nil, errReaderNotDir
	}
	switch elem {
	case "", ".":
		return nil, nil
	case "..":
		w.up()
		return nil, nil
	}
	e, err := w.r.lookup(w.at, elem)
	if err != nil {
		return nil, err
	}
	n, err := w.r.enter(w.at, e)
	if err != nil {
		return nil, err
	}
	if e.typ == typeSymlink {
		return n, nil
	}
	w.above = append(w.above, w.at)
	w.at = n
	return nil, nil
}

// up goes to the parent; the root is its own.
func (w *readerWalk) up() {
	if last := len(w.above) - 1; last >= 0 {
		w.at, w.above = w.above[last], w.above[:last]
	}
}

// follow returns a link's target as a path from the directory it is at.
func (w *readerWalk) follow(link *readerInode) (string, error) {
	if w.links++; w.links > readerMaxLinks {
		return "", errReaderLinks
	}
	if strings.HasPrefix(link.target, "/") {
		w.at, w.above = w.r.root, nil
	}
	return link.target, nil
}

// Open opens the named file. A regular one implements [io.Seeker],
// [io.ReaderAt], whose ReadAt may be called from many goroutines, and
// [io.WriterTo] besides [fs.File]; a directory implements [fs.ReadDirFile].
// Reading from a device, pipe or socket is an error.
func (r *Reader) Open(name string) (fs.File, error) {
	n, err := r.resolve(name, true)
	if err != nil {
		return nil, readerError("open", name, err)
	}
	info := readerInfo{path.Base(name), n}
	switch n.typ.basic() {
	case typeFile:
		return &readerFile{readerOpen: readerOpen{path: name, info: info}, content: newReaderContent(r, n)}, nil
	case typeDir:
		return &readerDir{readerOpen: readerOpen{path: name, info: info}, listing: r.listing(n, nil)}, nil
	}
	return &readerSpecial{readerOpen{path: name, info: info}}, nil
}

// Stat describes the file that name leads to.
func (r *Reader) Stat(name string) (fs.FileInfo, error) { return r.stat("stat", name, true) }

// Lstat describes name itself, even if it is a symbolic link.
func (r *Reader) Lstat(name string) (fs.FileInfo, error) { return r.stat("lstat", name, false) }

func (r *Reader) stat(op, name string, follow bool) (fs.FileInfo, error) {
	n, err := r.resolve(name, follow)
	if err != nil {
		return nil, readerError(op, name, err)
	}
	return readerInfo{path.Base(name), n}, nil
}

// ReadLink returns the target of a symbolic link, as it is stored.
func (r *Reader) ReadLink(name string) (string, error) {
	n, err := r.resolve(name, false)
	if err == nil && n.typ.basic() != typeSymlink {
		err = fs.ErrInvalid
	}
	if err != nil {
		return "", readerError("readlink", name, err)
	}
	return n.target, nil
}

// ReadDir returns a directory's entries in the order of their names. An error
// comes with the entries before it.
func (r *Reader) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := r.resolve(name, true)
	if err == nil && n.typ.basic() != typeDir {
		err = errReaderNotDir
	}
	if err != nil {
		return nil, readerError("readdir", name, err)
	}
	l := r.listing(n, nil)
	list, err := l.readEntries(name, -1)
	return list, readerError("readdir", name, err)
}
