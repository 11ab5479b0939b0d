package nix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// NARHeader is a file of a Nix archive (NAR). Owners, dates and modes, but for the
// owner's permission to run it, are not in it.
type NARHeader struct {
	Depth  int         // below the archive's root, which has 0
	Name   string      // in its directory; the root has none
	Mode   fs.FileMode // a regular file, a directory or a symlink
	Size   int64       // of a regular file, in bytes
	Target string      // of a symlink
}

// NARWriter writes a Nix archive, by whose SHA-256 Nix knows the content of a store
// path. The format is in figure 5.2 of Dolstra, The Purely Functional Software
// Deployment Model, 2006.
//
// Files come depth first, the root first of all, and those of a directory sorted by
// name. After an error all further calls fail.
type NARWriter struct {
	w     io.Writer
	buf   []byte
	last  NARHeader // the file that is open
	begun bool
	left  int64 // of its content
	err   error
}

// NewNARWriter returns a writer of one archive to w.
func NewNARWriter(w io.Writer) *NARWriter { return &NARWriter{w: w} }

// WriteHeader begins the next file. The content of a regular one follows by Write, as
// long as Size says.
func (n *NARWriter) WriteHeader(h NARHeader) error {
	switch {
	case n.err != nil:
		return n.err
	case n.left > 0:
		return n.fail(fmt.Errorf("%q: %d bytes are missing", n.last.Name, n.left))
	case !n.begun && h.Depth != 0, n.begun && (h.Depth < 1 || h.Depth > n.last.Depth+1):
		return n.fail(fmt.Errorf("%q: at depth %d, behind one at %d", h.Name, h.Depth, n.last.Depth))
	case n.begun && h.Depth > n.last.Depth && !n.last.Mode.IsDir():
		return n.fail(fmt.Errorf("%q: within %q, which is no directory", h.Name, n.last.Name))
	}
	if n.begun {
		n.closeTo(h.Depth)
		n.text("entry", "(", "name", h.Name, "node")
	} else {
		n.text("nix-archive-1")
	}
	n.last, n.begun = h, true
	n.text("(", "type")
	switch h.Mode.Type() {
	case fs.ModeDir:
		n.text("directory")
	case fs.ModeSymlink:
		n.text("symlink", "target", h.Target)
	case 0:
		n.regular(h)
	default:
		return n.fail(fmt.Errorf("%q: of type %v, which no archive holds", h.Name, h.Mode.Type()))
	}
	return n.flush()
}

func (n *NARWriter) regular(h NARHeader) {
	n.text("regular")
	if h.Mode&0o100 != 0 {
		n.text("executable", "")
	}
	n.text("contents")
	n.buf = binary.LittleEndian.AppendUint64(n.buf, uint64(h.Size))
	n.left = h.Size
}

// Write gives the content of the file that the last header began.
func (n *NARWriter) Write(b []byte) (int, error) {
	if n.err != nil {
		return 0, n.err
	}
	if int64(len(b)) > n.left {
		return 0, n.fail(fmt.Errorf("%q: longer than the %d bytes that were said", n.last.Name, n.last.Size))
	}
	done, err := n.w.Write(b)
	if n.left -= int64(done); err != nil {
		n.err = err
	}
	return done, err
}

// Close ends the archive. It does not close the writer below.
func (n *NARWriter) Close() error {
	switch {
	case n.err != nil:
		return n.err
	case !n.begun:
		return n.fail(errors.New("no file"))
	case n.left > 0:
		return n.fail(fmt.Errorf("%q: %d bytes are missing", n.last.Name, n.left))
	}
	n.closeTo(0)
	err := n.flush()
	n.err = errors.New("nar: closed")
	return err
}

// closeTo ends the open files of a depth and below.
func (n *NARWriter) closeTo(depth int) {
	if n.last.Mode.IsRegular() {
		n.pad(n.last.Size)
	}
	for d := n.last.Depth; d >= depth; d-- {
		n.text(")")
		if d > 0 {
			n.text(")") // of its entry
		}
	}
}

// text appends strings, each with its length ahead and padded to 8 bytes.
func (n *NARWriter) text(all ...string) {
	for _, s := range all {
		n.buf = append(binary.LittleEndian.AppendUint64(n.buf, uint64(len(s))), s...)
		n.pad(int64(len(s)))
	}
}

func (n *NARWriter) pad(size int64) {
	n.buf = append(n.buf, make([]byte, -size&7)...)
}

func (n *NARWriter) flush() error {
	_, err := n.w.Write(n.buf)
	n.buf = n.buf[:0]
	if err != nil {
		n.err = err
	}
	return err
}

func (n *NARWriter) fail(err error) error {
	n.err = fmt.Errorf("nar: %w", err)
	return n.err
}
