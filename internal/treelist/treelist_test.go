//go:build linux

package treelist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeTree makes a tree with all that an unprivileged user can make.
func makeTree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(root+"/dir/deep", 0o755))
	must(os.WriteFile(root+"/dir/file", []byte("123456789"), 0o644))
	must(os.WriteFile(root+"/dir.file", nil, 0o600))
	must(os.WriteFile(root+"/dir/new\nline \"quoted\" \xff", []byte("x"), 0o644))
	must(os.Chmod(root+"/dir/file", 0o755|os.ModeSetuid))
	must(os.Link(root+"/dir/file", root+"/hard"))
	must(os.Symlink("dir/file with space", root+"/sym"))
	must(unix.Mkfifo(root+"/pipe", 0o644))
	must(filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		ts := []unix.Timespec{{Sec: 1}, {Sec: 1}}
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW))
	}))
	return root
}

func list(t *testing.T, root string, o Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, root, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	got := list(t, makeTree(t), Options{AllRoot: true, Hardlinks: true})
	want := `# treelist 1 all-root hardlinks
"." t=d m=0755 u=0 g=0 d=1
"dir" t=d m=0755 u=0 g=0 d=1
"dir/deep" t=d m=0755 u=0 g=0 d=1
"dir/file" t=f m=4755 u=0 g=0 d=1 n=2 s=9 h=995dc9bbdf1939fa
"dir/new\nline \"quoted\" \xff" t=f m=0644 u=0 g=0 d=1 n=1 s=1 h=0a16eef883efae45
"dir.file" t=f m=0600 u=0 g=0 d=1 n=1 s=0 h=0000000000000000
"hard" t=f m=4755 u=0 g=0 d=1 n=2 s=9 h=995dc9bbdf1939fa
"pipe" t=p m=0644 u=0 g=0 d=1 n=1
"sym" t=l m=0777 u=0 g=0 d=1 n=1 l="dir/file with space"
# 9 entries
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestXattrs(t *testing.T) {
	root := makeTree(t)
	if err := unix.Lsetxattr(root+"/dir/file", "user.b c", []byte{0, 255}, 0); err != nil {
		t.Skip(err) // not on every file system
	}
	if err := unix.Lsetxattr(root+"/dir/file", "user.a", bytes.Repeat([]byte("v"), 1000), 0); err != nil {
		t.Fatal(err)
	}
	want := ` x=user.a:` + strings.Repeat("76", 1000) + ` x="user.b c":00ff h=`
	if got := list(t, root, Options{}); !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	if got := list(t, root, Options{NoXattrs: true}); strings.Contains(got, " x=") {
		t.Errorf("attributes in\n%s", got)
	}
}

func TestWriteAllEqualsOneTree(t *testing.T) {
	root := makeTree(t)
	names := []string{"sym", "dir.file", "dir", "pipe", "hard"}
	var paths []string
	for _, n := range names {
		paths = append(paths, filepath.Join(root, n))
	}
	var b bytes.Buffer
	if err := WriteAll(&b, StorePaths(paths), Options{Hardlinks: true}); err != nil {
		t.Fatal(err)
	}
	if want := list(t, root, Options{Hardlinks: true, NoRoot: true}); b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestDiff(t *testing.T) {
	root := makeTree(t)
	before := list(t, root, Options{})
	if d, n, entries, err := Diff(strings.NewReader(before), strings.NewReader(before), 10); n != 0 || entries != 9 || err != nil {
		t.Fatalf("of equal listings: %q, %d, %d, %v", d, n, entries, err)
	}
	for _, err := range []error{
		os.Remove(root + "/dir/deep"),
		os.WriteFile(root+"/dir/g", nil, 0o644),
		os.WriteFile(root+"/dir.file", []byte("1"), 0),
		os.Chmod(root+"/dir.file", 0o644),
		os.Remove(root + "/pipe"),
		os.Symlink("x", root+"/pipe"),
		unix.UtimesNanoAt(unix.AT_FDCWD, root+"/pipe", []unix.Timespec{{Sec: 1}, {Sec: 1}}, unix.AT_SYMLINK_NOFOLLOW),
		os.Chtimes(root+"/dir.file", time.Time{}, time.Unix(1, 0)),
		os.Chtimes(root+"/dir", time.Time{}, time.Unix(1, 0)),
		os.Chtimes(root+"/dir/g", time.Time{}, time.Unix(1, 0)),
		os.Chtimes(root, time.Time{}, time.Unix(2, 0)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, n, _, err := Diff(strings.NewReader(before), strings.NewReader(list(t, root, Options{})), 5)
	want := []string{
		`differs ".": d=1 -> 2`,
		`missing "dir/deep"`,
		`not expected "dir/g"`,
		`differs "dir.file": m=0600 -> 0644, s=0 -> 1, h=0000000000000000 -> ` + field(t, root, "dir.file", "h"),
		`differs "pipe": t=p -> l, m=0644 -> 0777, none -> l="x"`,
	}
	if !slices.Equal(got, want) || n != 5 || err != nil {
		t.Errorf("%d, %v\ngot  %q\nwant %q", n, err, got, want)
	}
}

func field(t *testing.T, root, name, key string) string {
	t.Helper()
	for line := range strings.Lines(list(t, root, Options{})) {
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("%q ", name)); ok {
			_, v, _ := strings.Cut(rest, " "+key+"=")
			return strings.Fields(v)[0]
		}
	}
	t.Fatalf("no %s", name)
	return ""
}

func TestDiffLimit(t *testing.T) {
	root := makeTree(t)
	empty := t.TempDir()
	got, n, _, err := Diff(strings.NewReader(list(t, root, Options{NoRoot: true})), strings.NewReader(list(t, empty, Options{NoRoot: true})), 3)
	if len(got) != 3 || n != 8 || err != nil {
		t.Errorf("%q, %d, %v", got, n, err)
	}
}

func TestDiffErrors(t *testing.T) {
	whole := list(t, makeTree(t), Options{})
	lines := strings.SplitAfter(whole, "\n")
	for name, bad := range map[string]string{
		"empty":           "",
		"cut at a line":   strings.Join(lines[:4], ""),
		"cut in a line":   whole[:len(whole)/2],
		"wrong number":    strings.Replace(whole, "# 9", "# 8", 1),
		"not an entry":    lines[0] + "hello\n",
		"other options":   strings.Replace(whole, "# treelist 1", "# treelist 1 all-root", 1),
		"without its end": strings.TrimSuffix(whole, "\n"),
	} {
		for _, swap := range []bool{false, true} {
			a, b := whole, bad
			if swap {
				a, b = b, a
			}
			if _, _, _, err := Diff(strings.NewReader(a), strings.NewReader(b), 10); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
}

func TestHeader(t *testing.T) {
	for _, o := range []Options{{}, {AllRoot: true}, {true, true, true, true, true}} {
		if got, err := ParseHeader(o.header() + "\n"); got != o || err != nil {
			t.Errorf("%+v: %+v, %v", o, got, err)
		}
	}
	for _, bad := range []string{"", "# treelist", "# treelist 1 nonsense"} {
		if _, err := ParseHeader(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestComparePaths(t *testing.T) {
	want := []string{".", ".a", "a", "a/b", "a/b/c", "a.b", "a0", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, comparePaths)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestErrors(t *testing.T) {
	if err := Write(io.Discard, t.TempDir()+"/none", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
	if err := Write(failing{}, makeTree(t), Options{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("err = %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func FuzzDiff(f *testing.F) {
	f.Add("# treelist 1\n\"a\" t=f\n# 1 entries\n", "# treelist 1\n\"b\" t=f\n# 1 entries\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		_, _, _, _ = Diff(strings.NewReader(a), strings.NewReader(b), 5)
	})
}

func BenchmarkChecksum(b *testing.B) {
	file := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 8<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	l := &lister{buf: make([]byte, 256<<10)}
	b.SetBytes(8 << 20)
	for b.Loop() {
		if _, err := l.checksum(file, 8<<20); err != nil {
			b.Fatal(err)
		}
	}
}
