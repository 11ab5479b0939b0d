package iso

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeTree writes files.
func writeTree(t *testing.T, tree string, c contents) {
	t.Helper()
	for path, b := range c {
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sumTree is an image with one large file, x.sfs, and what else c has.
func sumTree(t *testing.T, c contents, opts ...string) (tree, image string) {
	t.Helper()
	dir := t.TempDir()
	tree, image = filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	writeTree(t, tree, contents{"live/x.sfs": oldSFS})
	writeTree(t, tree, c)
	xorrisofs(t, tree, image, opts...)
	return tree, image
}

var (
	oldSFS, newSFS = pattern("old", 10000), pattern("new", 20000)
	replaceSFS     = Changes{Replace: map[string]Content{"live/x.sfs": contentOf(newSFS)}}
)

func md5Hex(b []byte) string { return fmt.Sprintf("%x", md5.Sum(b)) }

func sha256Hex(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func readNew(t *testing.T, path, name string) string {
	t.Helper()
	b, err := fs.ReadFile(open(t, path).FS(), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Checksum files of all forms, whatever way they write a name, are right for the new content.
func TestRewriteSumForms(t *testing.T) {
	forms := contents{
		".treeinfo":     []byte("[checksums]\nlive/x.sfs = sha256:" + sha256Hex(oldSFS) + "\nother = sha256:" + strings.Repeat("0", 64) + "\n"),
		"backslash.md5": []byte(md5Hex(oldSFS) + " *live\\x.sfs\n"),
		"elsewhere.md5": []byte(md5Hex(oldSFS) + "  /run/medium/x.sfs\n"),
		"escaped.md5":   []byte("\\" + md5Hex([]byte("slash")) + "  live\\\\back\\\\slash\n"),
	}
	c := contents{`live\back\slash`: []byte("slash")}
	for name, b := range forms {
		c[name] = b
	}
	_, image := sumTree(t, c, "-r")
	path, r := rewriteTo(t, open(t, image), Changes{Replace: map[string]Content{"live/x.sfs": contentOf(newSFS), `live\back\slash`: contentOf(newSFS)}})
	if got := strings.Join(r.Sums, " "); got != ".treeinfo backslash.md5 elsewhere.md5 escaped.md5" {
		t.Errorf("corrected %q, stale %q", r.Sums, r.Stale)
	}
	for name, b := range forms {
		want := strings.NewReplacer(md5Hex(oldSFS), md5Hex(newSFS), md5Hex([]byte("slash")), md5Hex(newSFS), sha256Hex(oldSFS), sha256Hex(newSFS)).Replace(string(b))
		if got := readNew(t, path, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// ISO 9660's own names are capitals, and shorter than those that a checksum file has.
func TestRewriteSumsCapitals(t *testing.T) {
	_, image := sumTree(t, contents{
		"md5sum.txt": []byte(md5Hex(oldSFS) + "  LIVE/X.SFS\n"),
		"live/filesystem-of-the-live-system-number-one.squashfs": pattern("s", 9000),
		"sha256.txt": []byte(sha256Hex(pattern("s", 9000)) + "  live/filesystem-of-the-live-system-number-one.squashfs\n"),
	})
	im := open(t, image)
	var long string
	im.root.walk("", func(p string, n *node9660) {
		if strings.HasPrefix(p, "live/files") {
			long = p
		}
	})
	path, r := rewriteTo(t, im, Changes{Replace: map[string]Content{"live/x.sfs": contentOf(newSFS), long: contentOf(newSFS)}})
	if got := strings.Join(r.Sums, " "); got != "md5sum.txt sha256.txt" {
		t.Errorf("corrected %q, stale %q", r.Sums, r.Stale)
	}
	if got, want := readNew(t, path, "md5sum.txt"), md5Hex(newSFS)+"  LIVE/X.SFS\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := readNew(t, path, "sha256.txt"), sha256Hex(newSFS)+"  live/filesystem-of-the-live-system-number-one.squashfs\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What cannot be renewed is listed.
func TestRewriteSumsStale(t *testing.T) {
	line := []byte(md5Hex(oldSFS) + "  live/x.sfs\n")
	_, image := sumTree(t, contents{
		"live/x.sfs.verity": pattern("v", 5000), "live/x.sfs.roothash": []byte("abc"), "live/x.sfs.roothash.p7s": []byte("s"),
		"y.raw": oldSFS, "y.roothash": []byte("abc"), "z.roothash": []byte("abc"),
		"large.md5":    append(bytes.Clone(line), make([]byte, maxSumFile)...),
		"md5.bin":      make([]byte, maxSumFile+1),
		"both.md5":     []byte(md5Hex([]byte("twice the same")) + "  nowhere\n"),
		"one":          []byte("twice the same"),
		"two":          []byte("twice the same"),
		"replaced.md5": []byte("-"),
	}, "-r")
	ch := Changes{Replace: map[string]Content{"live/x.sfs": contentOf(newSFS), "y.raw": contentOf(newSFS)}}
	ch.Replace["one"], ch.Replace["two"] = contentOf([]byte("1")), contentOf([]byte("2"))
	_, r := rewriteTo(t, open(t, image), ch)
	want := "both.md5 large.md5 live/x.sfs.roothash live/x.sfs.roothash.p7s live/x.sfs.verity y.roothash"
	if got := strings.Join(r.Stale, " "); got != want || len(r.Sums) > 0 {
		t.Errorf("corrected %q, stale %q, want %q", r.Sums, got, want)
	}
}

// sumChain are checksum files that name the next one, the last the large file.
func sumChain(n int) contents {
	c := contents{}
	next, sum := "live/x.sfs", md5Hex(oldSFS)
	for i := n; i > 0; i-- {
		name := fmt.Sprintf("%06d.md5", i)
		c[name] = []byte(sum + "  " + next + "\n")
		next, sum = name, md5Hex(c[name])
	}
	return c
}

// A chain is corrected from its end, and each link once. One that is too long breaks in one place.
func TestRewriteSumsChain(t *testing.T) {
	for n, want := range map[int]int{maxSumDepth: 0, maxSumDepth + 50: maxSumDepth + 1} {
		tree, image := sumTree(t, sumChain(n), "-r")
		path, r := rewriteTo(t, open(t, image), replaceSFS)
		to := filepath.Join(filepath.Dir(tree), "out")
		run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", to)
		defer run(t, "chmod", "-R", "u+w", to)
		wrong := run(t, "sh", "-c", "cd "+to+" && cat *.md5 | md5sum -c 2>/dev/null | grep -v ': OK$' || true")
		stale, failed := "[]", ""
		if want > 0 {
			stale, failed = fmt.Sprintf("[%06d.md5]", want), fmt.Sprintf("%06d.md5: FAILED\n", want+1)
		}
		if fmt.Sprint(r.Stale) != stale || wrong != failed {
			t.Errorf("%d files: stale %v, want %s; md5sum says %q, want %q", n, r.Stale, stale, wrong, failed)
		}
	}
}

// Files that name each other cannot be right together.
func TestRewriteSumsCycle(t *testing.T) {
	zero := strings.Repeat("0", 32)
	_, image := sumTree(t, contents{
		"a.md5": []byte(zero + "  b.md5\n" + md5Hex(oldSFS) + "  live/x.sfs\n"),
		"b.md5": []byte(zero + "  a.md5\n" + md5Hex(oldSFS) + "  live/x.sfs\n" + zero + "  b.md5\n"),
	}, "-r")
	path, r := rewriteTo(t, open(t, image), replaceSFS)
	if fmt.Sprint(r.Sums, r.Stale) != "[a.md5 b.md5] [b.md5]" {
		t.Errorf("corrected %q, stale %q", r.Sums, r.Stale)
	}
	if got, want := readNew(t, path, "b.md5"), zero+"  a.md5\n"+md5Hex(newSFS)+"  live/x.sfs\n"+zero+"  b.md5\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A checksum file with many names is looked into once a directory, and all of them together are bounded.
func TestSumFiles(t *testing.T) {
	c := contents{"a.md5": []byte(md5Hex(oldSFS) + "  x.sfs\n")}
	for i := range 5 {
		c[fmt.Sprintf("large%d.md5", i)] = append([]byte(md5Hex(oldSFS)+"  x.sfs\n"), pattern(fmt.Sprint(i), maxSumFile-1000)...)
	}
	dir := t.TempDir()
	tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	writeTree(t, tree, c)
	for _, name := range []string{"b.md5", "c.md5", "live/a.md5", "live/b.md5"} {
		if err := os.MkdirAll(filepath.Join(tree, "live"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(tree, "a.md5"), filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	xorrisofs(t, tree, image, "-r", "--hardlinks")
	list, large, err := newRewriter(t.Context(), open(t, image), new(output)).sumFiles()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range append(list, large...) {
		got = append(got, s.path)
	}
	if want := "[a.md5 large0.md5 large1.md5 large2.md5 large3.md5 live/a.md5 large4.md5]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// A removed file's lines go from a checksum file that two directories have.
func TestRewriteSumsRemoved(t *testing.T) {
	dir := t.TempDir()
	tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	writeTree(t, tree, contents{
		"live/x.sfs": oldSFS, "y": []byte("y"), "live/z": []byte("z"),
		"a.md5": []byte(md5Hex([]byte("y")) + "  y\n" + md5Hex([]byte("z")) + "  z\n" + md5Hex(oldSFS) + "  x.sfs\n"),
	})
	if err := os.Link(filepath.Join(tree, "a.md5"), filepath.Join(tree, "live/a.md5")); err != nil {
		t.Fatal(err)
	}
	xorrisofs(t, tree, image, "-r", "--hardlinks")
	path, r := rewriteTo(t, open(t, image), Changes{Remove: []string{"y", "live/z"}, Replace: replaceSFS.Replace})
	if got, want := readNew(t, path, "live/a.md5"), md5Hex(newSFS)+"  x.sfs\n"; got != want {
		t.Errorf("%q, want %q, stale %q", got, want, r.Stale)
	}
}

// A file that another one takes the place of keeps its lines: they are for the new one, if they were right.
func TestRewriteSumsAddedAnew(t *testing.T) {
	z := md5Hex([]byte("z"))
	_, image := sumTree(t, contents{
		"live/a": []byte("a"), "y": []byte("y"), "z": []byte("z"), "empty": nil, "inner.md5": []byte(z + "  z\n"),
		"a.md5": []byte(md5Hex([]byte("y")) + "  ./y\n" + z + "  z\n" + md5Hex(nil) + "  empty\n" + md5Hex([]byte(z+"  z\n")) + "  inner.md5\n"),
		"b.md5": []byte(z + "  live/a\n"), // wrong
	}, "-r")
	ch := Changes{Remove: []string{"live", "y", "z", "empty", "inner.md5"}}
	for _, name := range []string{"live/a", "y", "empty", "inner.md5"} {
		ch.Add = append(ch.Add, Addition{Path: name, Content: contentOf([]byte("new " + name)), ModTime: testTime})
	}
	path, r := rewriteTo(t, open(t, image), ch)
	want := md5Hex([]byte("new y")) + "  ./y\n" + md5Hex([]byte("new empty")) + "  empty\n" + md5Hex([]byte("new inner.md5")) + "  inner.md5\n"
	if got := readNew(t, path, "a.md5"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if fmt.Sprint(r.Sums, r.Stale) != "[a.md5] [b.md5]" {
		t.Errorf("corrected %q, stale %q", r.Sums, r.Stale)
	}
	if got := readNew(t, path, "inner.md5"); got != "new inner.md5" {
		t.Errorf("inner.md5 is %q", got)
	}
}

func TestRewriteSumsCanceled(t *testing.T) {
	_, image := sumTree(t, contents{"a.md5": []byte(md5Hex(oldSFS) + "  live/x.sfs\n")}, "-r")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newRewriter(ctx, open(t, image), new(output))
	if _, _, err := w.sumFiles(); !errors.Is(err, context.Canceled) {
		t.Errorf("search: %v", err)
	}
	if _, err := newSumCorrector(w, nil).lines(sumFile{}, []byte("\n")); !errors.Is(err, context.Canceled) {
		t.Errorf("lines: %v", err)
	}
	if _, err := w.dropLines(sumFile{}, []byte("\n"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("removed lines: %v", err)
	}
}
