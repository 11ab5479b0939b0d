//go:build linux

package squashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/isopress/isopress/internal/guesttest"
	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/internal/treelist"
)

// joined shows file systems as directories of one.
type joined map[string]fs.FS

func (j joined) at(name string) (fs.FS, string) {
	dir, rest, ok := strings.Cut(name, "/")
	if !ok {
		rest = "."
	}
	if fsys := j[dir]; fsys != nil {
		return fsys, rest
	}
	root := fstest.MapFS{}
	for dir := range j {
		root[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	}
	return root, name
}

func (j joined) Open(name string) (fs.File, error) {
	fsys, name := j.at(name)
	return fsys.Open(name)
}

func (j joined) ReadDir(name string) ([]fs.DirEntry, error) {
	fsys, name := j.at(name)
	return fs.ReadDir(fsys, name)
}

// Files of two images have the same numbers, dates and sizes; they are still two.
func TestLinksOfTwoImages(t *testing.T) {
	images := joined{}
	for _, dir := range []string{"a", "b"} {
		link := &fstest.MapFile{Data: []byte("image " + dir), Mode: 0o644, Sys: &Attr{Inode: 7, Nlink: 2}}
		image, _ := writeImage(t, fstest.MapFS{"x": link, "y": link}, Options{})
		images[dir] = openImage(t, image).Reader
	}
	image, res := writeImage(t, images, Options{})
	if res.Files != 2 {
		t.Errorf("%d files, want 2", res.Files)
	}
	r := openImage(t, image)
	for _, name := range []string{"a/x", "a/y", "b/x", "b/y"} {
		if b, err := fs.ReadFile(r, name); err != nil || string(b) != "image "+name[:1] {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
		if info, err := r.Lstat(name); err != nil || info.Sys().(*Attr).Nlink != 2 {
			t.Errorf("%s: %v, %v; want 2 names", name, info, err)
		}
	}
}

func TestLinksByDevice(t *testing.T) {
	file := func(dev uint64) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte{byte(dev)}, Sys: &Attr{Inode: 7, Dev: dev, Nlink: 2}}
	}
	_, res := writeImage(t, fstest.MapFS{"a": file(1), "b": file(2), "c": file(1)}, Options{})
	if res.Files != 2 {
		t.Errorf("%d files, want 2: one of two names, and one on another device", res.Files)
	}
}

// Names that are said to be of one file must show the same one.
func TestLinksThatDiffer(t *testing.T) {
	same := &Attr{Inode: 7, Nlink: 2}
	first := fstest.MapFile{Data: []byte("x"), Mode: 0o644, ModTime: time.Unix(1000, 0), Sys: same}
	for want, change := range map[string]func(*fstest.MapFile){
		"":           func(*fstest.MapFile) {},
		"its mode":   func(f *fstest.MapFile) { f.Mode = 0o600 },
		"its mode ":  func(f *fstest.MapFile) { f.Mode |= fs.ModeNamedPipe },
		"its size":   func(f *fstest.MapFile) { f.Data = []byte("xy") },
		"its date":   func(f *fstest.MapFile) { f.ModTime = time.Unix(1001, 0) },
		"no inode":   func(f *fstest.MapFile) { f.Data, f.Sys = []byte("xy"), &Attr{Nlink: 2} },
		"other name": func(f *fstest.MapFile) { f.Data, f.Sys = []byte("xy"), &Attr{Inode: 8, Nlink: 2} },
	} {
		second := first
		change(&second)
		_, err := Prepare(t.Context(), fstest.MapFS{"d/a": &first, "d/b": &second}, Options{})
		if !strings.HasPrefix(want, "its") {
			if err != nil {
				t.Errorf("%q: %v", want, err)
			}
			continue
		}
		if s := fmt.Sprint(err); !strings.HasPrefix(s, "squashfs: d/b: said to be one file with d/a,") ||
			!strings.Contains(s, want) {
			t.Errorf("%q: error %v", want, err)
		}
		if _, err := Prepare(t.Context(), fstest.MapFS{"d/a": &first, "d/b": &second}, Options{NoHardLinks: true}); err != nil {
			t.Errorf("%q without hard links: %v", want, err)
		}
	}
}

// The longest target is one that Linux makes and follows.
func TestLongestTarget(t *testing.T) {
	link := func(n int) fs.FS {
		return fstest.MapFS{"l": {Mode: fs.ModeSymlink | 0o777, Data: []byte(strings.Repeat("x/", n)[:n])}}
	}
	image, _ := writeImage(t, link(maxWrittenTarget), Options{})
	if target, err := openImage(t, image).ReadLink("l"); err != nil || len(target) != 4095 {
		t.Errorf("a target of %d bytes, %v", len(target), err)
	}
	for _, n := range []int{0, 4096, 4097, 65535} {
		if _, err := Prepare(t.Context(), link(n), Options{}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("target of %d bytes: %v", n, err)
		}
	}
	if testing.Short() {
		return // the long run boots a guest
	}
	testenv.NeedRoot(t)
	tree := newTestTree(t)
	tree.must(os.Symlink(strings.Repeat("x/", 2048)[:4095], tree.path("l")))
	image, _ = writeImage(t, DirFS(tree.dir), Options{})
	guesttest.CheckSquashfsTree(t, image, tree.dir, treelist.Options{})
}
