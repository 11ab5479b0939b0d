//go:build linux

package squashfs

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/isopress/isopress/internal/testenv"
)

// tarTree is a tree of all that a tar archive can hold.
func tarTree(t testing.TB) testTree {
	t.Helper()
	testenv.NeedTool(t, "tar")
	testenv.NeedRoot(t) // owners and devices
	tree := full(t)
	tree.must(os.Remove(tree.path("special/socket")))
	deep := strings.Repeat("deep/", 60) + "file" // over 255 bytes
	tree.file(deep, []byte("deep"))
	tree.must(os.Link(tree.path(deep), tree.path(strings.Repeat("deep/", 59)+"hard")))
	tree.must(os.Link(tree.path("links/relative"), tree.path("links/hard-to-link")))
	// A hole at the end, one at the start, nothing but one, and many.
	for name, write := range map[string]func(f *os.File) error{
		"end":   func(f *os.File) error { _, err := f.Write(random(1, 5000)); return err },
		"start": func(f *os.File) error { _, err := f.WriteAt(random(2, 5000), 3<<20-5000); return err },
		"all":   func(*os.File) error { return nil },
		"many": func(f *os.File) error {
			for i := range 40 {
				if _, err := f.WriteAt(random(uint64(i), 4096), int64(i)*65536); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		f, err := os.Create(tree.path("sparse-" + name))
		tree.must(err)
		tree.must(f.Truncate(3 << 20))
		tree.must(write(f))
		tree.must(f.Close())
	}
	date := time.Unix(1_600_000_000, 999_999_999)
	tree.must(os.Chtimes(tree.path("sparse-all"), date, date))
	tree.must(os.Chtimes(tree.dir, date, date))
	return tree
}

// packTar runs GNU tar on the tree.
func (t testTree) packTar(args ...string) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "tree.tar")
	args = append([]string{"--create", "--numeric-owner", "--file", archive, "--directory", t.dir}, args...)
	runTool(t.TB, "tar", append(args, ".")...)
	return archive
}

// tarOf opens archives for the length of the test.
func tarOf(t testing.TB, archives ...string) *Tar {
	t.Helper()
	tree, err := openTars(t, TarOptions{TempDir: t.TempDir()}, archives...)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func openTars(t testing.TB, opts TarOptions, archives ...string) (*Tar, error) {
	t.Helper()
	var readers []io.Reader
	for _, a := range archives {
		f, err := os.Open(a)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		readers = append(readers, f)
	}
	tree, err := FromTar(t.Context(), opts, readers...)
	if err == nil {
		t.Cleanup(func() {
			if err := tree.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return tree, err
}

func imageBytes(t testing.TB, fsys fs.FS, opts Options) []byte {
	t.Helper()
	image, _ := writeImage(t, fsys, opts)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The image of an archive is the image of the tree that it was made of, to the byte.
func TestTarImageIsTreeImage(t *testing.T) {
	tree := tarTree(t)
	all := []string{"--xattrs", "--xattrs-include=*"}
	opts := Options{Compression: compression(t, "zstd:1"), BlockSize: 64 << 10, Workers: 4}
	for name, c := range map[string]struct {
		args []string
		opts Options
	}{
		"pax":                {append([]string{"--format=pax"}, all...), opts},
		"pax sparse 1.0":     {append([]string{"--format=pax", "--sparse", "--hole-detection=raw"}, all...), opts},
		"pax sparse 0.1":     {append([]string{"--format=pax", "--sparse", "--sparse-version=0.1", "--hole-detection=raw"}, all...), opts},
		"pax sparse 0.0":     {append([]string{"--format=pax", "--sparse", "--sparse-version=0.0", "--hole-detection=raw"}, all...), opts},
		"gnu":                {[]string{"--format=gnu"}, Options{NoXattrs: true, Compression: opts.Compression, Workers: 3}},
		"gnu sparse":         {[]string{"--format=gnu", "--sparse", "--hole-detection=raw"}, Options{NoXattrs: true, Compression: opts.Compression}},
		"names in any order": {append([]string{"--format=pax", "--sort=none"}, all...), opts},
	} {
		t.Run(name, func(t *testing.T) {
			one := c.opts
			one.Workers = 1
			want := imageBytes(t, DirFS(tree.dir), one)
			archive := tree.packTar(c.args...)
			fsys := tarOf(t, archive)
			sparse := 0
			fsys.root.eachNode(func(n *tarNode) {
				if n.sparse {
					sparse++
				}
			})
			if (sparse > 3) != strings.Contains(name, "sparse") {
				t.Errorf("%d files are sparse in the archive", sparse)
			}
			if got := imageBytes(t, fsys, c.opts); !bytes.Equal(got, want) {
				t.Errorf("the archive's image, %d bytes, is not the tree's, %d bytes", len(got), len(want))
			}
		})
	}
}

// ustar holds less: no long names, no xattrs, no large ids.
func TestTarUstar(t *testing.T) {
	testenv.NeedTool(t, "tar")
	tree := newTestTree(t)
	tree.contents()
	tree.file(strings.Repeat("prefix/", 20)+strings.Repeat("n", 90), []byte("split into two fields"))
	tree.file("target", []byte("x"))
	tree.must(os.Link(tree.path("target"), tree.path("hard")))
	tree.must(os.Symlink("target", tree.path("link")))
	for _, format := range []string{"ustar", "v7"} {
		args := []string{"--format=" + format}
		if format == "v7" {
			args = append(args, "--exclude=./prefix") // over the format's 99 bytes
			tree.must(os.RemoveAll(tree.path("prefix")))
		}
		opts := Options{NoXattrs: true, Compression: compression(t, "zstd:1")}
		want := imageBytes(t, DirFS(tree.dir), opts)
		if got := imageBytes(t, tarOf(t, tree.packTar(args...)), opts); !bytes.Equal(got, want) {
			t.Errorf("%s: the archive's image is not the tree's", format)
		}
	}
}

func TestTarCompressed(t *testing.T) {
	tree := newTestTree(t)
	tree.file("random", random(1, 200_000))
	tree.file("text", text(2, 1_000_000))
	opts := Options{NoXattrs: true, Compression: compression(t, "zstd:1")}
	archive := tree.packTar()
	want := imageBytes(t, DirFS(tree.dir), opts)
	for _, tool := range []string{"gzip", "bzip2", "xz", "zstd"} {
		t.Run(tool, func(t *testing.T) {
			testenv.NeedTool(t, tool)
			packed := filepath.Join(t.TempDir(), "packed")
			// Two parts, as parallel compressors make them.
			script := `n=$(($(stat -c %s "$1") / 3)); { head -c $n "$1" | ` + tool + ` -c; tail -c +$((n + 1)) "$1" | ` + tool + ` -c; } > "$2"`
			if out, err := exec.Command("sh", "-c", script, "sh", archive, packed).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got := imageBytes(t, tarOf(t, packed), opts); !bytes.Equal(got, want) {
				t.Error("another image")
			}
			b, err := os.ReadFile(packed)
			if err != nil {
				t.Fatal(err)
			}
			for _, cut := range []int{12, len(b) / 2, len(b) - 3} {
				short := filepath.Join(t.TempDir(), "short")
				if err := os.WriteFile(short, b[:cut], 0o644); err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				if _, err := openTars(t, TarOptions{TempDir: dir}, short); err == nil || !strings.Contains(err.Error(), short+": "+tool) {
					t.Errorf("cut after %d of %d bytes: %v", cut, len(b), err)
				}
				noFiles(t, dir)
			}
		})
	}
}

func noFiles(t testing.TB, dir string) {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil || len(found) > 0 {
		t.Errorf("%s holds %v, %v", dir, found, err)
	}
}

// What unpacking leaves, and what sqfstar makes, is what the image holds.
func TestTarAsOthersReadIt(t *testing.T) {
	testenv.NeedTool(t, "unsquashfs")
	testenv.NeedTool(t, "sqfstar")
	tree := tarTree(t)
	archive := tree.packTar("--format=pax", "--xattrs", "--xattrs-include=*")
	image, _ := writeImage(t, tarOf(t, archive), Options{Compression: compression(t, "zstd:3")})
	dir := filepath.Join(t.TempDir(), "out")
	runTool(t, "unsquashfs", "-no-progress", "-strict-errors", "-d", dir, image)
	differ(t, treeListing(t, tree.dir), treeListing(t, dir))

	theirs := filepath.Join(t.TempDir(), "sqfstar.squashfs")
	if out, err := exec.Command("sh", "-c", `exec sqfstar -quiet -no-progress "$1" < "$2"`, "sh", theirs, archive).CombinedOutput(); err != nil {
		t.Fatalf("sqfstar: %v: %s", err, out)
	}
	list := func(image string) string {
		out := runTool(t, "unsquashfs", "-no-progress", "-lls", image)
		var kept []string
		for _, line := range strings.Split(out, "\n") {
			// sqfstar dates the root otherwise, and shortens links' targets. The
			// size of a directory is that of its listing in the image.
			if strings.HasPrefix(line, "l") || strings.HasSuffix(line, " squashfs-root") {
				continue
			}
			if f := strings.Fields(line); strings.HasPrefix(line, "d") && len(f) > 3 {
				line = strings.Join(append(f[:2:2], f[3:]...), " ")
			}
			kept = append(kept, line)
		}
		return strings.Join(kept, "\n")
	}
	if a, b := list(image), list(theirs); a != b || len(a) < 10_000 {
		t.Errorf("sqfstar's image lists %d bytes, ours %d others", len(b), len(a))
	}
}

func TestTarFS(t *testing.T) {
	tree := newTestTree(t)
	holes := random(1, 20_000)
	clear(holes[4096:12288])
	tree.file("content/holes", holes)
	tree.file("dir/file", []byte("x"))
	tree.must(os.Symlink("../dir/file", tree.path("content/link")))
	tree.must(os.Symlink("/dir", tree.path("absolute")))
	archive := tree.packTar("--sparse", "--hole-detection=raw", "--format=pax")
	if err := fstest.TestFS(tarOf(t, archive), "content/holes", "dir/file", "content/link", "absolute"); err != nil {
		t.Error(err)
	}
	got, err := fs.ReadFile(tarOf(t, archive), "absolute/../content/link")
	if err == nil {
		t.Errorf("a path with .. reads %q", got)
	}
	if got, err := fs.ReadFile(tarOf(t, archive), "absolute/file"); err != nil || string(got) != "x" {
		t.Errorf("through a link: %q, %v", got, err)
	}
}

// A pipe is read to its end, and kept in a file without a name.
func TestTarFromPipe(t *testing.T) {
	tree := newTestTree(t)
	tree.contents()
	archive := tree.packTar()
	opts := Options{NoXattrs: true, Compression: compression(t, "zstd:1")}
	want := imageBytes(t, DirFS(tree.dir), opts)
	dir := t.TempDir()
	cmd := exec.Command("cat", archive)
	pipe, err := cmd.StdoutPipe()
	tree.must(err)
	tree.must(cmd.Start())
	var read int64
	fsys, err := FromTar(t.Context(), TarOptions{TempDir: dir, Progress: func(done, total int64) { read = done }}, pipe)
	tree.must(err)
	tree.must(cmd.Wait())
	noFiles(t, dir)
	if got := imageBytes(t, fsys, opts); !bytes.Equal(got, want) {
		t.Error("another image")
	}
	if info, err := os.Stat(archive); err != nil || read != info.Size() {
		t.Errorf("%d bytes read, %v, %v", read, info.Size(), err)
	}
	tree.must(fsys.Close())
}

func TestTarInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := w.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// It hangs in the read of a pipe that nobody writes to any more.
	_, err = FromTar(ctx, TarOptions{TempDir: dir, Progress: func(int64, int64) { cancel() }}, r)
	if err != context.Canceled {
		t.Errorf("got %v", err)
	}
	noFiles(t, dir)
}

func TestTarDiskFull(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	bomb := filepath.Join(t.TempDir(), "bomb")
	if out, err := exec.Command("sh", "-c", `head -c 20000000 /dev/zero | gzip > "$1"`, "sh", bomb).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, err := openTars(t, TarOptions{TempDir: dir}, bomb)
	if err == nil || !strings.Contains(err.Error(), bomb+": keeping the archive in a temporary file in "+dir+": no space left on device") {
		t.Errorf("got %v", err)
	}
	noFiles(t, dir)
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil || st.Bfree != st.Blocks {
		t.Errorf("%d of %d blocks free, %v", st.Bfree, st.Blocks, err)
	}
}
