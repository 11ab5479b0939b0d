package squashfs

import (
	"bytes"
	"errors"
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

// FuzzTables changes what the compression hides from the other targets: the
// inodes, directories, fragments and xattrs.
func FuzzTables(f *testing.F) {
	c := &craft{}
	d := c.dir(5, craftEntry{"f", typeFile, c.file(craftData, invalidFragment, 0, 8, 8|blockRaw)})
	l := c.inode(typeSymlink, 3, uint32(1), uint32(3), []byte("d/f"))
	p := c.inode(typeFifo, 4, uint32(1))
	frag := put(nil, uint64(craftData), uint32(40|blockRaw), uint32(0))
	c.rootDir(craftEntry{"d", typeDir, d}, craftEntry{"g", typeFile, c.file(0, 0, 3, 9)}, craftEntry{"l", typeSymlink, l}, craftEntry{"p", typeFifo, p})
	f.Add(c.inodes, c.dirs, frag, []byte{}, []byte{}, uint16(c.root))
	x := withXattrs(put(nil, uint16(0), uint16(1), []byte("a"), uint32(3), []byte("bcd"),
		uint16(1|xattrOutOfLine), uint16(1), []byte("e"), uint32(8), uint64(5)), 2)
	f.Add(x.inodes, x.dirs, []byte{}, x.xattrs, x.xattrIDs, uint16(x.root))
	f.Fuzz(func(t *testing.T, inodes, dirs, frags, xattrs, ids []byte, root uint16) {
		for _, b := range [][]byte{inodes, dirs, frags, xattrs, ids} {
			if len(b) > metadataSize {
				return
			}
		}
		c := &craft{inodes: inodes, dirs: dirs, frags: frags, xattrs: xattrs, xattrIDs: ids, root: inodeRef(root)}
		c.data = []byte(strings.Repeat("some data", 1000))
		checkFuzzed(t, c.bytes())
	})
}
