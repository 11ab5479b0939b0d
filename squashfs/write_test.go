//go:build linux

package squashfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/isopress/isopress/internal/guesttest"
	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/internal/treelist"
)

// writeImage writes the tree and returns the image's path.
func writeImage(t testing.TB, fsys fs.FS, opts Options) (string, *Result) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := Write(t.Context(), f, fsys, opts)
	if err != nil {
		t.Fatal(err)
	}
	return f.Name(), res
}

// full is a tree of everything the format holds.
func full(t testing.TB) testTree {
	t.Helper()
	tree := newTestTree(t).all()
	if os.Geteuid() == 0 {
		for name, dev := range map[string][3]int{"zero": {syscall.S_IFCHR, 1, 5}, "disk": {syscall.S_IFBLK, 259, 70_000}} {
			number := dev[2]&0xff | dev[1]<<8 | dev[2]&^0xff<<12
			tree.must(syscall.Mknod(tree.path("special/"+name), uint32(dev[0])|0o600, number))
		}
	}
	return tree
}

func treeListing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := treelist.Write(&b, dir, treelist.Options{Hardlinks: true}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// variants of an image that each take another way through the writer.
var variants = map[string]Options{
	"zstd":         {},
	"4K":           {BlockSize: 4 << 10},
	"128K":         {BlockSize: 128 << 10, Memory: 1},
	"no fragments": {NoFragments: true, BlockSize: 64 << 10, NoExport: true},
}

func TestUnsquashfsReadsIt(t *testing.T) {
	testenv.NeedTool(t, "unsquashfs")
	testenv.NeedRoot(t) // owners and devices
	tree := full(t)
	want := treeListing(t, tree.dir)
	all := map[string]Options{
		"gzip": {Compression: compression(t, "gzip")},
		"none": {Compression: compression(t, "none")},
	}
	for name, o := range variants {
		o.Compression = compression(t, "zstd:3")
		all[name] = o
	}
	for name, o := range all {
		t.Run(name, func(t *testing.T) {
			image, _ := writeImage(t, DirFS(tree.dir), o)
			dir := filepath.Join(t.TempDir(), "out")
			runTool(t, "unsquashfs", "-no-progress", "-strict-errors", "-d", dir, image)
			differ(t, want, treeListing(t, dir))
		})
	}
}

// differ reports the first differences of two listings.
func differ(t testing.TB, want, got string) {
	t.Helper()
	diffs, total, entries, err := treelist.Diff(strings.NewReader(want), strings.NewReader(got), 10)
	if err != nil {
		t.Fatal(err)
	}
	if total > 0 || entries == 0 {
		t.Errorf("%d differences in %d entries:\n%s", total, entries, strings.Join(diffs, "\n"))
	}
}

func TestKernelReadsIt(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest")
	}
	testenv.NeedRoot(t)
	tree := full(t)
	const blockSize = 64 << 10
	for name, f := range runsTree(blockSize) {
		tree.file("runs/"+name, f.Data)
	}
	for name, spec := range map[string]string{"zstd": "zstd:19", "gzip": "gzip:9"} {
		t.Run(name, func(t *testing.T) {
			image, res := writeImage(t, DirFS(tree.dir), Options{Compression: compression(t, spec), BlockSize: blockSize,
				Raw: []string{"runs/i-begins-alike", "runs/long", "runs/j-zeros"}, RawAlign: 4096})
			if res.SharedBlocks == 0 {
				t.Error("no file lies in another's blocks")
			}
			guesttest.CheckSquashfsTree(t, image, tree.dir, treelist.Options{Hardlinks: true})
		})
	}
}

func TestReaderReadsIt(t *testing.T) {
	tree := full(t)
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			o.Compression = compression(t, "zstd:1")
			image, _ := writeImage(t, DirFS(tree.dir), o)
			tree.same(openImage(t, image).Reader, true)
		})
	}
}

// shuffled answers ReadDir in another order each time.
type shuffled struct{ XattrFS }

func (s shuffled) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := fs.ReadDir(s.XattrFS, name)
	rand.Shuffle(len(d), func(i, j int) { d[i], d[j] = d[j], d[i] })
	return d, err
}
func (s shuffled) ReadLink(name string) (string, error)   { return fs.ReadLink(s.XattrFS, name) }
func (s shuffled) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(s.XattrFS, name) }

func TestSameBytes(t *testing.T) {
	tree := full(t)
	tree.file("raw", words(1, 700<<10))
	fsys := DirFS(tree.dir).(XattrFS)
	raw := []string{"raw"}
	for name, opts := range map[string]Options{
		"zstd":      {Compression: compression(t, "zstd:3")},
		"xz":        {Compression: compression(t, "xz:1")},
		"gzip":      {Compression: compression(t, "gzip:9")},
		"lz4":       {Compression: compression(t, "lz4:hc")},
		"directory": {Compression: compression(t, "zstd:3"), Order: OrderDirectory},
	} {
		if testing.Short() && name != "zstd" && name != "xz" {
			continue // the long run has them
		}
		t.Run(name, func(t *testing.T) {
			opts.BlockSize = 128 << 10
			opts.Raw = raw
			want := imageBytes(t, fsys, opts)
			for _, workers := range []int{1, 2, 8} {
				opts.Workers = workers
				if !bytes.Equal(imageBytes(t, shuffled{fsys}, opts), want) {
					t.Errorf("%d workers: another image", workers)
				}
			}
			opts.ModTime = time.Unix(1e9, 0)
			if bytes.Equal(imageBytes(t, fsys, opts), want) {
				t.Error("an image with another date has the same bytes: the comparison sees nothing")
			}
		})
	}
}

func TestImageOfImage(t *testing.T) {
	tree := full(t)
	opts := Options{Compression: compression(t, "zstd:3")}
	first, _ := writeImage(t, DirFS(tree.dir), opts)
	second, _ := writeImage(t, openImage(t, first), opts)
	a, _ := os.ReadFile(first)
	b, _ := os.ReadFile(second)
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Errorf("image of %d bytes, the image of it has %d others", len(a), len(b))
	}
}

func TestLargeDirectory(t *testing.T) {
	testenv.NeedTool(t, "unsquashfs")
	tree := newTestTree(t)
	const n = 70_000
	tree.must(os.Mkdir(tree.path("d"), 0o755))
	for i := range n {
		// Short names: the kernel reads a directory's whole index for each look-up.
		tree.must(os.Symlink("x", tree.path(fmt.Sprintf("d/%d-%s", i, strings.Repeat("n", i%20)))))
	}
	image, _ := writeImage(t, DirFS(tree.dir), Options{Compression: compression(t, "gzip:1")})
	out := runTool(t, "unsquashfs", "-no-progress", "-l", image)
	if got := strings.Count(out, "\n"); got != n+2 {
		t.Errorf("unsquashfs lists %d entries, want %d", got, n+2)
	}
	if !testing.Short() {
		guesttest.CheckSquashfsTree(t, image, tree.dir, treelist.Options{})
	}
}

func TestOptionsChangeTheImage(t *testing.T) {
	tree := full(t)
	date := time.Unix(1_500_000_000, 0)
	image, _ := writeImage(t, DirFS(tree.dir), Options{Compression: compression(t, "zstd:1"),
		AllRoot: true, NoHardLinks: true, NoXattrs: true, ModTime: date, MaxModTime: date,
		Exclude: func(name string, d fs.DirEntry) bool { return name == "content" || d.Name() == "pipe" }})
	r := openImage(t, image)
	if !r.Superblock().Modified.Equal(date) {
		t.Errorf("image's date %v, want %v", r.Superblock().Modified, date)
	}
	err := fs.WalkDir(r, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		a := info.Sys().(*Attr)
		if a.UID != 0 || a.GID != 0 || !info.IsDir() && a.Nlink != 1 || info.ModTime().After(date) {
			t.Errorf("%s: %+v, %v", name, a, info.ModTime())
		}
		if strings.HasPrefix(name, "content") || d.Name() == "pipe" {
			t.Errorf("%s: is there, although it was excluded", name)
		}
		if x, err := r.Xattrs(name); len(x) > 0 || err != nil {
			t.Errorf("%s: xattrs %v, %v", name, x, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDuplicatesAreStoredOnce(t *testing.T) {
	big, small, tail := random(1, 3<<20+1000), random(2, 5000), random(1, 3<<20+1000)[3<<20:]
	fsys := fstest.MapFS{}
	for i := range 10 {
		fsys[fmt.Sprintf("big%d", i)] = &fstest.MapFile{Data: big}
		fsys[fmt.Sprintf("small%d", i)] = &fstest.MapFile{Data: small}
		fsys[fmt.Sprintf("tail%d", i)] = &fstest.MapFile{Data: tail}
		fsys[fmt.Sprintf("zero%d", i)] = &fstest.MapFile{Data: make([]byte, 4<<20)}
	}
	_, res := writeImage(t, fsys, Options{})
	if want := int64(len(big) + len(small)); res.PlannedBytes != want {
		t.Errorf("%d bytes planned, want %d", res.PlannedBytes, want)
	}
	if res.Size > int64(len(big)+len(small))+16<<10 {
		t.Errorf("image has %d bytes", res.Size)
	}
}

func TestMaxSize(t *testing.T) {
	tree := full(t)
	for _, spec := range []string{"none", "zstd:1"} {
		plan, err := Prepare(t.Context(), DirFS(tree.dir), Options{Compression: compression(t, spec), BlockSize: 4 << 10})
		if err != nil {
			t.Fatal(err)
		}
		bound := plan.MaxSize()
		res, err := plan.Write(t.Context(), discard{})
		if err != nil {
			t.Fatal(err)
		}
		if res.Size > bound || spec == "none" && res.Size < bound/2 {
			t.Errorf("%s: %d bytes, bound %d", spec, res.Size, bound)
		}
	}
}

type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// changing is a file whose content differs from what its size says, or from
// reading to reading.
type changing struct {
	fstest.MapFS
	content func(reading int) []byte
	opened  *int
}

func (c changing) Open(name string) (fs.File, error) {
	f, err := c.MapFS.Open(name)
	if name != "dir/victim" || err != nil {
		return f, err
	}
	*c.opened++
	return otherContent{f, bytes.NewReader(c.content(*c.opened))}, nil
}

type otherContent struct {
	fs.File
	r io.Reader
}

func (o otherContent) Read(b []byte) (int, error) { return o.r.Read(b) }

func TestChangingFiles(t *testing.T) {
	data := random(1, 100_000)
	other := bytes.Clone(data)
	other[50_000]++
	for want, content := range map[error]func(int) []byte{
		errShrunk: func(int) []byte { return data[:99_999] },
		errGrown:  func(int) []byte { return append(bytes.Clone(data), 0) },
		errChanged: func(reading int) []byte {
			if reading == 1 {
				return data
			}
			return other
		},
	} {
		fsys := changing{fstest.MapFS{"dir/victim": {Data: data}}, content, new(int)}
		_, err := Write(t.Context(), discard{}, openOnly{fsys}, Options{})
		if !errors.Is(err, want) || !errors.Is(err, ErrChanged) || !strings.Contains(fmt.Sprint(err), "dir/victim") {
			t.Errorf("error %v, want %v that names the file", err, want)
		}
	}
}

// openOnly hides all but Open.
type openOnly struct{ fs.FS }

func TestErrors(t *testing.T) {
	ok := fstest.MapFS{"a": {Data: random(1, 3<<20)}}
	for name, tc := range map[string]struct {
		fsys fs.FS
		opts Options
		want string
	}{
		"block size":   {ok, Options{BlockSize: 5000}, "power of two"},
		"workers":      {ok, Options{Workers: -1}, "workers"},
		"memory":       {ok, Options{Memory: -1}, "memory"},
		"image date":   {ok, Options{ModTime: time.Unix(-1, 0)}, "outside 1970 to 2106"},
		"latest date":  {ok, Options{MaxModTime: time.Unix(-5, 0)}, "squashfs: latest date of files: over what squashfs holds: date 1969-12-31"},
		"long name":    {fstest.MapFS{strings.Repeat("x", 257): {}}, Options{}, "name of 257 bytes"},
		"type":         {fstest.MapFS{"d/a": {Mode: fs.ModeIrregular}}, Options{}, "squashfs: d/a: squashfs holds no file of type"},
		"no root":      {fstest.MapFS{".": {Mode: 0o644}}, Options{}, "not a directory"},
		"missing":      {os.DirFS("/nonexistent"), Options{}, "no such file"},
		"no fs":        {nil, Options{}, "fsys is nil"},
		"nil Attr":     {fstest.MapFS{"a": {Sys: (*Attr)(nil)}}, Options{}, "squashfs: a: Sys is a nil *Attr"},
		"long target":  {fstest.MapFS{"l": {Mode: fs.ModeSymlink, Data: make([]byte, 70_000)}}, Options{}, "symbolic link of 70000 bytes"},
		"listed twice": {twice{ok}, Options{}, `"a" is listed twice`},
	} {
		_, err := Write(t.Context(), discard{}, tc.fsys, tc.opts)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
}

type twice struct{ fstest.MapFS }

func (f twice) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := f.MapFS.ReadDir(name)
	return append(d, d...), err
}

func TestDatesOutOfRange(t *testing.T) {
	fsys := fstest.MapFS{".": {Mode: fs.ModeDir | 0o755, ModTime: time.Unix(5, 0)},
		"early": {ModTime: time.Unix(-1, 0)}, "fine": {ModTime: time.Unix(5, 0)}, "late": {ModTime: time.Unix(1<<33, 0)}, "later": {ModTime: time.Unix(1<<34, 0)}}
	var warned []string
	image, _ := writeImage(t, fsys, Options{Warn: func(path, msg string) { warned = append(warned, path+": "+msg) }})
	r := openImage(t, image)
	for name, want := range map[string]int64{"early": 0, "fine": 5, "late": math.MaxUint32} {
		info, err := r.Stat(name)
		if err != nil || info.ModTime().Unix() != want {
			t.Errorf("%s: date %v, error %v, want %d", name, info.ModTime(), err, want)
		}
	}
	if len(warned) != 1 || !strings.HasPrefix(warned[0], "early: date outside of 1970 to 2106") || !strings.HasSuffix(warned[0], "; so in 2 more files") {
		t.Errorf("warnings %q", warned)
	}
}

// counting counts the files that are open.
type counting struct {
	fs.FS
	open *atomic.Int64
}

type countedFile struct {
	*os.File
	open *atomic.Int64
}

func (f countedFile) Close() error { f.open.Add(-1); return f.File.Close() }

func (c counting) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if file, ok := f.(*os.File); ok && err == nil {
		c.open.Add(1)
		return countedFile{file, c.open}, nil
	}
	return f, err
}

func TestFilesAreClosed(t *testing.T) {
	tree := newTestTree(t)
	for i := range 20 {
		tree.file(fmt.Sprintf("f%02d", i), random(uint64(i), 40<<10))
	}
	opts := Options{Compression: compression(t, "zstd:1"), BlockSize: 4 << 10, Workers: 4}
	for i := range int64(50) {
		fsys := counting{DirFS(tree.dir), new(atomic.Int64)}
		if _, err := Write(t.Context(), &failing{i << 10}, fsys, opts); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if n := fsys.open.Load(); n != 0 {
			t.Fatalf("%d files are open after a failed write", n)
		}
	}
}

// failing fails once it has taken n bytes.
type failing struct{ n int64 }

func (f *failing) WriteAt(b []byte, _ int64) (int, error) {
	if f.n -= int64(len(b)); f.n < 0 {
		return 0, syscall.ENOSPC
	}
	return len(b), nil
}

func TestFullDisk(t *testing.T) {
	tree := full(t)
	res, err := Write(t.Context(), discard{}, DirFS(tree.dir), Options{Compression: compression(t, "zstd:1")})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{0, 1000, res.DataBytes / 2, res.DataBytes, res.BytesUsed - 1, res.Size - 1} {
		_, err := Write(t.Context(), &failing{n}, DirFS(tree.dir), Options{Compression: compression(t, "zstd:1")})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("room for %d bytes: error %v, want ENOSPC", n, err)
		}
	}
}

// interrupting cancels when the writing is under way.
type interrupting struct {
	cancel context.CancelFunc
	n      int
}

func (i *interrupting) WriteAt(b []byte, _ int64) (int, error) {
	if i.n++; i.n == 3 {
		i.cancel()
	}
	return len(b), nil
}

func TestInterrupt(t *testing.T) {
	tree := full(t)
	opts := Options{Compression: compression(t, "zstd:1"), BlockSize: 4 << 10}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Write(ctx, &interrupting{cancel: cancel}, DirFS(tree.dir), opts); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted while writing: %v", err)
	}
	if _, err := Write(ctx, discard{}, DirFS(tree.dir), opts); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted before: %v", err)
	}
	for _, stage := range []Stage{StageScan, StageHash, StageWrite} {
		ctx, cancel := context.WithCancel(t.Context())
		opts := opts
		opts.Progress = func(p Progress) {
			if p.Stage == stage && p.Done >= p.Total { // the last of it: what follows must notice
				cancel()
			}
		}
		if _, err := Write(ctx, discard{}, DirFS(tree.dir), opts); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at the end of stage %d: %v", stage, err)
		}
	}
}

func TestPlanIsWrittenOnce(t *testing.T) {
	plan, err := Prepare(t.Context(), fstest.MapFS{"a": {Data: []byte("x")}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Write(t.Context(), &failing{10}); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if _, err := plan.Write(t.Context(), discard{}); err == nil {
		t.Error("a plan that failed was written again")
	}
}

// A size that is not true must cost neither memory nor a panic.
func TestHugeSizes(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int64{math.MaxInt64, 1 << 60} {
		fsys := sized{fstest.MapFS{"d/a": {Data: []byte("x")}}, size}
		if _, err := Write(t.Context(), discard{}, fsys, Options{BlockSize: 4 << 10}); !errors.Is(err, ErrTooLarge) && !errors.Is(err, errShrunk) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "fifo"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	fsys := replaced{DirFS(dir), func() {
		os.Remove(filepath.Join(dir, "fifo"))
		_ = syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600)
	}}
	if _, err := Write(t.Context(), discard{}, fsys, Options{}); !errors.Is(err, errChanged) {
		t.Errorf("a pipe in a file's place: %v", err)
	}
	empty := fstest.MapFS{"a": {}}
	if _, err := Write(t.Context(), discard{}, changingEmpty{empty}, Options{}); !errors.Is(err, errNotEmpty) {
		t.Errorf("an empty file that has content: %v", err)
	}
}

// sized says another size of d/a.
type sized struct {
	fstest.MapFS
	size int64
}

func (s sized) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := s.MapFS.ReadDir(name)
	if name == "d" {
		info, _ := d[0].Info()
		d[0] = fs.FileInfoToDirEntry(sizedInfo{info, s.size})
	}
	return d, err
}

type sizedInfo struct {
	fs.FileInfo
	size int64
}

func (s sizedInfo) Size() int64 { return s.size }

// replaced does something before each Open.
type replaced struct {
	fs.FS
	do func()
}

func (r replaced) Open(name string) (fs.File, error) { r.do(); return r.FS.Open(name) }
func (r replaced) ReadDir(name string) ([]fs.DirEntry, error) {
	return fs.ReadDir(r.FS, name)
}
func (r replaced) Stat(name string) (fs.FileInfo, error) { return fs.Stat(r.FS, name) }

// changingEmpty has files of content that say they are empty.
type changingEmpty struct{ fstest.MapFS }

func (c changingEmpty) Open(name string) (fs.File, error) {
	f, err := c.MapFS.Open(name)
	return otherContent{f, strings.NewReader("x")}, err
}
func (c changingEmpty) ReadDir(name string) ([]fs.DirEntry, error) { return c.MapFS.ReadDir(name) }
func (c changingEmpty) Stat(name string) (fs.FileInfo, error)      { return c.MapFS.Stat(name) }

func TestWarnsOfXattrsLeftOut(t *testing.T) {
	fsys := acl{fstest.MapFS{"a": {}}}
	var warned string
	_, err := Write(t.Context(), discard{}, fsys, Options{Warn: func(path, msg string) { warned += path + ": " + msg }})
	if err != nil || !strings.Contains(warned, ".: xattr system.posix_acl_access left out: squashfs holds only user, trusted and security; so in 1 more files") {
		t.Errorf("warned %q, error %v", warned, err)
	}
}

type acl struct{ fstest.MapFS }

func (acl) Xattrs(name string) (map[string][]byte, error) {
	return map[string][]byte{"system.posix_acl_access": {1}, "user.a": {2}}, nil
}

// BenchmarkWrite presses a tree of its own, or the one that ISOPRESS_BENCH_TREE
// names. With -cpuprofile it tells where the time goes.
func BenchmarkWrite(b *testing.B) {
	tree := newTestTree(b)
	if dir := os.Getenv("ISOPRESS_BENCH_TREE"); dir != "" {
		tree.dir = dir
	} else {
		benchmarkTree(tree)
	}
	for _, spec := range []string{"none", "lz4", "lz4:hc", "zstd:1", "zstd:3", "zstd:19", "gzip:9", "xz"} {
		b.Run(spec, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				res, err := Write(b.Context(), discard{}, DirFS(tree.dir), Options{Compression: compression(b, spec)})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(res.Bytes)
			}
		})
	}
}

func benchmarkTree(tree testTree) {
	for i := range 2000 {
		tree.file(fmt.Sprintf("small/%d", i), text(uint64(i), 500+i*7%20_000))
	}
	for i := range 20 {
		tree.file(fmt.Sprintf("large/%d", i), append(random(uint64(i), 500_000), text(uint64(i), 2_000_000)...))
	}
}

func BenchmarkSketch(b *testing.B) {
	data := words(1, 1<<20)
	b.SetBytes(int64(len(data)))
	var s sketcher
	for b.Loop() {
		s.sketch(data)
	}
}
