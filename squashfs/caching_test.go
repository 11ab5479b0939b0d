//go:build linux

package squashfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

// otherOptions change one field each, of all that Options has.
func otherOptions(t *testing.T) map[string]func(o *Options) {
	nothing := func(*Options) {}
	return map[string]func(o *Options){
		"Compression": func(o *Options) { o.Compression = compression(t, "zstd:4") },
		"BlockSize":   func(o *Options) { o.BlockSize = 128 << 10 },
		"Order":       func(o *Options) { o.Order = OrderDirectory },
		"RootOrder": func(o *Options) {
			o.RootOrder = func(name string) Place { return Place{int('z' - name[0]), name} }
		},
		"Volatile":    func(o *Options) { o.Volatile = "a few words" },
		"NoFragments": func(o *Options) { o.NoFragments = true },
		"NoExport":    func(o *Options) { o.NoExport = true },
		"Raw":         func(o *Options) { o.Raw = []string{"a/zeros", "b/bin/prog"} },
		"RawAlign":    func(o *Options) { o.Raw, o.RawAlign = []string{"b/bin/prog"}, 4096 },
		"ModTime":     func(o *Options) { o.ModTime = time.Unix(5, 0) },
		"MaxModTime":  func(o *Options) { o.MaxModTime = time.Unix(5, 0) },
		"AllRoot":     func(o *Options) { o.AllRoot = true },
		"NoHardLinks": func(o *Options) { o.NoHardLinks = true },
		"NoXattrs":    func(o *Options) { o.NoXattrs = true },
		"Exclude": func(o *Options) {
			o.Exclude = func(path string, _ fs.DirEntry) bool { return path == "b/noise" }
		},
		"BlockList": func(o *Options) { o.BlockList = true },
		// These do not change the image.
		"Sketches":  func(o *Options) { o.Sketches = true },
		"Workers":   func(o *Options) { o.Workers = 3 },
		"Memory":    func(o *Options) { o.Memory = 1 << 20 },
		"Blocks":    nothing,
		"Base":      nothing,
		"Trees":     nothing,
		"TreeKey":   nothing,
		"TreeCheck": nothing,
		"Files":     nothing,
		"Progress":  nothing,
		"Warn":      nothing,
		"now":       nothing,
	}
}

// What was kept under some options is not given to others for which it is something else: of one
// cache all get the image that they get without.
func TestOptionsInKeys(t *testing.T) {
	tree := manyTrees(t)
	tree.must(os.Link(tree.path("c/bin/prog"), tree.path("c/linked")))
	tree.must(os.Mkdir(tree.path("e"), 0o755))
	tree.must(unix.Lsetxattr(tree.path("e"), "user.comment", []byte("an attribute"), 0))
	if os.Geteuid() == 0 {
		tree.must(os.Chown(tree.path("a/share"), 5, 6))
	}
	fsys := DirFS(tree.dir).(XattrFS)
	all := otherOptions(t)
	for field := range reflect.TypeFor[Options]().Fields() {
		if all[field.Name] == nil {
			t.Errorf("Options.%s: is what is kept by it in the keys? Say so here", field.Name)
		}
	}
	blocks, trees := &memoryCache{}, &memoryCache{}
	for range 2 {
		for name, change := range all { // in any order
			opts := Options{Compression: compression(t, "zstd:3"), BlockSize: 64 << 10}
			change(&opts)
			want := imageBytes(t, fsys, opts)
			opts.Blocks, opts.Trees, opts.TreeKey = blocks, trees, func(path string) string {
				if strings.Contains(path, "/") {
					return ""
				}
				return path
			}
			if !bytes.Equal(imageBytes(t, fsys, opts), want) {
				t.Errorf("with another %s: another image", name)
			}
		}
	}
	if blocks.found == 0 || trees.found == 0 {
		t.Error("the caches were of no use")
	}
}

// What is in a cache outlives the program that put it there: if this fails, raise treeVersion.
func TestKeptTreeForm(t *testing.T) {
	trees := &memoryCache{}
	opts := Options{BlockSize: 4096, Volatile: "e", Trees: trees, TreeKey: func(path string) string {
		if path != "p" {
			return ""
		}
		return "state"
	}}
	date := time.Unix(7, 0)
	tree := fstest.MapFS{
		"p":        {Mode: fs.ModeDir | 0o755, ModTime: date},
		"p/file":   {Data: words(1, 10_000), Mode: 0o4751, ModTime: date},
		"p/zeros":  {Data: make([]byte, 5000), ModTime: date},
		"p/link":   {Data: []byte("file"), Mode: fs.ModeSymlink | 0o777, ModTime: date},
		"p/pipe":   {Mode: fs.ModeNamedPipe | 0o600, ModTime: date},
		"p/a/none": {ModTime: date},
	}
	prepare(t, tree, opts)
	if len(trees.blobs) != 1 {
		t.Fatalf("%d trees were kept", len(trees.blobs))
	}
	const want = "1967d311148ac3eb"
	for key, b := range trees.blobs {
		sum := sha256.Sum256(append(key[:], b...))
		if got := hex.EncodeToString(sum[:8]); treeVersion != 2 || got != want {
			t.Errorf("version %d: %s, want %s of version 2", treeVersion, got, want)
		}
	}
}

// A block of the base that holds the right content, but is not what was written there, is not taken:
// the image would not be the one that is made without.
func TestBaseWithOtherBytes(t *testing.T) {
	tree := manyTrees(t)
	opts := Options{Compression: compression(t, "zstd:3"), BlockSize: 64 << 10, BlockList: true}
	want := imageBytes(t, DirFS(tree.dir), opts)
	b := bytes.Clone(want)
	for _, at := range openBase(t, want).blocks {
		b[at.pos+4] ^= 1 << 4 // the unused bit of the frame's descriptor (RFC 8878, 3.1.1.1.1)
	}
	opts.Base = openBase(t, b)
	warned := 0
	opts.Warn = func(_, _ string) { warned++ }
	if !bytes.Equal(imageBytes(t, DirFS(tree.dir), opts), want) {
		t.Error("another image")
	}
	if warned != len(opts.Base.blocks) {
		t.Errorf("%d warnings of %d blocks", warned, len(opts.Base.blocks))
	}
}

func TestBaseFits(t *testing.T) {
	tree := manyTrees(t)
	opts := Options{Compression: compression(t, "zstd:3"), BlockSize: 64 << 10, BlockList: true}
	base := openBase(t, imageBytes(t, DirFS(tree.dir), opts))
	for name, change := range otherOptions(t) {
		o := opts
		change(&o)
		if want := name != "Compression" && name != "BlockSize"; base.Fits(o) != want {
			t.Errorf("another %s: %v", name, !want)
		}
	}
	if base.Fits(Options{BlockSize: 5}) {
		t.Error("options that are none")
	}
}
