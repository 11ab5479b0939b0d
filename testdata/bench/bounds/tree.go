package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/isopress/isopress/squashfs"
)

// tree is a file system that is made up as it is read: names, sizes and contents are functions of a
// file's number, so that a million files or 20 GiB take no memory and no disk of their own.
//
// It has dirs directories of files regular files each, or with no dirs the files at its root.
type tree struct {
	dirs, files int
	linked      bool // all names are hard links of one file
	size        func(file uint64) int64
	chunk       int // contents are made of chunks of this many bytes
	noise       int // one chunk in so many does not compress; 0: all do
}

// text and noise are what contents are made of.
var (
	text  = makeText(64 << 10)
	noise = makeNoise(4 << 20)
)

// makeText returns words in which some are much more frequent than others, as in any language.
func makeText(size int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 2000)
	for i := range words {
		for range 2 + rnd.IntN(9) {
			words[i] += string(rune('a' + rnd.IntN(26)))
		}
	}
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(words[int(float64(len(words))*rnd.Float64()*rnd.Float64()*rnd.Float64())])
		b.WriteByte(' ')
	}
	return []byte(b.String()[:size])
}

func makeNoise(size int) []byte {
	b := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(b)
	return b
}

// mix is splitmix64: a number that looks random for each argument.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fill writes the content of a file from off into p. Each chunk begins with a number of its own, so
// that no two are equal.
func (t *tree) fill(file uint64, p []byte, off int64) {
	for len(p) > 0 {
		k, skip := off/int64(t.chunk), int(off%int64(t.chunk))
		n := min(t.chunk-skip, len(p))
		t.fillChunk(mix(file<<32^uint64(k)), p[:n], skip)
		p, off = p[n:], off+int64(n)
	}
}

func (t *tree) fillChunk(h uint64, p []byte, skip int) {
	from := text
	if t.noise > 0 && h>>40%uint64(t.noise) == 0 {
		from = noise
	}
	at := int(h % uint64(len(from)-t.chunk))
	n := copy(p, from[at+skip:])
	if n != len(p) {
		panic("chunk is too large")
	}
	var mark [8]byte
	binary.LittleEndian.PutUint64(mark[:], h)
	if skip < len(mark) {
		copy(p, mark[skip:])
	}
}

// count is the number of names and of inodes, without and with the root.
func (t *tree) count() (names, inodes int) {
	files := max(t.dirs, 1) * t.files
	names = t.dirs + files
	if t.linked {
		return names, t.dirs + 1 + 1
	}
	return names, names + 1
}

const (
	dirName  = "directory-%04d"
	fileName = "file-%06d.txt"
)

// entry describes one file or directory; it is its own FileInfo and DirEntry.
type entry struct {
	t    *tree
	name string
	dir  bool
	file uint64 // number of a regular file
}

// date is that of everything.
var date = time.Unix(1_700_000_000, 0)

func (e entry) Name() string               { return e.name }
func (e entry) IsDir() bool                { return e.dir }
func (e entry) Type() fs.FileMode          { return e.Mode().Type() }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) ModTime() time.Time         { return date }

func (e entry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

func (e entry) Size() int64 {
	if e.dir {
		return 0
	}
	return e.t.size(e.file)
}

func (e entry) Sys() any {
	if e.t.linked && !e.dir {
		names, _ := e.t.count()
		return &squashfs.Attr{Inode: 1, Nlink: uint32(names - e.t.dirs)}
	}
	return nil
}

// find returns the entry of a path.
func (t *tree) find(op, name string) (entry, error) {
	if name == "." {
		return entry{t: t, name: ".", dir: true}, nil
	}
	fail := func() (entry, error) { return entry{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }
	base, d := name, 0
	if t.dirs > 0 {
		var below bool
		var dir string
		dir, base, below = strings.Cut(name, "/")
		if !scan(dir, dirName, t.dirs, &d) {
			return fail()
		}
		if !below {
			return entry{t: t, name: dir, dir: true, file: uint64(d)}, nil
		}
	}
	var f int
	if !scan(base, fileName, t.files, &f) {
		return fail()
	}
	return t.entry(d, f), nil
}

// scan reads the number of a name, of which there are max.
func scan(name, format string, max int, n *int) bool {
	_, err := fmt.Sscanf(name, format, n)
	return err == nil && *n >= 0 && *n < max && fmt.Sprintf(format, *n) == name
}

func (t *tree) entry(dir, file int) entry {
	e := entry{t: t, name: fmt.Sprintf(fileName, file), file: uint64(dir*t.files + file)}
	if t.linked {
		e.file = 0
	}
	return e
}

// Stat implements [fs.StatFS].
func (t *tree) Stat(name string) (fs.FileInfo, error) { return t.find("stat", name) }

// ReadDir implements [fs.ReadDirFS].
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !e.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." && t.dirs > 0 {
		list := make([]fs.DirEntry, t.dirs)
		for i := range list {
			list[i] = entry{t: t, name: fmt.Sprintf(dirName, i), dir: true, file: uint64(i)}
		}
		return list, nil
	}
	list := make([]fs.DirEntry, t.files)
	for i := range list {
		list[i] = t.entry(int(e.file), i)
	}
	return list, nil
}

// Open implements [fs.FS].
func (t *tree) Open(name string) (fs.File, error) {
	e, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	return &file{entry: e}, nil
}

// file is an open file. Like an *os.File it can be read from any place.
type file struct {
	entry
	off int64
}

func (f *file) Stat() (fs.FileInfo, error) { return f.entry, nil }
func (f *file) Close() error               { return nil }

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if f.dir || off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	left := f.Size() - off
	if left <= 0 {
		return 0, io.EOF
	}
	n := int(min(left, int64(len(p))))
	f.t.fill(f.file, p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += f.Size()
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	f.off = offset
	return offset, nil
}
