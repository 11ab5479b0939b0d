//go:build linux

package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

// later is a clock by which the files that a test makes are old.
func later() time.Time { return time.Now().Add(time.Hour) }

// statTree has files of all kinds in directories that are small and large, some with further names.
func statTree(t testing.TB) testTree {
	tree := manyTrees(t)
	for i := range 300 {
		tree.file(fmt.Sprintf("wide/%03d", i), words(uint64(i), 500+i))
	}
	tree.file("a/deep/er/and/deeper", words(77, 1000))
	tree.must(os.Link(tree.path("a/bin/prog"), tree.path("c/linked")))
	tree.must(os.Mkdir(tree.path("void"), 0o755))
	tree.must(unix.Lsetxattr(tree.path("b/noise"), "user.comment", []byte("an attribute"), 0))
	return tree
}

// read are the files that a plan opens.
func read(t *testing.T, fsys XattrFS, opts Options) []string {
	t.Helper()
	seen := &opened{XattrFS: fsys}
	prepare(t, seen, opts)
	slices.Sort(seen.files)
	return seen.files
}

// Files that are as they were are not read for the plan, and the image is the same.
func TestFilesAsTheyWere(t *testing.T) {
	tree := statTree(t)
	fsys := DirFS(tree.dir).(XattrFS)
	for name, opts := range map[string]Options{
		"similar":      {Compression: compression(t, "zstd:3")},
		"directory":    {Compression: compression(t, "lz4")},
		"no fragments": {Compression: compression(t, "gzip:1"), NoFragments: true, NoHardLinks: true},
		"excluded":     {Compression: compression(t, "zstd:1"), Exclude: func(path string, _ fs.DirEntry) bool { return path == "a/bin" || path == "d" }},
		"order": {Compression: compression(t, "zstd:3"), Volatile: "ab", RootOrder: func(name string) Place {
			return Place{Name: string('z' - name[0])}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			opts.BlockSize, opts.now = 64<<10, later
			want := imageBytes(t, fsys, opts)
			cache := &memoryCache{}
			opts.Files = cache
			for _, state := range []string{"cold", "warm", "forgetful"} {
				if state == "forgetful" {
					cache.forget = 0.5
				}
				if !bytes.Equal(imageBytes(t, fsys, opts), want) {
					t.Errorf("%s: another image", state)
				}
				if state == "warm" {
					if files := read(t, fsys, opts); len(files) > 0 {
						t.Errorf("read: %q", files)
					}
				}
			}
		})
	}
}

// tick changes a file until its ctime is another one, which may take a while on a coarse clock.
func tick(t testing.TB, path string, change func()) {
	t.Helper()
	before := ctime(t, path)
	for change(); ctime(t, path) == before; change() {
		time.Sleep(time.Millisecond)
	}
}

func ctime(t testing.TB, path string) unix.Timespec {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ctim
}

// What changes is read again, and nothing else is.
func TestFilesThatChange(t *testing.T) {
	const file = "wide/007"
	for name, c := range map[string]struct {
		change func(tree testTree, path string, date time.Time)
		read   []string
	}{
		"nothing": {func(testTree, string, time.Time) {}, nil},
		"content, with its size and mtime": {func(tree testTree, path string, date time.Time) {
			tree.must(os.WriteFile(path, words(1007, 507), 0o644))
			tree.must(os.Chtimes(path, date, date))
		}, []string{file}},
		"another file with its size and mtime": {func(tree testTree, path string, date time.Time) {
			tree.must(os.WriteFile(path+".new", words(1007, 507), 0o644))
			tree.must(os.Chtimes(path+".new", date, date))
			tree.must(os.Rename(path+".new", path))
		}, []string{file}},
		"size": {func(tree testTree, path string, date time.Time) {
			tree.must(os.WriteFile(path, words(1007, 100), 0o644))
			tree.must(os.Chtimes(path, date, date))
		}, []string{file}},
		"permissions": {func(tree testTree, path string, _ time.Time) {
			tree.must(os.Chmod(path, 0o600))
		}, []string{file}},
		"name": {func(tree testTree, path string, _ time.Time) {
			tree.must(os.Rename(path, tree.path("wide/0061")))
		}, []string{"wide/0061"}},
		"swapped with another": {func(tree testTree, path string, _ time.Time) {
			tree.must(os.Rename(path, tree.path("x")))
			tree.must(os.Rename(tree.path("wide/008"), path))
			tree.must(os.Rename(tree.path("x"), tree.path("wide/008")))
		}, []string{file, "wide/008"}},
		"directory moved": {func(tree testTree, path string, _ time.Time) {
			tree.must(os.Rename(tree.path("wide"), tree.path("e")))
			tree.must(os.Rename(tree.path("e"), tree.path("wide")))
		}, nil},
		"gone": {func(tree testTree, path string, _ time.Time) { tree.must(os.Remove(path)) }, nil},
		"one more": {func(tree testTree, _ string, _ time.Time) {
			tree.file("wide/006a", words(1, 50))
		}, []string{"wide/006a"}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := statTree(t)
			fsys := DirFS(tree.dir).(XattrFS)
			opts := Options{Compression: compression(t, "zstd:1"), BlockSize: 64 << 10, now: later, Files: &memoryCache{}}
			prepare(t, fsys, opts)
			path := tree.path(file)
			info, err := os.Lstat(path)
			tree.must(err)
			switch name {
			case "nothing", "gone", "directory moved", "one more", "name", "swapped with another", "another file with its size and mtime":
				c.change(tree, path, info.ModTime())
			default:
				tick(t, path, func() { c.change(tree, path, info.ModTime()) })
			}
			if got := read(t, fsys, opts); !slices.Equal(got, c.read) {
				t.Errorf("read %q, want %q", got, c.read)
			}
			got := imageBytes(t, fsys, opts) // by what is known after the change
			if opts.Files = nil; !bytes.Equal(got, imageBytes(t, fsys, opts)) {
				t.Error("another image")
			}
		})
	}
}

// stated is a file of a state that the test sets.
func stated(content string, sys Attr) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(content), Sys: &sys}
}

// stateTest presses one file twice, with another content of the same state the second time.
func stateTest(t *testing.T, sys Attr, first time.Time) error {
	t.Helper()
	dir := &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: &Attr{Dev: 1, Inode: 2}}
	opts := Options{Compression: compression(t, "zstd:1"), Files: &memoryCache{}, now: func() time.Time { return first }}
	prepare(t, fstest.MapFS{"d": dir, "d/f": stated("before", sys)}, opts)
	opts.now = func() time.Time { return first.Add(time.Hour) }
	out, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	_, err = Write(t.Context(), out, fstest.MapFS{"d": dir, "d/f": stated("behind", sys)}, opts)
	return err
}

// A file is known by its state only if a change would have shown: a state that is younger than the
// dates of its file system are exact, or that has no such date, is not kept. A change that does not
// show is found where the file is read for the image.
func TestStatesThatAreKept(t *testing.T) {
	date := time.Unix(1_700_000_000, 5)
	file := Attr{Dev: 1, Inode: 3, Mtime: date, Ctime: date}
	without := func(change func(*Attr)) Attr {
		sys := file
		change(&sys)
		return sys
	}
	for name, c := range map[string]struct {
		sys  Attr
		now  time.Time
		kept bool
	}{
		"old":             {file, date.Add(time.Hour), true},
		"just old enough": {file, date.Add(2 * time.Second), true},
		"too young":       {file, date.Add(2*time.Second - 1), false},
		"of this moment":  {file, date, false},
		"of the future":   {file, date.Add(-time.Hour), false},
		"young mtime":     {without(func(a *Attr) { a.Mtime = date.Add(time.Hour) }), date.Add(time.Hour), false},
		"old mtime":       {without(func(a *Attr) { a.Mtime = time.Unix(1, 0) }), date.Add(time.Hour), true},
		"no ctime":        {without(func(a *Attr) { a.Ctime = time.Time{} }), date.Add(time.Hour), false},
		"whole seconds":   {without(func(a *Attr) { a.Ctime = time.Unix(1_700_000_000, 0) }), date.Add(time.Hour), false},
		"no inode":        {without(func(a *Attr) { a.Inode = 0 }), date.Add(time.Hour), false},
	} {
		err := stateTest(t, c.sys, c.now)
		if !c.kept && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.kept && (!errors.Is(err, ErrChanged) || !errors.Is(err, ErrStatCache) || !strings.Contains(err.Error(), "d/f: the file changed")) {
			t.Errorf("%s: %v; want an error of what changed unseen", name, err)
		}
	}
}

// A file that changes while it is read is not known by the state that it had before, nor by the
// one that it has afterwards.
func TestStateWhileRead(t *testing.T) {
	tree := newTestTree(t)
	tree.file("d/f", words(1, 100_000))
	cache := &memoryCache{}
	opts := Options{Compression: compression(t, "zstd:1"), Files: cache, now: later}
	change := func() {
		tick(t, tree.path("d/f"), func() { tree.must(os.Chtimes(tree.path("d/f"), time.Now(), time.Now())) })
	}
	prepare(t, touched{DirFS(tree.dir).(XattrFS), change}, opts)
	if got := read(t, DirFS(tree.dir).(XattrFS), opts); len(got) != 1 {
		t.Error("it was not read again")
	}
	if got := read(t, DirFS(tree.dir).(XattrFS), opts); len(got) != 0 {
		t.Error("it was, once more")
	}
}

// touched changes a file at the end of its reading.
type touched struct {
	XattrFS
	change func()
}

func (f touched) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(f.XattrFS, name) }

func (f touched) Open(name string) (fs.File, error) {
	file, err := f.XattrFS.Open(name)
	return touchedFile{file, f.change}, err
}

type touchedFile struct {
	fs.File
	change func()
}

func (f touchedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	if err != nil {
		f.change()
	}
	return n, err
}

// File systems that are joined number their files alike, and are told apart by device.
func TestStatesOfTwoDevices(t *testing.T) {
	date := time.Unix(1_700_000_000, 5)
	file := func(content string, dev uint64) *fstest.MapFile {
		return stated(content, Attr{Dev: dev, Inode: 7, Mtime: date, Ctime: date})
	}
	dir := func(dev uint64) *fstest.MapFile {
		return &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: &Attr{Dev: dev, Inode: 5}}
	}
	opts := Options{Compression: compression(t, "zstd:1"), Files: &memoryCache{}, now: later}
	one := fstest.MapFS{"a": dir(1), "a/f": file("first", 1), "b": dir(2), "b/f": file("other", 2), "c": file("third", 3)}
	two := fstest.MapFS{"a": dir(2), "a/f": file("other", 2), "b": dir(1), "b/f": file("first", 1), "c": file("forth", 4)}
	for _, tree := range []fstest.MapFS{one, two, one, two} {
		plain := opts
		plain.Files = nil
		if !bytes.Equal(imageBytes(t, tree, opts), imageBytes(t, tree, plain)) {
			t.Error("another image")
		}
	}
}

// wideFS is a directory of n files, which are made up, and of which some have another date.
func wideFS(n int, changed ...int) fstest.MapFS {
	tree := fstest.MapFS{".": {Mode: fs.ModeDir | 0o755, Sys: &Attr{Dev: 1, Inode: 2}}}
	for i := range n {
		date := time.Unix(1_700_000_000, 5)
		if slices.Contains(changed, i) {
			date = date.Add(1)
		}
		tree[fmt.Sprintf("%06d", i)] = stated(fmt.Sprint(i), Attr{Dev: 1, Inode: uint64(i + 10), Mtime: date, Ctime: date})
	}
	return tree
}

// What is known of a large directory lies in blobs of a bounded size, one of which is in memory at a
// time, and of which a change makes few again.
func TestLargeDirectoryKept(t *testing.T) {
	const files = 50_000
	cache := &savedCache{}
	opts := Options{Compression: compression(t, "lz4"), Files: cache, now: later}
	prepare(t, wideFS(files), opts)
	first := cache.sizes
	if len(first) < 3 {
		t.Errorf("%d blobs", len(first))
	}
	for _, size := range first {
		if size > blobSize+1000 {
			t.Errorf("a blob of %d bytes", size)
		}
	}
	cache.sizes = nil
	if prepare(t, wideFS(files), opts); len(cache.sizes) > 0 {
		t.Errorf("%d blobs were saved again", len(cache.sizes))
	}
	if prepare(t, wideFS(files, files/2), opts); len(cache.sizes) != 1 {
		t.Errorf("%d blobs were saved for one file", len(cache.sizes))
	}
}

// savedCache notes what it is given.
type savedCache struct {
	memoryCache
	sizes []int
}

func (c *savedCache) Save(key [32]byte, data ...[]byte) {
	c.memoryCache.Save(key, data...)
	c.sizes = append(c.sizes, len(slices.Concat(data...)))
}

// Small directories share a blob.
func TestSmallDirectories(t *testing.T) {
	tree := newTestTree(t)
	for i := range 800 {
		tree.file(fmt.Sprintf("%d/%d/f", i%40, i), words(uint64(i), 30))
	}
	cache := &savedCache{}
	opts := Options{Compression: compression(t, "zstd:1"), Files: cache, now: later}
	fsys := DirFS(tree.dir).(XattrFS)
	prepare(t, fsys, opts)
	if len(cache.sizes) == 0 || len(cache.sizes) > 20 {
		t.Errorf("%d blobs for 840 directories", len(cache.sizes))
	}
	if got := read(t, fsys, opts); len(got) > 0 {
		t.Errorf("read %d files", len(got))
	}
}

// Whatever a cache returns for a directory, nothing worse than an image of it comes of it.
func FuzzKeptFiles(f *testing.F) {
	date := time.Unix(1_700_000_000, 5)
	dir := func(inode uint64) *fstest.MapFile {
		return &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: &Attr{Dev: 1, Inode: inode}}
	}
	file := func(content []byte, inode uint64) *fstest.MapFile {
		return stated(string(content), Attr{Dev: 1, Inode: inode, Mtime: date, Ctime: date})
	}
	tree := fstest.MapFS{".": dir(2), "a": file(words(1, 10_000), 10), "d": dir(3), "d/e": dir(4), "d/e/f": file([]byte("x"), 11), "z": file(make([]byte, 5000), 12)}
	cache := &memoryCache{}
	opts := Options{BlockSize: 4096, Files: cache, now: later}
	if _, err := Prepare(f.Context(), tree, opts); err != nil {
		f.Fatal(err)
	}
	for _, b := range cache.blobs {
		f.Add(b)
		f.Add(append([]byte{1}, b[1:]...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o := opts
		o.Files = anyTree(b)
		p, err := Prepare(t.Context(), tree, o)
		if err != nil {
			t.Fatal(err)
		}
		if p.MaxSize() <= 0 {
			t.Errorf("an image of %d bytes", p.MaxSize())
		}
	})
}
