package squashfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"runtime"
	"testing"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// largeBlocks has the image say that it has blocks of 1 MiB.
func (c *craft) largeBlocks() *craft {
	c.change = func(s *superblock) { s.blockLog, s.blockSize = maxBlockLog, MaxBlockSize }
	return c
}

// bombs are images of a few KB, but for the xattrs, that hold or claim much more
// than they may.
func bombs() map[string]*craft {
	zeros := func(n int) []byte { return zlibOf(make([]byte, n)) }
	metadata := names("a")
	block := zeros(1 << 20)
	metadata.inodeBlock = append(put(nil, uint16(len(block))), block...)

	data := &craft{data: zeros(5 << 20)}
	data.rootDir(craftEntry{"a", typeFile, data.file(craftData, invalidFragment, 0, MaxBlockSize, uint32(len(data.data)))})

	fragment := &craft{data: zeros(5 << 20)}
	fragment.frags = put(nil, uint64(craftData), uint32(len(fragment.data)), uint32(0))
	fragment.rootDir(craftEntry{"a", typeFile, fragment.file(0, 0, 0, 4000)})

	size := &craft{}
	size.rootDir(craftEntry{"a", typeFile, size.large(math.MaxInt64)})

	sizes := &craft{data: []byte{1}}
	words := make([]uint32, 1800)
	for i := range words {
		words[i] = MaxBlockSize
	}
	sizes.rootDir(craftEntry{"a", typeFile, sizes.file(craftData, invalidFragment, 0, uint32(len(words))<<maxBlockLog, words...)})

	link := &craft{}
	link.rootDir(craftEntry{"a", typeSymlink, link.inode(typeSymlink, 2, uint32(1), uint32(math.MaxUint32))})

	value := put(nil, uint16(0), uint16(1), []byte("v"), uint32(readerMaxXattr), make([]byte, readerMaxXattr))
	count := uint32(1)
	for i := range uint16(500) {
		value = put(value, uint16(xattrOutOfLine), uint16(2), i, uint32(8), uint64(5))
		count++
	}
	return map[string]*craft{
		"metadata": metadata, "data": data, "fragment": fragment, "size": size, "sizes": sizes,
		"target": link, "values": withXattrs(value, count),
		"xattrs":    withXattrs(nil, math.MaxUint32).spoil(func(c *craft) { c.xattrs = []byte{0} }),
		"fragments": names("a").spoil(func(c *craft) { c.change = func(s *superblock) { s.fragments = math.MaxUint32 } }),
		"inodes": names("a").spoil(func(c *craft) {
			c.change = func(s *superblock) { s.export, s.inodes = s.fragTable+8, math.MaxUint32 }
		}),
	}
}

// TestReaderMemory opens and reads the bombs: each must give an error, and all
// that is allocated in doing so is a few blocks' worth.
func TestReaderMemory(t *testing.T) {
	const most = 8 * MaxBlockSize
	for name, c := range bombs() {
		if c.change == nil {
			c.largeBlocks()
		}
		image := c.bytes()
		var err error
		taken := allocated(func() { err = readAllOf(image) })
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if taken > most {
			t.Errorf("%s: an image of %d bytes has us allocate %d", name, len(image), taken)
		}
		t.Logf("%s: %d bytes allocated: %.200v", name, taken, err)
	}
}

// readAllOf uses all of the reader's methods on each file of an image.
func readAllOf(image []byte) error {
	r, err := NewReader(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return err
	}
	var all error
	_ = fs.WalkDir(r, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			all = errors.Join(all, err)
			return nil
		}
		_, statErr := r.Stat(name)
		_, xattrErr := r.Xattrs(name)
		_, readErr := r.ReadFile(name)
		all = errors.Join(all, statErr, xattrErr, readErr)
		f, err := r.Open(name)
		if err != nil {
			all = errors.Join(all, err)
			return nil
		}
		defer f.Close()
		if r, ok := f.(io.ReaderAt); ok {
			_, err = r.ReadAt(make([]byte, 100), 0)
			_, farErr := r.ReadAt(make([]byte, 100), math.MaxInt64/2)
			_, copyErr := io.Copy(io.Discard, f)
			all = errors.Join(all, err, farErr, copyErr)
		}
		return nil
	})
	return all
}

// TestReaderCacheOverhead: entries of next to nothing are not free.
func TestReaderCacheOverhead(t *testing.T) {
	c := newLRUCache[int, []byte](1 << 20)
	for i := range 100_000 {
		c.add(i, []byte{1}, 1)
	}
	if n := len(c.items); n > 1<<20/cacheOverhead {
		t.Errorf("%d entries of a byte", n)
	}
}
