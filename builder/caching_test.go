package builder

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isopress/isopress/internal/cache"
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/squashfs"
)

// registeredClosure is a closure of two store paths that compress, with a registration.
func registeredClosure(t *testing.T) *Closure {
	t.Helper()
	text := func(seed, n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "%d %d\n", seed, i*i%7919)
		}
		return b.String()
	}
	c := testClosure(t, map[string]string{
		top + "/init":       text(1, 5000),
		top + "/share/text": text(2, 300_000),
		top + "/link":       "-> " + linux + "/bzImage",
		linux + "/bzImage":  text(3, 700_000),
	})
	for _, p := range c.paths {
		c.registration = append(c.registration, nix.PathInfo{Path: p, NarHash: narHash(t, c, nix.Base(p))})
	}
	return c
}

// narHash is the hash of a store path's NAR, in base16.
func narHash(t *testing.T, c *Closure, name string) string {
	t.Helper()
	h := sha256.New()
	w := nix.NewNARWriter(h)
	store := c.FS().(*storeFS)
	err := fs.WalkDir(store, name, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		header := nix.NARHeader{Depth: strings.Count(p, "/"), Name: d.Name(), Mode: info.Mode(), Size: info.Size()}
		if d.Type() == fs.ModeSymlink {
			header.Target, err = store.ReadLink(p)
		}
		if err = errors.Join(err, w.WriteHeader(header)); err == nil && d.Type().IsRegular() {
			var b []byte
			b, err = fs.ReadFile(store, p)
			_, err2 := w.Write(b)
			err = errors.Join(err, err2)
		}
		return err
	})
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func squashfsOptionsOf(t *testing.T, c *Closure) Options {
	t.Helper()
	codec, err := squashfs.ParseCompression("zstd:3")
	if err != nil {
		t.Fatal(err)
	}
	return Options{Source: Source{Closure: c}, Compression: codec, BlockSize: 64 << 10, Cache: t.TempDir(),
		Output: filepath.Join(t.TempDir(), "image"), NoDigest: true}
}

// pressed is the image of a build.
func pressed(t *testing.T, o Options) []byte {
	t.Helper()
	if _, err := Squashfs(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Progress counts up to its total and not beyond, of whatever is known before; what a cache has counts as
// done.
func TestProgressWithCaches(t *testing.T) {
	o := squashfsOptionsOf(t, registeredClosure(t))
	base := filepath.Join(t.TempDir(), "base")
	for _, state := range []string{"cold", "warm", "base", "base and damaged cache"} {
		b := o
		if strings.HasPrefix(state, "base") {
			b.Base = base
		}
		if state == "base" {
			b.Cache = ""
		}
		warned := 0
		if strings.HasSuffix(state, "damaged cache") {
			damageAll(t, o.Cache)
			damageBlocks(t, base)
		}
		last := map[string]Progress{}
		b.Warn = func(string) { warned++ }
		b.Progress = func(p Progress) {
			before := last[p.Phase]
			if p.Done < before.Done || p.Written < before.Written || p.Total > 0 && p.Done > p.Total {
				t.Errorf("%s: %+v after %+v", state, p, before)
			}
			last[p.Phase] = p
		}
		image := pressed(t, b)
		for _, phase := range []string{"read", "press"} {
			if p := last[phase]; p.Done != p.Total || phase == "press" && p.Total == 0 {
				t.Errorf("%s: ends with %+v", state, p)
			}
		}
		registration := int64(len(nix.FormatRegistration(o.Source.Closure.registration))) // is no store path
		if total := last["read"].Total; state == "cold" && total == registration || state == "warm" && total != registration {
			t.Errorf("%s: read %+v", state, last["read"])
		}
		if (warned > 1) != strings.HasSuffix(state, "damaged cache") {
			t.Errorf("%s: %d warnings", state, warned)
		}
		if err := os.WriteFile(base, image, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The cache tells of damage while package squashfs tells of progress: not at once.
func TestMessagesOneAtATime(t *testing.T) {
	o := squashfsOptionsOf(t, registeredClosure(t))
	var inside, calls atomic.Int32
	alone := func() {
		if inside.Add(1) != 1 {
			t.Error("called while it, or the other, is")
		}
		time.Sleep(time.Millisecond)
		inside.Add(-1)
		calls.Add(1)
	}
	o.Warn, o.Progress = func(string) { alone() }, func(Progress) { alone() }
	o.openCache()
	defer o.closeCache()
	var g errgroup.Group
	for range 20 {
		g.Go(func() error { o.warn("damaged"); return nil })
		g.Go(func() error { o.progress(Progress{}); return nil })
	}
	if _ = g.Wait(); calls.Load() != 40 {
		t.Errorf("%d calls", calls.Load())
	}
}

// damageAll flips a bit of each blob.
func damageAll(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*/??/*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files in the cache, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 4
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// damageBlocks flips a bit each few KiB of the first half of an image.
func damageBlocks(t *testing.T, image string) {
	t.Helper()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for at := 200; at < len(b)/2; at += 3000 {
		b[at] ^= 4
	}
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A tree's blob whose content is not what the program writes, or another tree's, is not used.
func TestTreesOfOthers(t *testing.T) {
	o := squashfsOptionsOf(t, registeredClosure(t))
	want := pressed(t, o)
	type blob struct {
		key  cache.Key
		data []byte
	}
	var blobs []blob
	store, err := cache.Open(o.Cache, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(o.Cache + "/tree/??/*")
	for _, f := range files {
		digits, err := hex.DecodeString(filepath.Base(filepath.Dir(f)) + filepath.Base(f))
		if err != nil {
			t.Fatal(err)
		}
		key := cache.Key(digits)
		blobs = append(blobs, blob{key, store.Load(cachedTrees, key, nil)})
	}
	if len(blobs) != 2 || blobs[0].data == nil {
		t.Fatalf("%d trees are kept", len(blobs))
	}
	for name, change := range map[string]func(b []byte) []byte{
		"empty":    func(b []byte) []byte { return nil },
		"cut off":  func(b []byte) []byte { return b[:len(b)/2] },
		"more":     func(b []byte) []byte { return append(b, 0) },
		"noise":    func(b []byte) []byte { return bytes.Repeat([]byte{0xa7, 0x13}, 5000) },
		"huge":     func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, 1<<20) },
		"deep":     func(b []byte) []byte { return bytes.Repeat([]byte{1, 0, 0, 0, 0, 1, 1, 'd'}, 100_000) },
		"no kinds": func(b []byte) []byte { b[0] = 99; return b },
	} {
		for _, one := range blobs {
			store.Save(cachedTrees, one.key, change(slices.Clone(one.data)))
		}
		if !bytes.Equal(pressed(t, o), want) {
			t.Errorf("%s: another image", name)
		}
		for _, one := range blobs {
			if !bytes.Equal(store.Load(cachedTrees, one.key, nil), one.data) {
				t.Errorf("%s: is still there", name)
			}
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// A store path that is no longer what its NAR hash says is found where it is read, and what to do is said.
func TestStorePathChanged(t *testing.T) {
	c := registeredClosure(t)
	o := squashfsOptionsOf(t, c)
	o.Compression, _ = squashfs.ParseCompression("zstd:1") // blocks are not kept
	want := pressed(t, o)
	file := c.root.Host(linux + "/bzImage")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append([]byte("changed"), content[7:]...), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = Squashfs(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "bzImage: the file changed") || !strings.Contains(err.Error(), "--cache off reads it anew") {
			t.Errorf("error %v", err)
		}
	}
	off := o
	off.Cache = ""
	if bytes.Equal(pressed(t, off), want) {
		t.Error("the change is not in the image")
	}
	if err := os.WriteFile(file, content, 0o755); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pressed(t, o), want) {
		t.Error("another image")
	}
}

// A base of another compression is of no use, and is said to be.
func TestBaseOfAnotherCompression(t *testing.T) {
	o := squashfsOptionsOf(t, registeredClosure(t))
	o.Cache = ""
	pressed(t, o)
	o.Base = o.Output
	o.Output = filepath.Join(t.TempDir(), "image")
	for level, want := range map[string]string{"zstd:3": "", "zstd:4": "--base " + o.Base + ": nothing is taken from it: it was made with another"} {
		o.Compression, _ = squashfs.ParseCompression(level)
		said := ""
		o.Warn = func(msg string) { said += msg }
		pressed(t, o)
		if !strings.HasPrefix(said, want) || (said == "") != (want == "") {
			t.Errorf("%s: said %q, want %q", level, said, want)
		}
	}
}
