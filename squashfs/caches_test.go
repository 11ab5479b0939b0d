//go:build linux

package squashfs

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// memoryCache is a Cache that counts.
type memoryCache struct {
	mu           sync.Mutex
	blobs        map[[32]byte][]byte
	found, asked int
	saved        int
	forget       float64 // the share of questions that it has no answer to
}

func (c *memoryCache) Load(key [32]byte, buf []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	b, ok := c.blobs[key]
	if !ok || rand.Float64() < c.forget {
		return nil
	}
	c.found++
	return append(buf[:0], b...)
}

func (c *memoryCache) Save(key [32]byte, data ...[]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blobs == nil {
		c.blobs = map[[32]byte][]byte{}
	}
	c.saved++
	c.blobs[key] = slices.Concat(data...)
}

// opened counts the regular files that are opened.
type opened struct {
	XattrFS
	mu    sync.Mutex
	files []string
	lists int
}

func (o *opened) Open(name string) (fs.File, error) {
	f, err := o.XattrFS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		o.mu.Lock()
		o.files = append(o.files, name)
		o.mu.Unlock()
	}
	return f, nil
}
func (o *opened) ReadDir(name string) ([]fs.DirEntry, error) {
	o.lists++
	return fs.ReadDir(o.XattrFS, name)
}
func (o *opened) ReadLink(name string) (string, error)   { return fs.ReadLink(o.XattrFS, name) }
func (o *opened) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(o.XattrFS, name) }

// manyTrees is a tree whose first level is like a store's.
func manyTrees(t testing.TB) testTree {
	tree := newTestTree(t)
	for _, p := range []string{"a", "b", "c"} {
		tree.file(p+"/bin/prog", words(uint64(p[0]), 300_000))
		tree.file(p+"/share/text", words(uint64(p[0])+10, 3000))
		tree.file(p+"/share/alike", edited(words(20, 40_000)))
		tree.file(p+"/noise", random(uint64(p[0]), 200_000))
		tree.file(p+"/empty", nil)
		tree.file(p+"/zeros", make([]byte, 150_000))
		tree.must(os.Symlink("../bin/prog", tree.path(p+"/share/link")))
	}
	tree.file("d", words(3, 5000))
	return tree
}

// The image is the same with caches that are empty, full, forgetful or of another
// build's, and what they have is not read.
func TestCachesChangeNothing(t *testing.T) {
	tree := manyTrees(t)
	fsys := DirFS(tree.dir).(XattrFS)
	for name, opts := range map[string]Options{
		"similar":      {Compression: compression(t, "zstd:3")},
		"directory":    {Compression: compression(t, "lz4"), Order: OrderDirectory},
		"volatile":     {Compression: compression(t, "zstd:3"), Volatile: "a few words"},
		"no fragments": {Compression: compression(t, "gzip:6"), NoFragments: true, MaxModTime: time.Unix(5, 0)},
		"raw":          {Compression: compression(t, "zstd:3"), Raw: []string{"b/bin/prog"}, RawAlign: 2048},
	} {
		t.Run(name, func(t *testing.T) {
			opts.BlockSize = 64 << 10
			want := imageBytes(t, fsys, opts)
			blocks, trees := &memoryCache{}, &memoryCache{}
			opts.Blocks, opts.Trees = blocks, trees
			opts.TreeKey = func(path string) string {
				if strings.Contains(path, "/") {
					return ""
				}
				return "state of " + path
			}
			for _, state := range []string{"empty", "full", "forgetful"} {
				if state == "forgetful" {
					blocks.forget, trees.forget = 0.5, 0.5
				}
				seen := &opened{XattrFS: fsys}
				if !bytes.Equal(imageBytes(t, seen, opts), want) {
					t.Errorf("%s: another image", state)
				}
				if state == "full" {
					checkUnread(t, seen, name)
				}
			}
			// Other options are not answered by what was kept for these.
			other := opts
			other.BlockSize, other.Compression = 128<<10, compression(t, "zstd:1")
			got := imageBytes(t, fsys, other)
			other.Blocks, other.Trees = nil, nil
			if !bytes.Equal(got, imageBytes(t, fsys, other)) {
				t.Error("other options: another image")
			}
		})
	}
}

// checkUnread wants no file to be read but those whose blocks are raw, of which a cache has
// nothing to keep, and no directory but the root.
func checkUnread(t *testing.T, seen *opened, name string) {
	t.Helper()
	if seen.lists != 1 {
		t.Errorf("%d directories were listed", seen.lists)
	}
	for _, f := range seen.files {
		if !strings.HasSuffix(f, "/noise") && (name != "raw" || f != "b/bin/prog") {
			t.Errorf("%s was read", f)
		}
	}
}

// What has hard links, xattrs or warnings is not kept, as it depends on more than itself.
func TestTreesThatAreNotKept(t *testing.T) {
	tree := manyTrees(t)
	tree.must(os.Link(tree.path("a/bin/prog"), tree.path("b/linked")))
	fsys := DirFS(tree.dir).(XattrFS)
	trees := &memoryCache{}
	opts := Options{Compression: compression(t, "zstd:1"), Trees: trees, TreeKey: func(path string) string { return path }}
	want := imageBytes(t, fsys, Options{Compression: opts.Compression})
	for range 2 {
		if !bytes.Equal(imageBytes(t, fsys, opts), want) {
			t.Error("another image")
		}
	}
	seen := &opened{XattrFS: fsys}
	imageBytes(t, seen, opts)
	if !slices.Contains(seen.files, "a/bin/prog") {
		t.Error("a linked file was kept")
	}
	opts.Exclude = func(path string, _ fs.DirEntry) bool { return path == "c/noise" }
	asked := trees.asked
	imageBytes(t, fsys, opts)
	if trees.asked != asked {
		t.Error("a cache of whole trees was asked although files are excluded")
	}
}

// A file that changes although its state was said to be known is an error where it is read.
func TestTreeKeyLies(t *testing.T) {
	tree := fstest.MapFS{"p/file": {Data: words(1, 100_000)}}
	trees := &memoryCache{}
	opts := Options{Trees: trees, TreeKey: func(path string) string { return path }}
	imageBytes(t, tree, opts)
	tree["p/file"] = &fstest.MapFile{Data: words(2, 100_000)}
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := prepare(t, tree, opts).Write(t.Context(), f); err == nil || !strings.Contains(err.Error(), "p/file: the file changed") {
		t.Errorf("got %v", err)
	}
}

// Whatever a cache returns for a tree, nothing worse than an image of it comes of it.
func FuzzKeptTree(f *testing.F) {
	trees := &memoryCache{}
	opts := Options{BlockSize: 4096, Volatile: "e", Trees: trees, TreeKey: func(path string) string { return path }}
	tree := fstest.MapFS{"p/a/file": {Data: words(1, 10_000)}, "p/link": {Data: []byte("a"), Mode: fs.ModeSymlink}, "p/zeros": {Data: make([]byte, 5000)}}
	if _, err := Prepare(f.Context(), tree, opts); err != nil {
		f.Fatal(err)
	}
	for _, b := range trees.blobs {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o := opts
		o.Trees = anyTree(b)
		p, err := Prepare(t.Context(), tree, o)
		if err != nil {
			t.Fatal(err)
		}
		if p.MaxSize() <= 0 {
			t.Errorf("an image of %d bytes", p.MaxSize())
		}
	})
}

// anyTree answers all with the same.
type anyTree []byte

func (a anyTree) Load(_ [32]byte, _ []byte) []byte { return bytes.Clone(a) }
func (a anyTree) Save(_ [32]byte, _ ...[]byte)     {}
