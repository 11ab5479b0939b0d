//go:build linux

package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testTree is a directory on the host to make images of.
type testTree struct {
	testing.TB
	dir string
}

func newTestTree(t testing.TB) testTree {
	t.Helper()
	return testTree{t, t.TempDir()}
}

func (t testTree) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t testTree) path(name string) string { return filepath.Join(t.dir, name) }

func (t testTree) file(name string, data []byte) string {
	t.Helper()
	p := t.path(name)
	t.must(os.MkdirAll(filepath.Dir(p), 0o755))
	t.must(os.WriteFile(p, data, 0o644))
	return p
}

// random is incompressible, text is not; both differ by seed.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	_, _ = src.Read(b)
	return b
}

func text(seed uint64, n int) []byte {
	var b bytes.Buffer
	for i := uint64(0); b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of text %d\n", i, seed)
	}
	return b.Bytes()[:n]
}

// ownProgram is a part of the running test's code, on which xz's filters pay.
func ownProgram(t testing.TB) []byte {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b[1<<20:][:300_001]
}

// contents makes regular files around the sizes where the format changes, and
// with holes.
func (t testTree) contents() {
	t.Helper()
	for i, n := range []int{0, 1, 10, 4095, 4096, 4097, 8192, 100_000, 131071, 131072, 131073, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 12345} {
		t.file(fmt.Sprintf("content/text-%d", n), text(uint64(i), n))
	}
	for i, n := range []int{1, 100, 4095, 4096, 4097, 131072, 131073, 1<<20 + 77} {
		t.file(fmt.Sprintf("content/random-%d", n), random(uint64(i), n))
	}
	t.file("content/program", ownProgram(t))
	t.file("content/zeros", make([]byte, 2<<20+77))
	holes := random(99, 4<<20+5)
	clear(holes[1<<18 : 2<<20])
	clear(holes[2<<20+5000:])
	t.file("content/holes", holes)
	t.file("content/copy-of-text", text(8, 131071))
}

// names makes directories and names of all kinds.
func (t testTree) names() {
	t.Helper()
	t.must(os.MkdirAll(t.path("empty/a/b/c/d/e/f/g"), 0o711))
	t.file("names/"+strings.Repeat("n", 255), []byte("long"))
	t.file("names/"+strings.Repeat("d", 255)+"/"+strings.Repeat("ü", 127), []byte("longer"))
	t.file("names/with space and \"quotes\"", []byte("odd"))
	for i := range 700 {
		t.file(fmt.Sprintf("many/file-number-%d", i), []byte(fmt.Sprint(i)))
	}
}

// links makes symbolic and hard links.
func (t testTree) links() {
	t.Helper()
	t.file("links/target", []byte("target"))
	for name, target := range map[string]string{
		"links/relative": "target", "links/absolute": "/links/target", "links/up": "../../../links/target",
		"links/dir": "../names", "links/chain": "relative", "links/self": "self", "links/dangling": "nowhere",
		"links/long": strings.Repeat("./", 1500) + "target",
	} {
		t.must(os.Symlink(target, t.path(name)))
	}
	t.must(os.Link(t.path("links/target"), t.path("links/hard")))
	t.must(os.Link(t.path("links/target"), t.path("empty/hard")))
}

// attributes sets modes and dates, and, where the tests may, owners.
func (t testTree) attributes() {
	t.Helper()
	for i, mode := range []fs.FileMode{0o600, 0o000, 0o755 | fs.ModeSetuid, 0o755 | fs.ModeSetgid, 0o777 | fs.ModeSticky} {
		p := t.file(fmt.Sprintf("modes/%d", i), []byte("x"))
		t.must(os.Chmod(p, mode))
		date := time.Unix(int64(i)*1_000_000_000, 0)
		t.must(os.Chtimes(p, date, date))
		if os.Getuid() == 0 {
			t.must(os.Chown(p, 1000*i, 70_000*i))
			t.must(os.Chmod(p, mode)) // chown took setuid away
		}
	}
}

// owners makes more owners than a metadata block has ids, where the tests may.
func (t testTree) owners() {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	for i := range 2100 {
		p := t.file(fmt.Sprintf("owners/%d", i), nil)
		t.must(os.Chown(p, 100_000+i, 1_000_000*(i%4+1)))
	}
}

// xattrs sets extended attributes, and reports whether it could.
func (t testTree) xattrs() bool {
	t.Helper()
	shared := bytes.Repeat([]byte("a long value that two files share"), 30)
	set := func(name, attr string, value []byte) bool {
		err := syscall.Setxattr(t.path(name), attr, value, 0)
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) {
			t.Logf("%s of %s: %v", attr, name, err)
			return false
		}
		t.must(err)
		return true
	}
	for i := range 5 {
		t.file(fmt.Sprintf("xattrs/%d", i), text(uint64(i), 5000*i))
	}
	if !set("xattrs/0", "user.one", []byte("1")) {
		return false
	}
	set("xattrs/1", "user.one", []byte("1"))
	set("xattrs/2", "user.shared", shared)
	set("xattrs/3", "user.shared", shared)
	set("xattrs/3", "user.other", []byte("2"))
	set("xattrs", "user.dir", []byte("of a directory"))
	for i := range 700 { // sets and values of more than a metadata block each
		name := fmt.Sprintf("xattrs/many/%d", i)
		t.file(name, nil)
		set(name, fmt.Sprintf("user.name-%d", i%13), fmt.Appendf(bytes.Repeat([]byte("v"), 100), "%d", i))
		set(name, "user.shared", shared)
	}
	if os.Getuid() == 0 {
		set("xattrs/4", "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		set("xattrs/4", "trusted.t", random(1, 200))
	}
	return true
}

// special makes a pipe and a socket.
func (t testTree) special() {
	t.Helper()
	t.must(os.MkdirAll(t.path("special"), 0o755))
	t.must(syscall.Mkfifo(t.path("special/pipe"), 0o640))
	t.must(syscall.Mknod(t.path("special/socket"), syscall.S_IFSOCK|0o600, 0))
}

func (t testTree) all() testTree {
	t.Helper()
	t.contents()
	t.names()
	t.links()
	t.attributes()
	t.owners()
	t.xattrs()
	t.special()
	t.file("odd/back\\slash", nil)
	t.file("odd/not UTF-8 \xff", []byte("bytes"))
	return t
}

// mksquashfs makes an image of the tree.
func (t testTree) mksquashfs(args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image.squashfs")
	runTool(t.TB, "mksquashfs", append([]string{t.dir, image, "-noappend", "-quiet", "-no-progress", "-processors", "1"}, args...)...)
	return image
}

// gensquashfs makes an image of the tree with squashfs-tools-ng.
func (t testTree) gensquashfs(args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image.squashfs")
	runTool(t.TB, "gensquashfs", append([]string{"-D", t.dir, "-q", "-k", "-x", "-j", "1", image}, args...)...)
	return image
}

// openImage opens an image for the length of the test.
func openImage(t testing.TB, name string) *ReadCloser {
	t.Helper()
	r, err := OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// same compares the whole tree with an image of it. Not linked means that the
// image has a file for each name, as gensquashfs makes.
func (t testTree) same(r *Reader, linked bool) {
	t.Helper()
	names := map[string]bool{}
	t.must(filepath.WalkDir(t.dir, func(p string, _ fs.DirEntry, err error) error {
		t.must(err)
		name, err := filepath.Rel(t.dir, p)
		t.must(err)
		names[name] = true
		t.sameFile(r, name, linked)
		return nil
	}))
	t.must(fs.WalkDir(r, ".", func(name string, _ fs.DirEntry, err error) error {
		t.must(err)
		if !names[name] {
			t.Errorf("%s is in the image only", name)
		}
		return nil
	}))
}

func (t testTree) sameFile(r *Reader, name string, linked bool) {
	t.Helper()
	want, err := os.Lstat(t.path(name))
	t.must(err)
	got, err := r.Lstat(name)
	if err != nil {
		t.Error(err)
		return
	}
	if name != "." && got.Name() != want.Name() {
		t.Errorf("%s: name %q", name, got.Name())
	}
	if got.Mode() != want.Mode() && name != "." {
		t.Errorf("%s: mode %v, want %v", name, got.Mode(), want.Mode())
	}
	if got.ModTime().Unix() != want.ModTime().Unix() && name != "." {
		t.Errorf("%s: date %v, want %v", name, got.ModTime(), want.ModTime())
	}
	st, attr := want.Sys().(*syscall.Stat_t), got.Sys().(*Attr)
	if attr.UID != st.Uid || attr.GID != st.Gid {
		t.Errorf("%s: owner %d:%d, want %d:%d", name, attr.UID, attr.GID, st.Uid, st.Gid)
	}
	if linked && !want.IsDir() && uint64(attr.Nlink) != uint64(st.Nlink) {
		t.Errorf("%s: %d links, want %d", name, attr.Nlink, st.Nlink)
	}
	switch want.Mode().Type() {
	case 0:
		data, err := os.ReadFile(t.path(name))
		t.must(err)
		t.sameContent(r, name, data)
	case fs.ModeSymlink:
		target, err := os.Readlink(t.path(name))
		t.must(err)
		if got, err := r.ReadLink(name); got != target || err != nil {
			t.Errorf("%s: target %q, %v, want %q", name, got, err, target)
		}
	}
	t.sameXattrs(r, name)
}

func (t testTree) sameContent(r *Reader, name string, want []byte) {
	t.Helper()
	got, err := r.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: ReadFile: %d bytes, %v, want %d", name, len(got), err, len(want))
	}
	f, err := r.Open(name)
	t.must(err)
	var b bytes.Buffer
	n, err := f.(*readerFile).WriteTo(&b)
	if err != nil || n != int64(len(want)) || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s: WriteTo: %d bytes, %v", name, n, err)
	}
	t.must(f.Close())
}

func (t testTree) sameXattrs(r *Reader, name string) {
	t.Helper()
	got, err := r.Xattrs(name)
	t.must(err)
	var buf [4096]byte
	if info, err := os.Lstat(t.path(name)); err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return // syscall.Listxattr follows links
	}
	n, err := syscall.Listxattr(t.path(name), buf[:])
	t.must(err)
	attrs := strings.FieldsFunc(string(buf[:n]), func(c rune) bool { return c == 0 })
	if len(attrs) != len(got) {
		t.Errorf("%s: %d xattrs, want %q", name, len(got), attrs)
	}
	for _, attr := range attrs {
		n, err := syscall.Getxattr(t.path(name), attr, buf[:])
		t.must(err)
		if value, ok := got[attr]; !ok || string(value) != string(buf[:n]) {
			t.Errorf("%s: %s is %q, want %q", name, attr, value, buf[:n])
		}
	}
}
