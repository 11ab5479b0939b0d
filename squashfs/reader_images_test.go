//go:build linux

package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

var (
	_ fs.StatFS     = (*Reader)(nil)
	_ fs.ReadDirFS  = (*Reader)(nil)
	_ fs.ReadFileFS = (*Reader)(nil)
	_ fs.ReadLinkFS = (*Reader)(nil)
	_ XattrFS       = (*Reader)(nil) // what [Write] asks of its input

	_ io.ReadSeeker  = (*readerFile)(nil)
	_ io.ReaderAt    = (*readerFile)(nil)
	_ io.WriterTo    = (*readerFile)(nil)
	_ fs.ReadDirFile = (*readerDir)(nil)
)

// TestReaderImages compares images with the tree they were made of: of each
// compressor with each size of blocks, and among them each of the options that
// change the format. Short tests take a few of them.
func TestReaderImages(t *testing.T) {
	tree := newTestTree(t).all()
	const short = " short"
	for _, args := range []string{
		"-comp gzip -b 4K" + short,
		"-comp gzip -b 128K -Xcompression-level 1 -no-exports",
		"-comp gzip -b 1M -always-use-fragments",
		"-comp gzip -noI -noD -noF -noX -noId" + short,
		"-comp zstd -b 4K -no-fragments",
		"-comp zstd -b 128K -Xcompression-level 3 -noX -noId",
		"-comp zstd -b 1M" + short,
		"-comp zstd -no-exports -no-duplicates -no-sparse",
		"-comp zstd -noI -no-hardlinks",
		"-comp xz -b 4K -no-exports" + short,
		"-comp xz -b 128K -Xbcj x86,arm,sparc -Xdict-size 50%",
		"-comp xz -b 1M -Xbcj x86 -always-use-fragments",
		"-comp lz4 -b 4K -noI",
		"-comp lz4 -b 128K -Xhc" + short,
		"-comp lz4 -b 1M -always-use-fragments",
		"-comp lzo -b 4K -Xalgorithm lzo1x_1 -noX",
		"-comp lzo -b 128K -noF" + short,
		"-comp lzo -b 1M -Xcompression-level 2 -no-fragments",
		"-comp lzma -b 4K -noD",
		"-comp lzma -b 128K -noId" + short,
		"-comp lzma -b 1M -always-use-fragments",
	} {
		args, inShort := strings.CutSuffix(args, short)
		if testing.Short() && !inShort {
			continue
		}
		t.Run(args, func(t *testing.T) {
			tree := testTree{t, tree.dir}
			r := openImage(t, tree.mksquashfs(strings.Fields(args)...)).Reader
			tree.same(r, !strings.Contains(args, "-no-hardlinks"))
			checkExports(t, r)
			if sb := r.Superblock(); sb.Exportable == strings.Contains(args, "-no-exports") {
				t.Errorf("exportable: %v", sb.Exportable)
			}
		})
	}
	for _, args := range []string{
		"-c gzip -b 4096" + short, "-c zstd -b 131072 -e", "-c zstd -b 1048576 -T",
		"-c xz -b 131072 -X x86,dictsize=64K -e", "-c xz -b 1048576 -X level=1,lc=0,lp=2,pb=1",
		"-c lz4 -b 4096 -e", "-c lz4 -b 131072 -X hc -T", "-c lzo -b 131072 -X level=3", "-c lzma -b 131072 -e",
	} {
		args, inShort := strings.CutSuffix(args, short)
		if testing.Short() && !inShort {
			continue
		}
		t.Run("gensquashfs "+args, func(t *testing.T) {
			tree := testTree{t, tree.dir}
			r := openImage(t, tree.gensquashfs(strings.Fields(args)...)).Reader
			tree.same(r, false)
			checkExports(t, r)
		})
	}
}

// checkExports compares the export table with the inodes that the names lead to.
func checkExports(t *testing.T, r *Reader) {
	t.Helper()
	if !r.Superblock().Exportable {
		return
	}
	err := fs.WalkDir(r, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n, err := r.resolve(name, false)
		if err != nil {
			return err
		}
		ref, err := r.exported(n.number)
		if err != nil || ref != n.ref {
			t.Errorf("%s: inode %d is exported as %#x, %v, want %#x", name, n.number, ref, err, n.ref)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReaderIsFS(t *testing.T) {
	tree := newTestTree(t)
	tree.names()
	tree.attributes()
	tree.file("content/large", text(1, 3<<20+5))
	tree.file("content/random", random(2, 200_000))
	tree.file("links/target", []byte("x"))
	tree.must(os.Symlink("target", tree.path("links/link")))
	tree.must(os.Symlink("../links", tree.path("links/dir")))
	for _, comp := range []string{"gzip", "zstd", "xz", "lz4", "lzo", "lzma"} {
		if testing.Short() && comp != "zstd" && comp != "lz4" {
			continue
		}
		r := openImage(t, tree.mksquashfs("-comp", comp))
		if err := fstest.TestFS(r, "content/large", "links/link", "many/file-number-699", "empty/a/b/c"); err != nil {
			t.Error(err)
		}
	}
}

func TestReaderSuperblock(t *testing.T) {
	tree := newTestTree(t)
	tree.file("a", text(1, 100))
	t.Setenv("SOURCE_DATE_EPOCH", "") // mksquashfs refuses it along with the option
	os.Unsetenv("SOURCE_DATE_EPOCH")
	image := tree.mksquashfs("-comp", "zstd", "-Xcompression-level", "7", "-b", "64K", "-mkfs-time", "1234567890", "-no-xattrs", "-noD")
	got := openImage(t, image).Superblock()
	got.BytesUsed = 0
	got.Modified = got.Modified.UTC()
	want := Superblock{
		Compression: Zstd, Options: CompressorOptions{Level: 7}, BlockSize: 64 << 10, Modified: got.Modified,
		Inodes: 2, Fragments: 1, IDs: 1,
		Exportable: true, Deduplicated: true, NoXattrs: true, UncompressedData: true,
	}
	if got != want || got.Modified.Unix() != 1234567890 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestReaderOptions(t *testing.T) {
	tree := newTestTree(t)
	tree.file("a", text(1, 100))
	for args, want := range map[string]CompressorOptions{
		"-comp gzip":                       {},
		"-comp gzip -Xcompression-level 3": {Level: 3, WindowSize: 32 << 10},
		"-comp gzip -Xwindow-size 9 -Xstrategy filtered,fixed": {Level: 9, WindowSize: 512, Strategies: "filtered,fixed"},
		"-comp zstd":                                  {},
		"-comp zstd -Xcompression-level 22":           {Level: 22},
		"-comp xz":                                    {},
		"-comp xz -Xdict-size 75%":                    {DictionarySize: 96 << 10},
		"-comp xz -Xbcj x86,arm,sparc -Xdict-size 8K": {DictionarySize: 8 << 10, Filters: "x86,arm,sparc"},
		"-comp lz4":                                   {},
		"-comp lz4 -Xhc":                              {HC: true},
		"-comp lzo":                                   {},
		"-comp lzo -Xcompression-level 2":             {Variant: "lzo1x_999", Level: 2},
		"-comp lzo -Xalgorithm lzo1x_1_12":            {Variant: "lzo1x_1_12"},
		"-comp lzma":                                  {},
	} {
		tree := testTree{t, tree.dir}
		sb := openImage(t, tree.mksquashfs(strings.Fields(args)...)).Superblock()
		if sb.Options != want || sb.Compression.String() != strings.Fields(args)[1] {
			t.Errorf("%s: %s, %+v, want %+v", args, sb.Compression, sb.Options, want)
		}
	}
}

func TestReaderDevices(t *testing.T) {
	tree := newTestTree(t)
	tree.file("a", nil)
	image := tree.mksquashfs("-p", "dev c 600 0 0 5 1", "-p", "disk b 660 0 6 259 70000", "-p", "dir d 1777 1 2")
	r := openImage(t, image)
	for name, want := range map[string]struct {
		mode fs.FileMode
		attr Attr
	}{
		"dev":  {fs.ModeDevice | fs.ModeCharDevice | 0o600, Attr{Rdev: 5<<8 | 1}},
		"disk": {fs.ModeDevice | 0o660, Attr{GID: 6, Rdev: 70000&0xff | 259<<8 | (70000>>8)<<20}},
		"dir":  {fs.ModeDir | fs.ModeSticky | 0o777, Attr{UID: 1, GID: 2}},
	} {
		info, err := r.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		attr := info.Sys().(*Attr)
		if info.Mode() != want.mode || attr.Rdev != want.attr.Rdev || attr.UID != want.attr.UID || attr.GID != want.attr.GID {
			t.Errorf("%s: %v %+v, want %v %+v", name, info.Mode(), attr, want.mode, want.attr)
		}
	}
	f, err := r.Open("dev")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 1)); err == nil {
		t.Error("reading a device gave no error")
	}
	if _, err := r.ReadFile("dev"); err == nil {
		t.Error("ReadFile of a device gave no error")
	}
}

func TestReaderPaths(t *testing.T) {
	tree := newTestTree(t)
	tree.names()
	tree.links()
	r := openImage(t, tree.mksquashfs())
	for name, want := range map[string]string{
		"links/relative": "target", "links/absolute": "target", "links/up": "target", "links/chain": "target",
		"links/long": "target", "links/hard": "target", "links/dir/../links/target": "", `links/dir/with space and "quotes"`: "odd",
	} {
		data, err := r.ReadFile(name)
		if want == "" {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s: %v, want %v", name, err, fs.ErrInvalid)
			}
		} else if string(data) != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", name, data, err, want)
		}
	}
	for name, want := range map[string]error{
		"links/self": errReaderLinks, "links/dangling": fs.ErrNotExist, "links/target/x": errReaderNotDir,
		"nothing": fs.ErrNotExist, "many/file-number-": fs.ErrNotExist, "many/zzz": fs.ErrNotExist, "many/a": fs.ErrNotExist,
		"/links": fs.ErrInvalid, "": fs.ErrInvalid, "links/": fs.ErrInvalid, "\xff": fs.ErrNotExist,
	} {
		var pathError *fs.PathError
		if _, err := r.Stat(name); !errors.Is(err, want) || !errors.As(err, &pathError) || pathError.Path != name {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
	hard, err := r.Stat("links/hard")
	if err != nil {
		t.Fatal(err)
	}
	other, err := r.Stat("empty/hard")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := hard.Sys().(*Attr), other.Sys().(*Attr); a.Inode != b.Inode || a.Nlink != 3 {
		t.Errorf("hard links: %+v and %+v", a, b)
	}
}

// TestReaderLargeDirectory searches with the index of mksquashfs and with one made
// here. (gensquashfs makes none for 5,000 entries, and takes minutes for 70,000.)
func TestReaderLargeDirectory(t *testing.T) {
	for tool, count := range map[string]int{"mksquashfs": 70_000, "gensquashfs": 5_000} {
		t.Run(tool, func(t *testing.T) {
			if testing.Short() {
				count = min(count, 10_000)
			}
			tree := newTestTree(t)
			tree.must(os.Mkdir(tree.path("d"), 0o755))
			for i := range count {
				tree.must(os.WriteFile(tree.path(fmt.Sprintf("d/%x", i)), nil, 0o644))
			}
			if tool == "mksquashfs" {
				checkLarge(t, openImage(t, tree.mksquashfs("-comp", "zstd")).Reader, count)
			} else {
				checkLarge(t, openImage(t, tree.gensquashfs("-c", "gzip")).Reader, count)
			}
		})
	}
}

func checkLarge(t *testing.T, r *Reader, count int) {
	t.Helper()
	list, err := r.ReadDir("d")
	if err != nil || len(list) != count {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	if !slices.IsSortedFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }) {
		t.Error("not sorted")
	}
	checkBatches(t, r, list)
	dir, err := r.resolve("d", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("index of %d", dir.indexCount)
	checkLookups(t, r, dir, count)
	// A directory without an index; dropping the marks is as a new Reader.
	dir.indexCount = 0
	r.marks = newLRUCache[inodeRef, []readerMark](readerDirCache)
	checkLookups(t, r, dir, count)
	if marks, ok := r.marks.get(dir.ref); !ok || len(marks) < 3 {
		t.Errorf("%d marks made", len(marks))
	}
}

func checkLookups(t *testing.T, r *Reader, dir *readerInode, count int) {
	t.Helper()
	for i := range count {
		name := fmt.Sprintf("%x", i)
		if e, err := r.lookup(dir, name); err != nil || string(e.name) != name {
			t.Fatalf("%s: %q, %v", name, e.name, err)
		}
	}
	for _, name := range []string{"", "!", "g", "0000", "fffffff", "1116f~"} {
		if _, err := r.lookup(dir, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func checkBatches(t *testing.T, r fs.FS, want []fs.DirEntry) {
	t.Helper()
	f, err := r.Open("d")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := 0; ; {
		list, err := f.(fs.ReadDirFile).ReadDir(999)
		if err == io.EOF {
			if n != len(want) {
				t.Errorf("%d entries in batches, want %d", n, len(want))
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range list {
			if e.Name() != want[n+i].Name() {
				t.Fatalf("entry %d: %s, want %s", n+i, e.Name(), want[n+i].Name())
			}
		}
		n += len(list)
	}
}

// TestReaderLargeFile has a file over 4 GiB, almost all of it a hole.
func TestReaderLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("mksquashfs reads 5 GiB")
	}
	const size = 5<<30 + 123
	tree := newTestTree(t)
	f, err := os.Create(tree.path("large"))
	tree.must(err)
	tree.must(f.Truncate(size))
	marks := []int64{0, 1 << 31, 1<<32 - 3, 1<<32 + 131072, size - 6}
	for i, off := range marks {
		_, err := f.WriteAt(fmt.Appendf(nil, "mark %d", i), off)
		tree.must(err)
	}
	tree.must(f.Close())
	r := openImage(t, tree.mksquashfs("-comp", "zstd"))
	file, err := r.Open("large")
	tree.must(err)
	at := file.(io.ReaderAt)
	for i := range slices.Backward(marks) {
		b := make([]byte, 6)
		if _, err := at.ReadAt(b, marks[i]); err != nil || string(b) != fmt.Sprintf("mark %d", i) {
			t.Errorf("at %d: %q, %v", marks[i], b, err)
		}
	}
	if n, err := at.ReadAt(make([]byte, 10), size-4); n != 4 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if off, err := file.(io.Seeker).Seek(-6, io.SeekEnd); err != nil || off != size-6 {
		t.Errorf("Seek: %d, %v", off, err)
	}
	if b, err := io.ReadAll(file); string(b) != "mark 4" || err != nil {
		t.Errorf("after Seek: %q, %v", b, err)
	}
	if _, err := r.ReadFile("large"); err == nil {
		t.Error("ReadFile of 5 GiB gave no error")
	}
}

func TestReaderConcurrent(t *testing.T) {
	tree := newTestTree(t)
	tree.contents()
	tree.names()
	r := openImage(t, tree.mksquashfs("-comp", "zstd", "-b", "16K"))
	want, err := os.ReadFile(tree.path("content/holes"))
	tree.must(err)
	f, err := r.Open("content/holes")
	tree.must(err)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			b := make([]byte, 50_000)
			for i := range 40 {
				off := (i*4 + g) * 26_000
				n, err := f.(io.ReaderAt).ReadAt(b, int64(off))
				if err != nil && err != io.EOF || !bytes.Equal(b[:n], want[off:min(len(want), off+len(b))]) {
					t.Errorf("ReadAt %d: %d, %v", off, n, err)
				}
			}
			err := fs.WalkDir(r, ".", func(name string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				_, err = r.ReadFile(name)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestReaderConcurrentImages has goroutines read one image of each compression,
// with caches too small to help them.
func TestReaderConcurrentImages(t *testing.T) {
	names, err := filepath.Glob("testdata/*.squashfs")
	if err != nil || len(names) < 6 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		r := openImage(t, name).Reader
		r.meta, r.data = newLRUCache[uint64, *readerMeta](metadataSize), newLRUCache[readerBlock, []byte](5000)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 3 {
					if err := readEverything(r, 1000, 1<<20); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
		wg.Wait()
	}
}
