//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
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

// cachedBuild is an ISO of the test closure that is built with caches in many states, and must be the
// same with all.
type cachedBuild struct {
	dir   string
	cache string // --cache
	args  []string
	want  []byte
	took  time.Duration // of the slowest build so far
}

// newCachedBuild builds it without a cache. Its kernel lies in the squashfs, its initrd beside it.
func newCachedBuild(t testing.TB, compression string, more ...string) *cachedBuild {
	t.Helper()
	b := &cachedBuild{dir: t.TempDir()}
	b.cache = filepath.Join(b.dir, "cache")
	initrd := filepath.Join(b.dir, "initrd")
	if code, _, errs := isopress(t, "initrd", "--init", "none", "--add", t.TempDir()+":/x", "-o", initrd, "-q"); code != exitDone {
		t.Fatal(errs)
	}
	// The init binary is not needed, but would be built each time.
	b.args = demoArgs(t, b.out(), append(more, "--initrd", initrd, "--init-binary", initrd, "--compression", compression, "--block-size", "128K")...)
	b.want = b.press(t, "", "--cache", "off")
	return b
}

func (b *cachedBuild) out() string { return b.dir + "/out/image.iso" }

// emptyOut makes the output's directory, without what a killed build has left in it.
func (b *cachedBuild) emptyOut(t testing.TB) {
	t.Helper()
	dir := filepath.Dir(b.out())
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
}

// anything is a warning or none.
const anything = "*"

// press runs the build to its end and returns the image. What it says must contain warning; it
// must be nothing where that is "".
func (b *cachedBuild) press(t testing.TB, warning string, more ...string) []byte {
	t.Helper()
	b.emptyOut(t)
	begin := time.Now()
	code, _, errs := isopress(t, append(b.args, append(more, "-q")...)...)
	b.took = max(b.took, time.Since(begin))
	said := warning == anything || strings.Contains(errs, warning) && (warning != "" || errs == "")
	if code != exitDone || !said {
		t.Fatalf("%q: exit code %d: %q, want %q", more, code, errs, warning)
	}
	image, err := os.ReadFile(b.out())
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// pressSame runs the build with the cache, which must find all in order and make it complete.
func (b *cachedBuild) pressSame(t testing.TB, warning string, more ...string) {
	t.Helper()
	if !bytes.Equal(b.press(t, warning, append(more, "--cache", b.cache)...), b.want) {
		t.Fatalf("%q: another image", more)
	}
	b.verify(t)
}

// verify wants a cache without damage.
func (b *cachedBuild) verify(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(b.cache); errors.Is(err, fs.ErrNotExist) {
		return // killed before it was made
	}
	if code, _, errs := isopress(t, "cache", "verify", "--cache", b.cache, "-q"); code != exitDone || errs != "" {
		t.Fatalf("cache verify: exit code %d: %s", code, errs)
	}
}

// blobs are the cache's files of one kind.
func (b *cachedBuild) blobs(t testing.TB, kind string) []string {
	t.Helper()
	files, err := filepath.Glob(b.cache + "/" + kind + "/??/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no %ss in the cache: %v", kind, err)
	}
	return files
}

// thin leaves nothing of the cache, some of it, or all.
func (b *cachedBuild) thin(t testing.TB) {
	t.Helper()
	var share float64
	switch rand.IntN(4) {
	case 0:
		if err := os.RemoveAll(b.cache); err != nil {
			t.Fatal(err)
		}
		return
	case 1, 2:
		share = rand.Float64()
	}
	for _, kind := range []string{"block", "tree", "file"} {
		files, _ := filepath.Glob(b.cache + "/" + kind + "/??/*")
		for _, f := range files {
			if rand.Float64() < share {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// process is isopress in a process of its own.
type process struct {
	*exec.Cmd
	ended chan struct{}
	err   error // once it has ended
}

func start(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("isopress", args...), ended: make(chan struct{})}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.Wait()
	}()
	return p
}

// kill ends it after a while, and tells whether it was still at work.
func (p *process) kill(after time.Duration) bool {
	select {
	case <-time.After(after):
		_ = p.Process.Kill() // an error is that it has ended
		<-p.ended
	case <-p.ended:
	}
	return p.err != nil
}

// checkOut wants the whole image under the output's name, or nothing.
func (b *cachedBuild) checkOut(t testing.TB, out string) {
	t.Helper()
	image, err := os.ReadFile(out)
	if !errors.Is(err, fs.ErrNotExist) && (err != nil || !bytes.Equal(image, b.want)) {
		t.Fatalf("a killed build has left an image that is not whole: %d bytes of %d, %v", len(image), len(b.want), err)
	}
}

// whenWritten waits until the temporary output has its whole size. What is left to do then is to trim
// the cache, to sync and to rename.
func (b *cachedBuild) whenWritten(p *process) {
	for {
		found, _ := filepath.Glob(filepath.Dir(b.out()) + "/.image.iso*")
		for _, f := range found {
			if info, err := os.Stat(f); err == nil && info.Size() >= int64(len(b.want)) {
				return
			}
		}
		select {
		case <-p.ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// Whatever moment a build is killed at, the next one is right, and the cache is sound.
func TestKilledBuilds(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	kills := 50
	if testing.Short() {
		kills = 10
	}
	killed, tried := 0, 0
	for ; killed < kills && tried < 20*kills; tried++ {
		b.thin(t)
		b.emptyOut(t)
		p := start(t, append(b.args, "--cache", b.cache)...)
		after := rand.N(b.took * 2 / 3)
		if tried%5 == 0 {
			b.whenWritten(p)
			after = rand.N(20 * time.Millisecond)
		}
		if p.kill(after) {
			killed++
		}
		b.checkOut(t, b.out())
		b.verify(t)
		b.pressSame(t, "")
	}
	if t.Logf("%d of %d were killed at work", killed, tried); killed < kills {
		t.Error("too few to say anything")
	}
}

// Builds and a gc that share a cache are killed, or are not, and then are right.
func TestKilledTogether(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	b.pressSame(t, "")
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for i := range rounds {
		b.thin(t)
		b.emptyOut(t)
		other := filepath.Dir(b.out()) + "/other.iso"
		jobs := []*process{
			start(t, append(b.args, "--cache", b.cache)...),
			start(t, append(withOutput(b.args, other), "--cache", b.cache)...),
		}
		if _, err := os.Stat(b.cache); err == nil {
			jobs = append(jobs, start(t, "cache", "gc", "--cache", b.cache, "--limit", "1M"))
		}
		spared := i % 3 // this one is let alone; 2 may be none
		var wg sync.WaitGroup
		for k, p := range jobs {
			wg.Go(func() {
				after := rand.N(2 * b.took)
				if k == spared {
					after = time.Hour
				}
				if p.kill(after) && k == spared {
					t.Errorf("%q failed beside others that were killed: %v", p.Args, p.err)
				}
			})
		}
		wg.Wait()
		b.checkOut(t, b.out())
		b.checkOut(t, other)
		b.verify(t)
		b.pressSame(t, "")
	}
}

// withOutput are a build's arguments with another output.
func withOutput(args []string, out string) []string {
	args = append([]string(nil), args...)
	for i := range args {
		if i > 0 && args[i-1] == "-o" {
			args[i] = out
		}
	}
	return args
}

// A cache on a disk that is full keeps what fits, and the build goes on.
func TestCacheOnFullDisk(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	for _, size := range []string{"4K", "64K", "300K", "1M", "2M", "3M", "64M"} {
		t.Run(size, func(t *testing.T) {
			b.cache = smallDisk(t, size) + "/cache"
			full := "nothing more is kept: "
			if size == "64M" {
				full = ""
			}
			for range 2 {
				b.pressSame(t, full)
			}
		})
	}
}

// An output on a disk that is full is an error that says so, leaves nothing, and does the cache no harm, be
// that on the same disk.
func TestOutputOnFullDisk(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	for _, size := range []string{"1M", "6M", "12M"} {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, shared %v", size, shared), func(t *testing.T) {
				disk := smallDisk(t, size)
				cache := t.TempDir()
				if shared {
					cache = disk + "/cache"
				}
				code, _, errs := isopress(t, append(withOutput(b.args, disk+"/image.iso"), "--cache", cache)...)
				if code != exitFailed || !strings.Contains(errs, disk) ||
					!strings.Contains(errs, "no space left on device") && !strings.Contains(errs, "MiB needed") {
					t.Errorf("exit code %d: %s", code, errs)
				}
				if found, err := filepath.Glob(disk + "/*image*"); err != nil || len(found) > 0 {
					t.Errorf("left: %q, %v", found, err)
				}
				b.cache = cache
				b.verify(t)
				b.pressSame(t, anything)
				if !shared {
					empty(t, disk)
				}
			})
		}
	}
}

// A cache that cannot be written to, or is none, is told of, and the build goes on.
func TestUselessCaches(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	b.pressSame(t, "")
	t.Run("file", func(t *testing.T) {
		file := filepath.Join(b.dir, "file")
		if err := os.WriteFile(file, []byte("not a cache"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, cache := range []string{file, file + "/below", "/proc/cache"} {
			if !bytes.Equal(b.press(t, "warning: the build goes on without a cache: ", "--cache", cache), b.want) {
				t.Errorf("%s: another image", cache)
			}
		}
	})
	t.Run("no home", func(t *testing.T) {
		t.Setenv("HOME", "")
		t.Setenv("XDG_CACHE_HOME", "")
		if !bytes.Equal(b.press(t, "warning: the build goes on without a cache: no cache directory"), b.want) {
			t.Error("another image")
		}
	})
	t.Run("within the tree", func(t *testing.T) {
		tree, dir := randomTree(t, 100), t.TempDir()
		for _, cache := range []string{tree, tree + "/", tree + "/new/cache", dir + "/../" + filepath.Base(dir) + "/link/new"} {
			if strings.Contains(cache, "link") {
				if err := os.Symlink(tree, dir+"/link"); err != nil {
					t.Fatal(err)
				}
			}
			code, _, errs := isopress(t, "squashfs", "--root", tree, "-o", dir+"/out", "--cache", cache, "-q")
			if code != exitDone || !strings.Contains(errs, "goes on without a cache: "+cache+" lies within "+tree) {
				t.Errorf("exit code %d: %s", code, errs)
			}
		}
		if found, err := os.ReadDir(tree); err != nil || len(found) != 2 {
			t.Errorf("the tree holds %v, %v", found, err)
		}
	})
}

// What lies on a disk that is read-only is used.
func TestReadOnlyCache(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	disk := smallDisk(t, "64M")
	b.cache = disk + "/cache"
	b.pressSame(t, "")
	if err := os.Remove(b.blobs(t, "block")[0]); err != nil {
		t.Fatal(err)
	}
	damaged := b.blobs(t, "tree")[0]
	flipBits(t, damaged)
	readOnly(t, disk)
	if !bytes.Equal(b.press(t, "cannot be removed: read-only file system", "--cache", b.cache), b.want) {
		t.Error("another image")
	}
}

// The image, what --json prints of it and what is said of it are the same whatever is known before, and
// however many work at it.
func TestSameBytesWithCaches(t *testing.T) {
	testenv.NeedTool(t, "grub-mkimage")
	c := testenv.Closure(t)
	for name, b := range map[string]*cachedBuild{
		"stub, similar":   newCachedBuild(t, "zstd:3"),
		"stub, directory": newCachedBuild(t, "lz4:hc:4", "--order", "directory"),
		"stub, fast":      newCachedBuild(t, "zstd:1"),
		"excluded":        newCachedBuild(t, "gzip:4", "--exclude", "modules.*"),
		"grub":            newCachedBuild(t, "zstd:4", "--boot-loader", "grub"),
	} {
		t.Run(name, func(t *testing.T) { b.inAllStates(t) })
	}
	t.Run("no registration", func(t *testing.T) {
		b := newCachedBuild(t, "zstd:3", "--boot-loader", "grub", "--fat32")
		b.args = slices.DeleteFunc(b.args, func(arg string) bool { return arg == "--registration" || arg == c.Registration })
		b.want = b.press(t, "", "--cache", "off")
		b.inAllStates(t)
		if _, err := os.Stat(b.cache + "/tree"); err == nil {
			t.Error("store paths of no known hash were kept by it")
		}
	})
}

// inAllStates builds with a cache that is cold or warm, with the image as its base, with both and with none.
func (b *cachedBuild) inAllStates(t *testing.T) {
	base := filepath.Join(b.dir, "base.iso")
	if err := os.WriteFile(base, b.want, 0o600); err != nil {
		t.Fatal(err)
	}
	var said string
	for _, jobs := range []string{"1", "2", "8"} {
		if err := os.RemoveAll(b.cache); err != nil {
			t.Fatal(err)
		}
		for _, caches := range [][]string{
			{"--cache", "off"},
			{"--cache", "off", "--base", base},
			{"--cache", b.cache},
			{"--cache", b.cache},
			{"--cache", b.cache, "--base", base},
			{"--cache", b.cache, "--base", b.out()}, // which it replaces
		} {
			code, out, errs := isopress(t, append(b.args, append(caches, "-j", jobs, "--json")...)...)
			image, err := os.ReadFile(b.out())
			if code != exitDone || err != nil || !bytes.Equal(image, b.want) {
				t.Fatalf("-j %s %q: another image; exit code %d, %v: %s", jobs, caches, code, err, errs)
			}
			if said == "" {
				said = out + errs
			}
			if out+errs != said {
				t.Errorf("-j %s %q: said\n%s, and before\n%s", jobs, caches, out+errs, said)
			}
		}
	}
	b.verify(t)
}
