//go:build linux

package squashfs

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The tree may be named by a symbolic link: its root is what that leads to.
func TestRootByLink(t *testing.T) {
	tree := newTestTree(t)
	tree.file("tree/file", []byte("x"))
	if err := unix.Setxattr(tree.path("tree"), "user.root", []byte("kept"), 0); errors.Is(err, unix.ENOTSUP) {
		t.Skip("no user xattrs here")
	} else {
		tree.must(err)
	}
	tree.must(os.Symlink("tree", tree.path("link")))
	want := imageBytes(t, DirFS(tree.path("tree")), Options{})
	if got := imageBytes(t, DirFS(tree.path("link")), Options{}); !slices.Equal(got, want) {
		t.Error("another image by way of the link")
	}
	image, _ := writeImage(t, DirFS(tree.path("link")), Options{})
	if x, err := openImage(t, image).Xattrs("."); err != nil || string(x["user.root"]) != "kept" {
		t.Errorf("xattrs of the root: %q, %v", x, err)
	}
	// Any other link is what it is.
	tree.must(os.Symlink("tree", tree.path("other")))
	if x, err := DirFS(tree.dir).(XattrFS).Xattrs("other"); err != nil || x["user.root"] != nil {
		t.Errorf("xattrs of a link: %q, %v", x, err)
	}
}

func TestReadXattrs(t *testing.T) {
	answer := func(value string, b []byte) (int, error) {
		if b != nil && len(b) < len(value) {
			return 0, unix.ERANGE
		}
		return max(copy(b, value), len(value)), nil
	}
	list := func(names ...string) func([]byte) (int, error) {
		return func(b []byte) (int, error) { return answer(strings.Join(names, "\x00")+"\x00", b) }
	}
	get := func(attr string, b []byte) (int, error) {
		switch attr {
		case "user.gone":
			return 0, unix.ENODATA
		case "user.broken", "system.broken":
			return 0, unix.EIO
		}
		return answer("value of "+attr, b)
	}
	x, err := readXattrs("file", list("user.a", "user.gone", "system.broken", "security.b"), get)
	if names := slices.Sorted(maps.Keys(x)); err != nil || !slices.Equal(names, []string{"security.b", "system.broken", "user.a"}) ||
		string(x["user.a"]) != "value of user.a" || x["system.broken"] != nil {
		t.Errorf("%q, %v", x, err)
	}
	if _, err := readXattrs("file", list("user.broken"), get); !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "getxattr user.broken file") {
		t.Errorf("a value that cannot be read: %v", err)
	}
	none := func([]byte) (int, error) { return 0, unix.ENOTSUP }
	if x, err := readXattrs("file", none, get); x != nil || err != nil {
		t.Errorf("no xattrs here: %q, %v", x, err)
	}
}
