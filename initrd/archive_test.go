package initrd

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/isopress/isopress/internal/testenv"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pack(t *testing.T, a *Archive, opts Options) []byte {
	t.Helper()
	var buf bytes.Buffer
	check(t, a.Write(context.Background(), &buf, opts))
	return buf.Bytes()
}

func plain(t *testing.T, a *Archive) []byte { return pack(t, a, Options{Compression: "none"}) }

// list reads an archive as one line an entry.
func list(t *testing.T, archive []byte) []string {
	t.Helper()
	var lines []string
	for r := cpio.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return lines
		}
		check(t, err)
		content := h.Linkname
		if content == "" {
			b, err := io.ReadAll(r)
			check(t, err)
			content = string(b)
		}
		lines = append(lines, fmt.Sprintf("%d %06o %d:%d %d %d %s %q",
			h.Inode, h.Mode, h.Uid, h.Guid, h.Links, h.ModTime.Unix(), h.Name, content))
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(name), 0o755))
	check(t, os.WriteFile(name, []byte(content), 0o644))
	return name
}

// sample adds one of each kind, in the order given.
func sample(t *testing.T, dir string, order ...int) *Archive {
	t.Helper()
	var a Archive
	src := write(t, filepath.Join(dir, "src"), "from the host")
	steps := []func() error{
		func() error { return a.AddBytes("/etc/a/b", []byte("hello"), 0o640) },
		func() error { return a.AddFile("bin/prog", src, 0o755|fs.ModeSetuid) },
		func() error { return a.AddSymlink("/bin/sh", "prog") },
		func() error { return a.AddDir("/tmp", 0o777|fs.ModeSticky) },
		func() error { return a.AddBytes("/etc/a-b", nil, 0o600) },
	}
	for _, i := range order {
		check(t, steps[i]())
	}
	return &a
}

func TestWrite(t *testing.T) {
	a := sample(t, t.TempDir(), 0, 1, 2, 3, 4)
	got := list(t, pack(t, a, Options{Compression: "none", ModTime: time.Unix(7, 999)}))
	want := []string{
		`1 040755 0:0 2 7 bin ""`,
		`2 104755 0:0 1 7 bin/prog "from the host"`,
		`3 120777 0:0 1 7 bin/sh "prog"`,
		`4 040755 0:0 2 7 etc ""`,
		`5 040755 0:0 2 7 etc/a ""`,
		`6 100600 0:0 1 7 etc/a-b ""`,
		`7 100640 0:0 1 7 etc/a/b "hello"`,
		`8 041777 0:0 2 7 tmp ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWriteIsReproducible(t *testing.T) {
	for _, c := range []string{"", "zstd:3", "gzip:9", "none"} {
		a := sample(t, t.TempDir(), 0, 1, 2, 3, 4)
		first := pack(t, a, Options{Compression: c})
		again := pack(t, a, Options{Compression: c})
		other := pack(t, sample(t, t.TempDir(), 4, 2, 3, 0, 1), Options{Compression: c})
		if !bytes.Equal(first, again) || !bytes.Equal(first, other) {
			t.Errorf("compression %q: the bytes differ", c)
		}
	}
}

func TestEmptyArchive(t *testing.T) {
	if got := list(t, plain(t, &Archive{})); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

func TestCompressions(t *testing.T) {
	a := sample(t, t.TempDir(), 0, 1, 2, 3, 4)
	want := plain(t, a)
	r, err := gzip.NewReader(bytes.NewReader(pack(t, a, Options{Compression: "gzip"})))
	check(t, err)
	got, err := io.ReadAll(r)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Error("gzip: another archive")
	}
	testenv.NeedTool(t, "zstd")
	cmd := exec.Command("zstd", "-dc")
	cmd.Stdin = bytes.NewReader(pack(t, a, Options{}))
	got, err = cmd.Output()
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Error("zstd: another archive")
	}
}

// TestCpioReadsIt extracts an archive with GNU cpio and compares the trees.
func TestCpioReadsIt(t *testing.T) {
	testenv.NeedTool(t, "cpio")
	dir, out := t.TempDir(), t.TempDir()
	a := sample(t, dir, 0, 1, 2, 3, 4)
	large := strings.Repeat("0123456789abcdef", 1<<16) + "odd"
	check(t, a.AddBytes("/large", []byte(large), 0o444))
	check(t, a.AddBytes("/"+strings.Repeat("n", maxElement), []byte("x"), 0o444))
	cmd := exec.Command("cpio", "-idm", "--quiet", "--no-absolute-filenames")
	cmd.Dir, cmd.Stdin = out, bytes.NewReader(pack(t, a, Options{Compression: "none", ModTime: time.Unix(12345, 0)}))
	if msg, err := cmd.CombinedOutput(); err != nil || len(msg) > 0 {
		t.Fatalf("cpio: %v %s", err, msg)
	}
	for name, want := range map[string]string{
		"bin/prog": "from the host", "bin/sh": "from the host", "etc/a/b": "hello", "etc/a-b": "", "large": large,
	} {
		got, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for name, want := range map[string]fs.FileMode{
		"bin/prog": 0o755, "bin/sh": fs.ModeSymlink | 0o777, "etc": fs.ModeDir | 0o755, "etc/a/b": 0o640,
		"tmp": fs.ModeDir | fs.ModeSticky | 0o777,
	} {
		fi, err := os.Lstat(filepath.Join(out, name))
		check(t, err)
		// Extracting as somebody else than root, setuid may be dropped.
		if got := fi.Mode() &^ fs.ModeSetuid; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if fi.ModTime().Unix() != 12345 && fi.Mode().IsRegular() {
			t.Errorf("%s: dated %v", name, fi.ModTime())
		}
	}
}

func TestBadDestinations(t *testing.T) {
	for _, dst := range []string{
		"", "/", ".", "//", "..", "/a/../b", "a/..", "TRAILER!!!", "/TRAILER!!!", "a\x00b",
		strings.Repeat("n", maxElement+1), strings.Repeat("/n", maxName),
	} {
		var a Archive
		for kind, err := range map[string]error{
			"file": a.AddBytes(dst, nil, 0o644), "symlink": a.AddSymlink(dst, "x"), "directory": a.AddDir(dst, 0o755),
		} {
			if !errors.Is(err, ErrBadPath) {
				t.Errorf("%s %.20q: %v", kind, dst, err)
			}
		}
	}
}

func TestDuplicates(t *testing.T) {
	var a Archive
	check(t, a.AddBytes("/a", nil, 0o644))
	check(t, a.AddDir("/d", 0o755))
	check(t, a.AddDir("/d/", 0o755))
	for what, err := range map[string]error{
		"file":       a.AddBytes("a", nil, 0o644),
		"cleaned":    a.AddBytes("//./a", nil, 0o644),
		"symlink":    a.AddSymlink("/a", "x"),
		"directory":  a.AddDir("/a", 0o755),
		"other mode": a.AddDir("/d", 0o700),
		"over it":    a.AddBytes("/d", nil, 0o755),
	} {
		if !errors.Is(err, ErrDuplicate) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestBeneathAFile(t *testing.T) {
	for _, parent := range []func(*Archive) error{
		func(a *Archive) error { return a.AddBytes("/lib", nil, 0o644) },
		func(a *Archive) error { return a.AddSymlink("/lib", "usr/lib") },
	} {
		var a Archive
		check(t, a.AddBytes("/lib/a/b", nil, 0o644))
		check(t, parent(&a))
		err := a.Write(context.Background(), io.Discard, Options{})
		if !errors.Is(err, ErrBadPath) || !strings.Contains(err.Error(), "/lib is not a directory") {
			t.Errorf("%v", err)
		}
	}
}

func TestSymlinkTargets(t *testing.T) {
	var a Archive
	for _, target := range []string{"", "a\x00b", strings.Repeat("t", maxName+1)} {
		if err := a.AddSymlink("/l", target); err == nil {
			t.Errorf("%.10q: no error", target)
		}
	}
}

func TestTooLarge(t *testing.T) {
	name := write(t, filepath.Join(t.TempDir(), "large"), "")
	if err := os.Truncate(name, math.MaxUint32+1); err != nil {
		t.Skip(err) // no sparse files here
	}
	var a Archive
	if err := a.AddFile("/large", name, 0o644); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), name) {
		t.Errorf("%v", err)
	}
	check(t, os.Truncate(name, math.MaxUint32))
	check(t, a.AddFile("/large", name, 0o644))
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Compression: "zstd:99"}, {Compression: "rar"},
		{ModTime: time.Unix(-1, 0)}, {ModTime: time.Unix(math.MaxUint32+1, 0)},
	} {
		if err := new(Archive).Write(context.Background(), io.Discard, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	check(t, new(Archive).Write(context.Background(), io.Discard, Options{ModTime: time.Unix(math.MaxUint32, 0)}))
}

func TestFileThatChanges(t *testing.T) {
	for what, change := range map[string]func(string) error{
		"shrinks": func(n string) error { return os.Truncate(n, 3) },
		"grows":   func(n string) error { return os.Truncate(n, 30) },
		"goes":    os.Remove,
	} {
		dir := t.TempDir()
		a := sample(t, dir, 1)
		check(t, change(filepath.Join(dir, "src")))
		err := a.Write(context.Background(), io.Discard, Options{})
		if err == nil || !strings.Contains(err.Error(), "/bin/prog") {
			t.Errorf("%s: %v", what, err)
		}
		if what != "goes" && !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAddFileErrors(t *testing.T) {
	var a Archive
	if err := a.AddFile("/a", t.TempDir(), 0o755); err == nil {
		t.Error("a directory: no error")
	}
	if err := a.AddFile("/a", filepath.Join(t.TempDir(), "none"), 0o755); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := sample(t, t.TempDir(), 0).Write(ctx, io.Discard, Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fs.ErrClosed }

func TestWriteError(t *testing.T) {
	for _, c := range []string{"none", "gzip", "zstd"} {
		err := sample(t, t.TempDir(), 0, 1).Write(context.Background(), brokenWriter{}, Options{Compression: c})
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", c, err)
		}
	}
}

func TestAddTree(t *testing.T) {
	src := t.TempDir()
	write(t, filepath.Join(src, "sub/file"), "content")
	check(t, os.Chmod(filepath.Join(src, "sub/file"), 0o750))
	check(t, os.Mkdir(filepath.Join(src, "empty"), 0o755))
	check(t, os.Symlink("/nowhere", filepath.Join(src, "link")))
	check(t, os.Chmod(src, 0o755))
	top := filepath.Join(t.TempDir(), "top")
	check(t, os.Symlink(src, top))

	want := []string{"opt", "opt/empty", "opt/link", "opt/sub", "opt/sub/file"}
	var a Archive
	check(t, a.AddTree("/opt", top))
	check(t, a.AddTree("/", top))
	check(t, a.AddTree("/one", filepath.Join(top, "sub/file")))
	if got := slices.Sorted(maps.Keys(a.entries)); !slices.Equal(got, append([]string{"empty", "link", "one"}, append(want, "sub", "sub/file")...)) {
		t.Errorf("got %q", got)
	}
	lines := strings.Join(list(t, plain(t, &a)), "\n")
	for _, w := range []string{`100750 0:0 1 0 opt/sub/file "content"`, `120777 0:0 1 0 opt/link "/nowhere"`} {
		if !strings.Contains(lines, w) {
			t.Errorf("no %s in\n%s", w, lines)
		}
	}
	if err := a.AddTree("/opt", top); !errors.Is(err, ErrDuplicate) {
		t.Errorf("twice: %v", err)
	}
	if err := a.AddTree("/none", filepath.Join(src, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := a.AddTree("/a/../b", top); err == nil {
		t.Error("a path with ..: no error")
	}
}

func TestAddInit(t *testing.T) {
	var a Archive
	check(t, a.AddInit(write(t, filepath.Join(t.TempDir(), "i"), "#!")))
	lines := strings.Join(list(t, plain(t, &a)), "\n")
	for _, w := range []string{`100755 0:0 1 0 init "#!"`, `100666 0:0 1 0 dev/null ""`} {
		if !strings.Contains(lines, w) {
			t.Errorf("no %s in\n%s", w, lines)
		}
	}
}
