//go:build linux

// Package treelist writes a canonical listing of a file tree, to compare two trees byte for byte where
// only one of them is at hand: what was packed here, and what the kernel's driver reads in a guest.
//
// A listing is text: a header naming the options, a line for every entry, and a last line with their
// number. Entries are in depth-first order, the names of a directory sorted by their bytes. A line is
// the quoted path and then fields:
//
//	"bin/su" t=f m=4755 u=0 g=0 d=1 n=1 s=63960 x=security.capability:0100 h=0123456789abcdef
//	"bin/sh" t=l m=0777 u=0 g=0 d=1 l="bash"
//	"dev/vda" t=b m=0660 u=0 g=6 d=1 n=1 r=254:0
//
// t is the type (f file, d directory, l symbolic link, b and c devices, p pipe, s socket), m the mode
// with setuid, setgid and sticky, u and g the owners, d the modification time in seconds, n the number
// of links, s the size, r the device number, l the link's target, x an extended attribute in hex, and h
// the CRC-64 of the content: it guards against accident, and costs little in an emulated processor.
package treelist

import (
	"bufio"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Options say what a listing leaves out. Two listings compare only with the same ones.
type Options struct {
	AllRoot   bool // owners are 0, as mksquashfs -all-root makes them
	Hardlinks bool // list the number of links of what is not a directory
	NoXattrs  bool // leave out extended attributes
	NoRoot    bool // leave out the tree's root itself
	DirSizes  bool // list the sizes of directories, which mean something within one file system only
}

// Named is a file tree and its place in a larger one.
type Named struct {
	Name string // relative, slash-separated
	Path string // where it lies
}

// Write lists the tree at root.
func Write(w io.Writer, root string, o Options) error {
	return o.write(w, func(l *lister) error { return l.walk(root, ".") })
}

// WriteAll lists trees as if they lay in one directory, which is itself not listed: NoRoot is implied.
func WriteAll(w io.Writer, trees []Named, o Options) error {
	o.NoRoot = true
	trees = slices.SortedFunc(slices.Values(trees), func(a, b Named) int { return comparePaths(a.Name, b.Name) })
	return o.write(w, func(l *lister) error {
		for _, t := range trees {
			if err := l.walk(t.Path, path.Clean(t.Name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// StorePaths names each path by its base name, which is how store paths lie in a NixOS squashfs.
func StorePaths(paths []string) []Named {
	var trees []Named
	for _, p := range paths {
		trees = append(trees, Named{path.Base(p), p})
	}
	return trees
}

const headerStart = "# treelist 1"

// header names the options, so that who reads a listing can make another one like it.
func (o Options) header() string {
	h := headerStart
	for _, n := range o.names() {
		if *n.set {
			h += " " + n.name
		}
	}
	return h
}

type optionName struct {
	name string
	set  *bool
}

func (o *Options) names() []optionName {
	return []optionName{
		{"all-root", &o.AllRoot}, {"hardlinks", &o.Hardlinks}, {"no-xattrs", &o.NoXattrs},
		{"no-root", &o.NoRoot}, {"dir-sizes", &o.DirSizes},
	}
}

// ParseHeader reads the options off a listing's first line.
func ParseHeader(line string) (Options, error) {
	var o Options
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), headerStart)
	if !ok {
		return o, fmt.Errorf("treelist: not a listing: it begins with %.40q", line)
	}
	for _, word := range strings.Fields(rest) {
		i := slices.IndexFunc(o.names(), func(n optionName) bool { return n.name == word })
		if i < 0 {
			return o, fmt.Errorf("treelist: unknown option %q in the header", word)
		}
		*o.names()[i].set = true
	}
	return o, nil
}

func (o Options) write(w io.Writer, list func(*lister) error) error {
	l := &lister{Options: o, w: bufio.NewWriterSize(w, 64<<10), buf: make([]byte, 256<<10)}
	fmt.Fprintln(l.w, o.header())
	if err := list(l); err != nil {
		return err
	}
	fmt.Fprintf(l.w, "# %d entries\n", l.entries)
	if err := l.w.Flush(); err != nil {
		return fmt.Errorf("treelist: %w", err)
	}
	return nil
}

// lister writes one listing. Besides a buffer it holds the names of the directories that it is in.
type lister struct {
	Options
	w       *bufio.Writer
	buf     []byte
	entries int
}

// walk lists what lies at file, under the given name, and all below it.
func (l *lister) walk(file, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: file, Err: err}
	}
	if name != "." || !l.NoRoot {
		if err := l.entry(file, name, &st); err != nil {
			return err
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	names, err := sortedNames(file)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := l.walk(file+"/"+n, path.Join(name, n)); err != nil {
			return err
		}
	}
	return nil
}

func sortedNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (l *lister) entry(file, name string, st *unix.Stat_t) error {
	line := strconv.AppendQuote(nil, name)
	line = l.appendStat(line, st)
	var err error
	if !l.NoXattrs {
		if line, err = appendXattrs(line, file); err != nil {
			return err
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		var sum uint64
		if sum, err = l.checksum(file, st.Size); err == nil {
			line = fmt.Appendf(line, " h=%016x", sum)
		}
	case unix.S_IFLNK:
		var target string
		if target, err = os.Readlink(file); err == nil {
			line = fmt.Appendf(line, " l=%q", target)
		}
	}
	if err != nil {
		return err
	}
	l.entries++
	if _, err := l.w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("treelist: %w", err)
	}
	return nil
}

var typeLetters = map[uint32]byte{
	unix.S_IFREG: 'f', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFBLK: 'b',
	unix.S_IFCHR: 'c', unix.S_IFIFO: 'p', unix.S_IFSOCK: 's',
}

func (l *lister) appendStat(line []byte, st *unix.Stat_t) []byte {
	uid, gid := st.Uid, st.Gid
	if l.AllRoot {
		uid, gid = 0, 0
	}
	kind := st.Mode & unix.S_IFMT
	line = fmt.Appendf(line, " t=%c m=%04o u=%d g=%d d=%d", typeLetters[kind], st.Mode&0o7777, uid, gid, st.Mtim.Sec)
	if l.Hardlinks && kind != unix.S_IFDIR {
		line = fmt.Appendf(line, " n=%d", st.Nlink)
	}
	if kind == unix.S_IFREG || kind == unix.S_IFDIR && l.DirSizes {
		line = fmt.Appendf(line, " s=%d", st.Size)
	}
	if kind == unix.S_IFBLK || kind == unix.S_IFCHR {
		line = fmt.Appendf(line, " r=%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
	return line
}

var crcTable = crc64.MakeTable(crc64.ECMA)

// checksum reads the whole file, and wants as many bytes as the inode says.
func (l *lister) checksum(file string, size int64) (uint64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var sum uint64
	for read := int64(0); ; {
		n, err := f.Read(l.buf)
		sum = crc64.Update(sum, crcTable, l.buf[:n])
		read += int64(n)
		if err == io.EOF && read == size {
			return sum, nil
		}
		if err == io.EOF {
			return 0, fmt.Errorf("treelist: %s: %d bytes read of %d", file, read, size)
		}
		if err != nil {
			return 0, err
		}
	}
}
