package iso

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/testenv"
)

var (
	testTime = time.Date(2024, 2, 29, 13, 14, 15, 0, time.UTC)
	testSeed = sha256.Sum256([]byte("test"))
)

// run runs a tool and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	testenv.NeedTool(t, name)
	cmd := exec.Command(name, args...)
	// sgdisk and mtools look at the locale and at files in the home directory.
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME=/nonexistent", "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// contains wants every one of the strings in a tool's output.
func contains(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in:\n%s", w, out)
		}
	}
}

// pattern returns bytes that say where they belong.
func pattern(name string, size int) []byte {
	b := make([]byte, 0, size+32)
	for sum := sha256.Sum256([]byte(name)); len(b) < size; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:size]
}

// fakeKernel returns what passes for a kernel by its headers.
func fakeKernel(size int) []byte {
	b := pattern("kernel", size)
	clear(b[:0x400])
	copy(b, "MZ")
	le.PutUint32(b[peHeaderOffset:], 0x300)
	copy(b[0x300:], "PE\x00\x00\x64\x86")
	b[setupSects] = 3
	le.PutUint16(b[setupBootFlag:], 0xAA55)
	copy(b[setupHeader:], "HdrS")
	le.PutUint16(b[setupVersion:], 0x020F)
	b[setupLoadFlags] = loadedHigh
	le.PutUint16(b[setupXLoadFlags:], xlfKernel64)
	le.PutUint32(b[setupCmdlineSize:], maxCmdline)
	le.PutUint64(b[setupPrefAddress:], 16<<20)
	le.PutUint32(b[setupInitSize:], 32<<20)
	return b
}

// contents maps paths to what the files hold.
type contents map[string][]byte

func (c contents) files() []File {
	var files []File
	for _, path := range slices.Sorted(maps.Keys(c)) {
		files = append(files, File{Path: path, Size: int64(len(c[path]))})
	}
	return files
}

// longName is a name of 255 bytes.
var longName = strings.Repeat("é", 127) + "!"

var sampleContents = sync.OnceValue(func() contents {
	return contents{
		"boot/kernel":              fakeKernel(5<<20 + 1234),
		"boot/initrd":              pattern("initrd", 3<<20+77),
		"nix-store.squashfs":       pattern("squashfs", 2<<20),
		"isopress.json":            []byte("{}\n"),
		"empty":                    {},
		"a/b/c/d/e/f/g/h/i/j/deep": []byte("deep"),
		longName:                   []byte("long"),
	}
})

// sample returns the options and contents of a small bootable image that has everything.
func sample() (Options, contents) {
	c := maps.Clone(sampleContents())
	opts := Options{
		VolumeID: "nixos-minimal-26.05-x86_64",
		ModTime:  testTime,
		Files:    c.files(),
		Boot:     &Boot{Kernel: "boot/kernel", Initrd: "boot/initrd", Cmdline: "init=/nix/store/x/init root=LABEL=nixos quiet"},
	}
	return opts, c
}

// write writes the files of c and finishes the image.
func write(t *testing.T, w *Writer, c contents) *Result {
	t.Helper()
	files := slices.Clone(w.files)
	slices.SortStableFunc(files, func(a, b *content) int { return len(b.inside) - len(a.inside) }) // the others lie behind them
	for _, f := range files {
		if f.holder != nil {
			continue
		}
		if err := w.WriteFile(f.Path, bytes.NewReader(c[f.Path])); err != nil {
			t.Fatal(err)
		}
	}
	r, err := w.Finish(testSeed)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// makeImage makes an image in a file.
func makeImage(t *testing.T, opts Options, c contents) (path string, r *Result) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "image.iso")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewWriter(f, opts)
	if err != nil {
		t.Fatal(err)
	}
	r = write(t, w, c)
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() != r.Size {
		t.Fatalf("file of %d bytes, result says %d", st.Size(), r.Size)
	}
	return path, r
}

// memory is an image in memory; what is not written stays as it was.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	return copy(m.b[off:], p), nil
}
