package squashfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Run the targets with -fuzzminimizetime=10x: shrinking images of 3 KB takes
// all the time otherwise.

// What a fuzz target reads of an image at most: even a small one can say that
// it has thousands of large files.
const (
	fuzzEntries = 500
	fuzzSize    = 256 << 10
)

// fuzzSeeds are the committed images, which testdata/make-images.sh makes.
func fuzzSeeds(f *testing.F) [][]byte {
	f.Helper()
	names, err := filepath.Glob("testdata/*.squashfs")
	if err != nil || len(names) == 0 {
		f.Fatalf("no images: %v", err)
	}
	var seeds [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, b)
	}
	return seeds
}

// checkFuzzed opens and reads an image; what is wrong must be said to be.
func checkFuzzed(t *testing.T, image []byte) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("not said to be corrupt: %v", err)
		}
		return
	}
	err = readEverything(r, fuzzEntries, fuzzSize)
	if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
		t.Errorf("not said to be corrupt: %v", err)
	}
}

// FuzzReader opens, walks and reads an image.
func FuzzReader(f *testing.F) {
	for _, seed := range fuzzSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(checkFuzzed)
}

// FuzzSuperblock changes the superblock only, in front of a good image.
func FuzzSuperblock(f *testing.F) {
	seeds := fuzzSeeds(f)
	for i, seed := range seeds {
		f.Add(uint8(i), seed[:superblockSize])
	}
	f.Fuzz(func(t *testing.T, i uint8, superblock []byte) {
		image := bytes.Clone(seeds[int(i)%len(seeds)])
		copy(image, superblock[:min(len(superblock), superblockSize)])
		checkFuzzed(t, image)
	})
}

// fuzzCraft is an image with an entry of each kind, of nothing that is
// compressed, so that the targets below reach what compression hides.
func fuzzCraft() *craft {
	c := withXattrs(put(nil, uint16(0), uint16(1), []byte("a"), uint32(3), []byte("bcd"),
		uint16(1|xattrOutOfLine), uint16(1), []byte("e"), uint32(8), uint64(5)), 2)
	x := c.root
	c.data = []byte(strings.Repeat("some data", 1000))
	c.frags = put(nil, uint64(craftData), uint32(40|blockRaw), uint32(0))
	entries := []craftEntry{
		{"d", typeDir, c.dir(5, craftEntry{"f", typeFile, c.file(craftData, invalidFragment, 0, 8, 8|blockRaw)})},
		{"e", typeDir, c.indexed(6)},
		{"g", typeFile, c.file(0, 0, 3, 9)},
		{"h", typeFile, c.large(4096 * 8)},
		{"i", typeFile, c.file(craftData, 0, 1, 8200, 4096|blockRaw, 0)},
		{"l", typeSymlink, c.inode(typeSymlink, 3, uint32(1), uint32(3), []byte("d/f"))},
		{"m", typeSymlink, c.inode(typeSymlink+extended, 8, uint32(1), uint32(1), []byte("x"), uint32(0))},
		{"n", typeBlockDev, c.inode(typeBlockDev, 9, uint32(1), uint32(5))},
		{"o", typeCharDev, c.inode(typeCharDev+extended, 10, uint32(1), uint32(5), uint32(0))},
		{"p", typeFifo, c.inode(typeFifo, 4, uint32(1))},
		{"q", typeSocket, c.inode(typeSocket+extended, 11, uint32(1), uint32(0))},
		{"x", typeDir, x},
	}
	return c.rootDir(entries...)
}

// indexed is an extended directory whose listing is over a metadata block, of
// which the index has one entry.
func (c *craft) indexed(number uint32) inodeRef {
	f := c.file(0, invalidFragment, 0, 0)
	at, listing := len(c.dirs), []byte(nil)
	second := 0
	for header := range 2 {
		if header == 1 {
			second = len(listing)
		}
		listing = put(listing, uint32(127), uint32(0), uint32(1))
		for i := range 128 {
			listing = put(listing, f.offset(), int16(0), uint16(typeFile), uint16(27), []byte(strings.Repeat("n", 24)), []byte{'0' + byte(header), 'a' + byte(i>>4), 'a' + byte(i&15), 'z'})
		}
	}
	name := string(listing[second+12+8:][:28])
	c.dirs = append(c.dirs, listing...)
	block, offset := craftPlace(at)
	indexBlock, _ := craftPlace(at + second)
	return c.inode(typeDir+extended, number, uint32(2), uint32(len(listing)+3), block, uint32(1), uint16(1), offset, invalidXattr,
		uint32(second), indexBlock, uint32(len(name)-1), []byte(name))
}

// fuzzable reports whether the parts fit into the metadata blocks of a craft.
func fuzzable(parts ...[]byte) bool {
	for _, b := range parts {
		if len(b) > 2*metadataSize {
			return false
		}
	}
	return true
}

// FuzzTables changes the tables, one and all.
func FuzzTables(f *testing.F) {
	c := fuzzCraft()
	f.Add(c.inodes, c.dirs, c.frags, c.xattrs, c.xattrIDs, uint16(c.root))
	f.Fuzz(func(t *testing.T, inodes, dirs, frags, xattrs, ids []byte, root uint16) {
		if !fuzzable(inodes, dirs, frags, xattrs, ids) {
			return
		}
		c := &craft{inodes: inodes, dirs: dirs, frags: frags, xattrs: xattrs, xattrIDs: ids, root: inodeRef(root), data: c.data}
		checkFuzzed(t, c.bytes())
	})
}

// FuzzInodes changes the inodes only.
func FuzzInodes(f *testing.F) {
	c := fuzzCraft()
	f.Add(c.inodes)
	f.Fuzz(func(t *testing.T, inodes []byte) {
		if fuzzable(inodes) {
			c := fuzzCraft()
			c.inodes = inodes
			checkFuzzed(t, c.bytes())
		}
	})
}

// FuzzDirectories changes the listings only.
func FuzzDirectories(f *testing.F) {
	c := fuzzCraft()
	f.Add(c.dirs)
	f.Fuzz(func(t *testing.T, dirs []byte) {
		if fuzzable(dirs) {
			c := fuzzCraft()
			c.dirs = dirs
			checkFuzzed(t, c.bytes())
		}
	})
}

// FuzzXattrs changes the extended attributes and the list of their sets.
func FuzzXattrs(f *testing.F) {
	c := fuzzCraft()
	f.Add(c.xattrs, c.xattrIDs)
	f.Fuzz(func(t *testing.T, xattrs, ids []byte) {
		if fuzzable(xattrs, ids) {
			c := fuzzCraft()
			c.xattrs, c.xattrIDs = xattrs, ids
			checkFuzzed(t, c.bytes())
		}
	})
}

// TestFuzzCraft: the image that the targets start from is a good one, but for
// the file that lists too few blocks.
func TestFuzzCraft(t *testing.T) {
	r, err := fuzzCraft().open()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = fs.WalkDir(r, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		return readOne(r, name, e, fuzzSize)
	})
	if err != nil || n != 1+12+1+256+1 {
		t.Errorf("%d entries, %v", n, err)
	}
	dir, err := r.resolve("e", false)
	if err != nil {
		t.Fatal(err)
	}
	if marks, err := r.readIndex(dir); err != nil || len(marks) != 1 {
		t.Errorf("%d marks, %v", len(marks), err)
	}
	if _, err := r.Stat("e/" + strings.Repeat("n", 24) + "1ccz"); err != nil {
		t.Error(err)
	}
}
