package squashfs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"testing"
)

// craft is an image put together by hand: its parts can say anything.
type craft struct {
	inodes, dirs, xattrs, xattrIDs []byte
	data                           []byte // at craftData
	frags                          []byte
	inodeBlock                     []byte // the stored inode table, if not inodes
	root                           inodeRef
	change                         func(*superblock)
}

const (
	craftBlockSize = 4096
	craftData      = superblockSize
)

// put appends the fields to b as the format has them.
func put(b []byte, fields ...any) []byte {
	for _, f := range fields {
		var err error
		if b, err = binary.Append(b, binary.LittleEndian, f); err != nil {
			panic(err)
		}
	}
	return b
}

// inode adds one and returns its place. The fields come after the base.
func (c *craft) inode(typ inodeType, number uint32, fields ...any) inodeRef {
	ref := c.next()
	c.inodes = put(c.inodes, uint16(typ), uint16(0o755), uint16(0), uint16(0), uint32(0), number)
	c.inodes = put(c.inodes, fields...)
	return ref
}

// next is where the next inode will be.
func (c *craft) next() inodeRef { return makeRef(0, uint16(len(c.inodes))) }

type craftEntry struct {
	name string
	typ  inodeType
	ref  inodeRef
}

// listing adds a directory's entries under one header, and returns where.
func (c *craft) listing(entries ...craftEntry) (block uint32, offset, size uint16) {
	at := len(c.dirs)
	c.dirs = put(c.dirs, uint32(len(entries)-1), uint32(0), uint32(1))
	for _, e := range entries {
		c.dirs = put(c.dirs, e.ref.offset(), int16(0), uint16(e.typ), uint16(len(e.name)-1), []byte(e.name))
	}
	block, offset = craftPlace(at)
	return block, offset, uint16(len(c.dirs) - at + 3)
}

// craftPlace is where byte n of a table is: a block's position and an offset.
func craftPlace(n int) (block uint32, offset uint16) {
	return uint32(n / metadataSize * (2 + metadataSize)), uint16(n % metadataSize)
}

// dir adds a directory with the entries.
func (c *craft) dir(number uint32, entries ...craftEntry) inodeRef {
	block, offset, size := c.listing(entries...)
	return c.inode(typeDir, number, block, uint32(2), size, offset, uint32(1))
}

// rootDir adds the root directory.
func (c *craft) rootDir(entries ...craftEntry) *craft {
	c.root = c.dir(1, entries...)
	return c
}

// file adds a basic file inode.
func (c *craft) file(start, fragment, offset, size uint32, words ...uint32) inodeRef {
	return c.inode(typeFile, 2, start, fragment, offset, size, words)
}

// stored is a table in metadata blocks that are not compressed.
func stored(b []byte) []byte {
	block := b[:min(len(b), metadataSize)]
	out := put(nil, uint16(len(block))|metadataRaw, block)
	if len(b) > metadataSize {
		out = append(out, stored(b[metadataSize:])...)
	}
	return out
}

// bytes puts the image together.
func (c *craft) bytes() []byte {
	sb := superblock{
		inodes: 100, blockSize: craftBlockSize, blockLog: 12, algorithm: Gzip, ids: 1, root: c.root,
		export: invalidBlock, xattrTable: invalidBlock, fragments: uint32(len(c.frags) / fragmentSize),
	}
	b := append(make([]byte, superblockSize), c.data...)
	add := func(block []byte) uint64 {
		at := uint64(len(b))
		b = append(b, block...)
		return at
	}
	if c.inodeBlock == nil {
		c.inodeBlock = stored(c.inodes)
	}
	sb.inodeTable = add(c.inodeBlock)
	sb.dirTable = add(stored(c.dirs))
	at := add(stored(c.frags))
	sb.fragTable = add(put(nil, at))
	at = add(stored(make([]byte, 4)))
	sb.idTable = add(put(nil, at))
	if c.xattrs != nil {
		kv := add(stored(c.xattrs))
		at = add(stored(c.xattrIDs))
		sb.xattrTable = add(put(nil, kv, uint32(len(c.xattrIDs)/xattrIDSize), uint32(0), at))
		// The id table must end where the xattrs start, as it does here.
	}
	sb.bytesUsed = uint64(len(b))
	if c.change != nil {
		c.change(&sb)
	}
	copy(b, sb.encode())
	return b
}

func (c *craft) open() (*Reader, error) {
	b := c.bytes()
	return NewReader(bytes.NewReader(b), int64(len(b)))
}

// readEverything reads all that an image has, up to limits, and joins the errors.
func readEverything(r *Reader, entries int, size int64) error {
	var all error
	err := fs.WalkDir(r, ".", func(name string, e fs.DirEntry, err error) error {
		if entries--; entries < 0 {
			return fs.SkipAll
		}
		if err != nil {
			all = errors.Join(all, err)
			return nil
		}
		all = errors.Join(all, readOne(r, name, e, size))
		return nil
	})
	return errors.Join(all, err)
}

func readOne(r *Reader, name string, e fs.DirEntry, size int64) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	_, err = r.Xattrs(name)
	if info.Mode()&fs.ModeSymlink != 0 {
		_, linkErr := r.ReadLink(name)
		return errors.Join(err, linkErr)
	}
	if !info.Mode().IsRegular() {
		return err
	}
	f, openErr := r.Open(name)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer f.Close()
	_, readErr := io.CopyN(io.Discard, f, size)
	if readErr == io.EOF {
		readErr = nil
	}
	_, endErr := f.(io.ReaderAt).ReadAt(make([]byte, 10), max(0, info.Size()-10))
	if endErr == io.EOF {
		endErr = nil
	}
	if info.Size() <= size {
		_, fileErr := r.ReadFile(name)
		readErr = errors.Join(readErr, fileErr)
	}
	return errors.Join(err, readErr, endErr)
}

func zlibOf(b []byte) []byte {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// TestReaderCraft: what the other tests spoil is readable as it is.
func TestReaderCraft(t *testing.T) {
	c := &craft{data: []byte("content")}
	c.frags = put(nil, uint64(craftData), uint32(7|blockRaw), uint32(0))
	f := c.file(0, 0, 2, 5)
	l := c.inode(typeSymlink, 3, uint32(1), uint32(1), []byte("a"))
	c.rootDir(craftEntry{"a", typeFile, f}, craftEntry{"b", typeSymlink, l})
	r, err := c.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := readEverything(r, 100, 1<<20); err != nil {
		t.Error(err)
	}
	if b, err := r.ReadFile("b"); string(b) != "ntent" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestReaderHostile(t *testing.T) {
	hole := make([]uint32, 10)
	one := func(typ inodeType, make func(c *craft) inodeRef) *craft {
		c := &craft{data: bytes.Repeat([]byte("data"), 1024)}
		c.frags = put(nil, uint64(craftData), uint32(100|blockRaw), uint32(0))
		return c.rootDir(craftEntry{"x", typ, make(c)})
	}
	file := func(start, fragment, offset, size uint32, words ...uint32) *craft {
		return one(typeFile, func(c *craft) inodeRef { return c.file(start, fragment, offset, size, words...) })
	}
	for name, c := range map[string]*craft{
		"directory in itself": one(typeDir, func(c *craft) inodeRef {
			ref := c.next()
			return c.dir(2, craftEntry{"loop", typeDir, ref})
		}),
		"directory with two names": func() *craft {
			c := &craft{}
			d := c.dir(2, craftEntry{"f", typeFile, c.file(0, invalidFragment, 0, 0)})
			return c.rootDir(craftEntry{"a", typeDir, d}, craftEntry{"b", typeDir, d})
		}(),
		"file as directory":      one(typeDir, func(c *craft) inodeRef { return c.file(0, invalidFragment, 0, 0) }),
		"inode type":             one(typeFile, func(c *craft) inodeRef { return c.inode(15, 2) }),
		"inode number":           one(typeFile, func(c *craft) inodeRef { return c.inode(typeFile, 0, make([]byte, 16)) }),
		"inode cut off":          one(typeFile, func(c *craft) inodeRef { return makeRef(0, 8191) }),
		"long target":            one(typeSymlink, func(c *craft) inodeRef { return c.inode(typeSymlink, 2, uint32(1), uint32(math.MaxUint32)) }),
		"target cut off":         one(typeSymlink, func(c *craft) inodeRef { return c.inode(typeSymlink, 2, uint32(1), uint32(60000)) }),
		"empty target":           one(typeSymlink, func(c *craft) inodeRef { return c.inode(typeSymlink, 2, uint32(1), uint32(0)) }),
		"NUL in target":          one(typeSymlink, func(c *craft) inodeRef { return c.inode(typeSymlink, 2, uint32(1), uint32(2), []byte("a\x00")) }),
		"device cut off":         {inodes: make([]byte, 0), root: 0},
		"2^63 bytes":             one(typeFile, func(c *craft) inodeRef { return c.large(1 << 63) }),
		"2^63-1 bytes":           one(typeFile, func(c *craft) inodeRef { return c.large(1<<63 - 1) }),
		"2^40 bytes":             one(typeFile, func(c *craft) inodeRef { return c.large(1 << 40) }),
		"block sizes cut off":    one(typeFile, func(c *craft) inodeRef { return c.large(1 << 20) }),
		"fragment number":        file(0, 1, 0, 10),
		"tail over the fragment": file(0, 0, 95, 10),
		"tail over a block":      file(0, 0, 4090, 10),
		"block outside":          file(1<<30, invalidFragment, 0, 10, 10|blockRaw),
		"block at 0":             file(0, invalidFragment, 0, 10, 10|blockRaw),
		"block size word":        file(craftData, invalidFragment, 0, 10, 1<<25|10),
		"block over block size":  file(craftData, invalidFragment, 0, 4096, 4097),
		"short block":            file(craftData, invalidFragment, 0, 10, 9|blockRaw),
		"long block":             file(craftData, invalidFragment, 0, 10, 11|blockRaw),
		"raw block of nothing":   file(craftData, invalidFragment, 0, 10, blockRaw),
		"not a zlib stream":      file(craftData, invalidFragment, 0, 10, 10),
		"empty name":             names(""),
		"slash":                  names("a/b"),
		"NUL":                    names("a\x00b"),
		"dot":                    names("."),
		"dot dot":                names(".."),
		"name twice":             names("a", "a"),
		"names not sorted":       names("b", "a"),
		"long name":              names(strings.Repeat("n", maxNameLen+1)),
		"header of 257":          names(make([]string, 257)...),
		"listing cut off":        names("a").spoil(func(c *craft) { c.inodes[len(c.inodes)-8] -= 3 }),
		"listing over the table": names("a").spoil(func(c *craft) { c.inodes[len(c.inodes)-8] += 30 }),
		"listing offset":         names("a").spoil(func(c *craft) { c.inodes[len(c.inodes)-6] = 77 }),
		"listing outside":        names("a").spoil(func(c *craft) { c.inodes[len(c.inodes)-14] = 77 }),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := c.open()
			if err == nil {
				err = readEverything(r, 1000, 1<<20)
			}
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v", err)
			} else {
				t.Log(strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		})
	}
	if err := readAll(file(0, invalidFragment, 0, 40960, hole...)); err != nil {
		t.Errorf("holes: %v", err)
	}
}

func readAll(c *craft) error {
	r, err := c.open()
	if err != nil {
		return err
	}
	return readEverything(r, 1000, 1<<20)
}

// large is an extended file of holes, with far too few block sizes.
func (c *craft) large(size uint64) inodeRef {
	return c.inode(typeFile+extended, 2, uint64(0), size, size, uint32(1), invalidFragment, uint32(0), invalidXattr, make([]uint32, 8))
}

func (c *craft) spoil(f func(*craft)) *craft {
	f(c)
	return c
}

// names is an image with empty files of these names.
func names(list ...string) *craft {
	c := &craft{}
	f := c.file(0, invalidFragment, 0, 0)
	var entries []craftEntry
	for i, name := range list {
		if len(list) > 2 {
			name = fmt.Sprintf("%03d", i)
		}
		entries = append(entries, craftEntry{name, typeFile, f})
	}
	return c.rootDir(entries...)
}

// TestReaderIndexHostile: an index that names another entry than is there.
func TestReaderIndexHostile(t *testing.T) {
	c := &craft{}
	d := c.indexed(2)
	name := c.inodes[len(c.inodes)-28:]
	for _, change := range []byte{'0', '1', '2'} {
		name[24] = change // the index says 1, as the listing does
		c := &craft{inodes: bytes.Clone(c.inodes), dirs: bytes.Clone(c.dirs)}
		r, err := c.rootDir(craftEntry{"d", typeDir, d}).open()
		if err != nil {
			t.Fatal(err)
		}
		for _, last := range []string{"0aaz", "0hpz", "1aaz", "1hpz"} {
			_, err := r.Stat("d/" + strings.Repeat("n", 24) + last)
			if err != nil && !errors.Is(err, ErrCorrupt) || err != nil && change == '1' {
				t.Errorf("index at %q: %s: %v", name, last, err)
			}
		}
	}
}

// sparselyIndexed is an image with a directory "d" of many names, and an index of
// the one header in its middle, or an index that lies about it.
func sparselyIndexed(lie bool) *craft {
	c := &craft{}
	f := c.file(0, invalidFragment, 0, 0)
	const headers = 120
	var listing []byte
	middle := 0
	for h := range headers {
		if h == headers/2 {
			middle = len(listing)
		}
		listing = put(listing, uint32(255), uint32(0), uint32(1))
		for i := range 256 {
			listing = put(listing, f.offset(), int16(0), uint16(typeFile), uint16(7), []byte(fmt.Sprintf("%08d", h*256+i)))
		}
	}
	c.dirs = listing
	block, _ := craftPlace(middle)
	name := fmt.Sprintf("%08d", headers/2*256)
	if lie {
		name = fmt.Sprintf("%08d", headers/2*256+1)
	}
	d := c.inode(typeDir+extended, 3, uint32(2), uint32(len(listing)+3), uint32(0), uint32(1), uint16(1), uint16(0), invalidXattr,
		uint32(middle), block, uint32(len(name)-1), []byte(name))
	return c.rootDir(craftEntry{"d", typeDir, d})
}

// TestReaderIndexSparse: one entry of an index does not make searches long.
func TestReaderIndexSparse(t *testing.T) {
	r, err := sparselyIndexed(false).open()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 120 * 256 {
		if _, err := r.Lstat(fmt.Sprintf("d/%08d", i)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := r.resolve("d", true)
	if err != nil {
		t.Fatal(err)
	}
	marks, ok := r.marks.get(d.ref)
	if !ok || len(marks) < 30 || len(marks) > 60 {
		t.Errorf("%d marks for 60 metadata blocks, kept: %t", len(marks), ok)
	}
	if r, err = sparselyIndexed(true).open(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Lstat("d/00000000"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an index that lies: %v", err)
	}
}

// failingOnce fails to read a block a first time.
type failingOnce struct {
	*bytes.Reader
	fail bool
}

func (f *failingOnce) ReadAt(p []byte, off int64) (int, error) {
	if f.fail {
		f.fail = false
		return 0, errBroken
	}
	return f.Reader.ReadAt(p, off)
}

// TestReaderListingAgain: what comes after a failure to read is not the image's fault.
func TestReaderListingAgain(t *testing.T) {
	b := sparselyIndexed(false).bytes()
	src := &failingOnce{Reader: bytes.NewReader(b)}
	r, err := NewReader(src, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Open("d")
	if err != nil {
		t.Fatal(err)
	}
	names, failed := 0, 0
	for call := 0; ; call++ {
		src.fail = call%2 == 0
		list, err := f.(fs.ReadDirFile).ReadDir(100)
		for _, e := range list {
			if e.Name() != fmt.Sprintf("%08d", names) {
				t.Fatalf("%q is number %d", e.Name(), names)
			}
			names++
		}
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if err != nil {
			failed++
		}
	}
	if names != 120*256 || failed < 5 {
		t.Errorf("%d names, %d failures", names, failed)
	}
}

// TestReaderSharedDirectories: directories that are shared at each of 64 levels have 2^64
// paths; the walk must end at the first that is come to twice.
func TestReaderSharedDirectories(t *testing.T) {
	c := &craft{}
	ref := c.dir(2, craftEntry{"f", typeFile, c.file(0, invalidFragment, 0, 0)})
	for i := range uint32(64) {
		ref = c.dir(3+i, craftEntry{"a", typeDir, ref}, craftEntry{"b", typeDir, ref})
	}
	c.rootDir(craftEntry{"d", typeDir, ref})
	if err := readAll(c); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func TestReaderSuperblockHostile(t *testing.T) {
	for name, change := range map[string]func(*superblock){
		"block size":       func(s *superblock) { s.blockSize = 5000 },
		"block log":        func(s *superblock) { s.blockLog = 40 },
		"small blocks":     func(s *superblock) { s.blockLog, s.blockSize = 9, 512 },
		"bytes used":       func(s *superblock) { s.bytesUsed++ },
		"few bytes used":   func(s *superblock) { s.bytesUsed = 50 },
		"many bytes used":  func(s *superblock) { s.bytesUsed = math.MaxUint64 },
		"no ids":           func(s *superblock) { s.ids = 0 },
		"many ids":         func(s *superblock) { s.ids = 65535 },
		"ids missing":      func(s *superblock) { s.ids = 2 },
		"id table":         func(s *superblock) { s.idTable = math.MaxUint64 - 3 },
		"no id table":      func(s *superblock) { s.idTable = invalidBlock },
		"inode table":      func(s *superblock) { s.inodeTable = 0 },
		"no inode table":   func(s *superblock) { s.inodeTable = s.dirTable },
		"order":            func(s *superblock) { s.inodeTable, s.dirTable = s.dirTable, s.inodeTable },
		"directory table":  func(s *superblock) { s.dirTable = s.idTable + 1 },
		"root":             func(s *superblock) { s.root = math.MaxUint64 },
		"root offset":      func(s *superblock) { s.root = 8192 },
		"root block":       func(s *superblock) { s.root = makeRef(1000, 0) },
		"root is a file":   func(s *superblock) { s.root = 0 },
		"fragments":        func(s *superblock) { s.fragments = math.MaxUint32 },
		"fragment table":   func(s *superblock) { s.fragments, s.fragTable = 1, invalidBlock },
		"export table":     func(s *superblock) { s.export = s.idTable - 1 },
		"many inodes":      func(s *superblock) { s.export, s.inodes = s.idTable-8, math.MaxUint32 },
		"xattr table":      func(s *superblock) { s.xattrTable = s.bytesUsed - 3 },
		"xattrs":           func(s *superblock) { s.xattrTable = s.bytesUsed - 16 },
		"options":          func(s *superblock) { s.flags |= flagCompressorOptions },
		"no options there": func(s *superblock) { s.flags |= flagCompressorOptions; s.inodeTable = superblockSize },
	} {
		c := names("a")
		c.data = []byte{0xff, 0xff, 0xff}
		c.change = change
		err := readAll(c)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
	for _, b := range [][]byte{nil, make([]byte, 95), make([]byte, 96), names("a").bytes()[:200]} {
		if _, err := NewReader(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// TestReaderBombs: blocks that expand to more than they may.
func TestReaderBombs(t *testing.T) {
	bomb := zlibOf(make([]byte, 5<<20))
	c := names("a")
	block := zlibOf(make([]byte, metadataSize+1))
	c.inodeBlock = append(put(nil, uint16(len(block))), block...)
	if err := readAll(c); !errors.Is(err, ErrCorrupt) {
		t.Errorf("metadata: %v", err)
	}
	for _, fragment := range []uint32{0, invalidFragment} {
		c := &craft{data: bomb[:4000]}
		c.frags = put(nil, uint64(craftData), uint32(4000), uint32(0))
		c.rootDir(craftEntry{"a", typeFile, c.file(craftData, fragment, 0, 4000, 4000)})
		if err := readAll(c); !errors.Is(err, ErrCorrupt) {
			t.Errorf("fragment %#x: %v", fragment, err)
		}
	}
}

// withXattrs is an image with a file that has the set of xattrs number 0.
func withXattrs(entries []byte, count uint32) *craft {
	c := &craft{xattrs: entries}
	c.xattrIDs = put(nil, uint64(0), count, uint32(0))
	f := c.inode(typeFile+extended, 2, uint64(0), uint64(0), uint64(0), uint32(1), invalidFragment, uint32(0), uint32(0))
	return c.rootDir(craftEntry{"x", typeFile, f})
}

func TestReaderXattrsHostile(t *testing.T) {
	entry := func(typ, size uint16, name string, vsize uint32, value ...byte) []byte {
		return put(nil, typ, size, []byte(name), vsize, value)
	}
	good := entry(0, 1, "a", 3, 1, 2, 3)
	r, err := withXattrs(good, 1).open()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := r.Xattrs("x"); err != nil || string(m["user.a"]) != "\x01\x02\x03" || len(m) != 1 {
		t.Fatalf("%v, %v", m, err)
	}
	// Of unknown namespaces and flags: the kernel passes over those.
	mixed := append(entry(3, 1, "a", 2, 7, 7), append(bytes.Clone(good), append(entry(0x203, 0, "", 0), entry(0x1ff, 1, "a", 8, 255, 255, 255, 255, 255, 255, 255, 255)...)...)...)
	if r, err = withXattrs(mixed, 4).open(); err != nil {
		t.Fatal(err)
	}
	if m, err := r.Xattrs("x"); err != nil || string(m["user.a"]) != "\x01\x02\x03" || len(m) != 1 {
		t.Errorf("with unknown ones: %v, %v", m, err)
	}
	if _, err := Write(t.Context(), discardAt{}, r, Options{}); err != nil {
		t.Errorf("pressed again: %v", err)
	}
	for name, c := range map[string]*craft{
		"unknown, cut":    withXattrs(entry(3, 1, "a", 100), 1),
		"count":           withXattrs(good, math.MaxUint32),
		"name twice":      withXattrs(append(bytes.Clone(good), good...), 2),
		"name size":       withXattrs(entry(0, 65535, "a", 0), 1),
		"value size":      withXattrs(entry(0, 1, "a", math.MaxUint32), 1),
		"value cut off":   withXattrs(entry(0, 1, "a", 65536), 1),
		"reference size":  withXattrs(entry(xattrOutOfLine, 1, "a", 3, 1, 2, 3), 1),
		"reference":       withXattrs(entry(xattrOutOfLine, 1, "a", 8, 0, 0, 0, 1, 0, 0, 0, 0), 1),
		"huge reference":  withXattrs(entry(xattrOutOfLine, 1, "a", 8, 255, 255, 255, 255, 255, 255, 255, 255), 1),
		"set":             withXattrs(good, 1).spoil(func(c *craft) { c.xattrIDs = nil }),
		"set's reference": withXattrs(good, 1).spoil(func(c *craft) { c.xattrIDs[3] = 1 }),
	} {
		err := readAll(c)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
}

// brokenSource fails to read what lies at or after from.
type brokenSource struct {
	*bytes.Reader
	from int64
}

var errBroken = errors.New("broken disk")

func (b brokenSource) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, errBroken
	}
	return b.Reader.ReadAt(p, off)
}

// TestReaderSourceFails: a failing disk is not a corrupt image.
func TestReaderSourceFails(t *testing.T) {
	b := names("a").bytes()
	for from := range int64(len(b)) {
		_, err := NewReader(brokenSource{bytes.NewReader(b), from}, int64(len(b)))
		if !errors.Is(err, errBroken) || errors.Is(err, ErrCorrupt) {
			t.Errorf("from %d: %v", from, err)
		}
	}
}

func TestReaderUnsupported(t *testing.T) {
	for name, c := range map[string]*craft{
		"compression 99":      names("a").spoil(func(c *craft) { c.change = func(s *superblock) { s.algorithm = 99 } }),
		"compression 0":       names("a").spoil(func(c *craft) { c.change = func(s *superblock) { s.algorithm = 0 } }),
		"lz4 format 2":        withOptions(LZ4, uint32(2), uint32(0)),
		"xz dictionary of 1G": withOptions(XZ, uint32(1<<30), uint32(0)),
		"xz dictionary of 3M": withOptions(XZ, uint32(3<<20), uint32(0)),
	} {
		if _, err := c.open(); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(b []byte){
		"squashfs 3.1":   func(b []byte) { b[28], b[30] = 3, 1 },
		"squashfs 4.1":   func(b []byte) { b[30] = 1 },
		"big-endian 3.0": func(b []byte) { copy(b, "sqsh"); b[29], b[28] = 3, 0 },
	} {
		b := names("a").bytes()
		change(b)
		_, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
}

// withOptions is an image with compressor options; the blocks are not compressed.
func withOptions(a Algorithm, fields ...any) *craft {
	c := names("a")
	c.data = stored(put(nil, fields...))
	c.change = func(s *superblock) {
		s.algorithm = a
		s.flags |= flagCompressorOptions
	}
	return c
}

func TestReaderOptionsHostile(t *testing.T) {
	for name, c := range map[string]*craft{
		"xz of 4 bytes":          withOptions(XZ, uint32(8192)),
		"xz dictionary of 0":     withOptions(XZ, uint32(0), uint32(0)),
		"xz dictionary of 5000":  withOptions(XZ, uint32(5000), uint32(0)),
		"xz dictionary of 7·2^n": withOptions(XZ, uint32(7<<13), uint32(0)),
		"lz4 of 4 bytes":         withOptions(LZ4, uint32(1)),
	} {
		if _, err := c.open(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	const most = math.MaxUint32
	for _, test := range []struct {
		c    *craft
		want CompressorOptions
	}{
		{withOptions(Gzip, uint32(most), uint32(most)), CompressorOptions{Strategies: "default,filtered,huffman_only,run_length_encoded,fixed"}},
		{withOptions(Gzip, uint16(1)), CompressorOptions{}},
		{withOptions(Zstd, uint32(most)), CompressorOptions{}},
		{withOptions(LZO, uint32(most), uint32(most)), CompressorOptions{}},
		{withOptions(LZMA, uint32(most)), CompressorOptions{}},
		{withOptions(XZ, uint32(3<<18), uint32(0xc0)), CompressorOptions{DictionarySize: 768 << 10, Filters: "arm64,riscv"}},
		{withOptions(LZ4, uint32(1), uint32(3), uint32(12)), CompressorOptions{HC: true, Level: 12}},
		{withOptions(LZ4, uint32(1), uint32(3), uint32(13)), CompressorOptions{HC: true}},
		{withOptions(LZ4, uint32(1), uint32(3)), CompressorOptions{HC: true}},
		{withOptions(LZ4, uint32(1), uint32(2), uint32(65537)), CompressorOptions{Acceleration: 65537}},
	} {
		r, err := test.c.open()
		if err != nil {
			t.Errorf("%+v: %v", test.want, err)
		} else if got := r.Superblock().Options; got != test.want {
			t.Errorf("%+v, want %+v", got, test.want)
		}
	}
}

// TestReaderSmallCaches reads with caches that hold next to nothing.
func TestReaderSmallCaches(t *testing.T) {
	for _, name := range []string{"gzip", "zstd", "xattr-raw", "index"} {
		r, err := OpenReader("testdata/" + name + ".squashfs")
		if err != nil {
			t.Fatal(err)
		}
		r.meta, r.data = newLRUCache[uint64, *readerMeta](metadataSize+cacheOverhead), newLRUCache[readerBlock, []byte](5000)
		if err := readEverything(r.Reader, 1000, 1<<20); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r.meta.used > r.meta.max || r.data.used > r.data.max {
			t.Errorf("%s: caches hold %d and %d bytes", name, r.meta.used, r.data.used)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestLRUCache(t *testing.T) {
	c := newLRUCache[int, string](3*cacheOverhead + 10)
	for i := range 4 {
		c.add(i, fmt.Sprint(i), 3)
		c.get(0)
	}
	for key, want := range map[int]bool{0: true, 1: false, 2: true, 3: true} {
		if v, ok := c.get(key); ok != want || ok && v != fmt.Sprint(key) {
			t.Errorf("%d: %q, %v", key, v, ok)
		}
	}
	c.add(4, "too large", 2*cacheOverhead+11)
	if _, ok := c.get(4); ok || c.used != 3*cacheOverhead+9 || len(c.items) != 3 {
		t.Errorf("%d bytes, %d items", c.used, len(c.items))
	}
}

// TestReaderLinkXattrs: the set's number comes after the target.
func TestReaderLinkXattrs(t *testing.T) {
	c := &craft{xattrs: put(nil, uint16(1), uint16(1), []byte("a"), uint32(1), []byte("v")), xattrIDs: put(nil, uint64(0), uint32(1), uint32(1))}
	f := c.file(0, invalidFragment, 0, 0)
	l := c.inode(typeSymlink+extended, 3, uint32(1), uint32(1), []byte("f"), uint32(0))
	r, err := c.rootDir(craftEntry{"f", typeFile, f}, craftEntry{"l", typeSymlink, l}).open()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := r.Xattrs("l"); err != nil || string(m["trusted.a"]) != "v" {
		t.Errorf("%v, %v", m, err)
	}
	if m, err := r.Xattrs("f"); err != nil || len(m) != 0 {
		t.Errorf("%v, %v", m, err)
	}
}
