//go:build linux

package builder

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/isopress/isopress/internal/cache"
	"github.com/isopress/isopress/squashfs"
)

// settle waits until what was written is old enough to be known by its dates.
func settle(t *testing.T, file string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(time.Unix(st.Ctim.Unix()).Add(2100 * time.Millisecond)))
}

// pressedAndRead is the image of a build, and how many bytes were read for its plan.
func pressedAndRead(t *testing.T, o Options) (image []byte, read int64) {
	t.Helper()
	o.Progress = func(p Progress) {
		if p.Phase == "read" {
			read = p.Total
		}
	}
	return pressed(t, o), read
}

// Trees, and store paths without a NAR hash, are known by their files' stat data.
func TestStatCache(t *testing.T) {
	c := registeredClosure(t)
	c.registration = nil
	file := c.root.Host(linux + "/bzImage")
	for name, source := range map[string]Source{"closure": {Closure: c}, "tree": {Root: string(c.root)}} {
		t.Run(name, func(t *testing.T) {
			o := squashfsOptionsOf(t, c)
			o.Source = source
			o.Compression, _ = squashfs.ParseCompression("zstd:1") // blocks are not kept
			settle(t, file)
			want, all := pressedAndRead(t, o)
			for state, noStat := range map[string]bool{"warm": false, "read again": true} {
				o.NoStatCache = noStat
				image, read := pressedAndRead(t, o)
				if !bytes.Equal(image, want) {
					t.Errorf("%s: another image", state)
				}
				if noStat && read != all || !noStat && read != 0 {
					t.Errorf("%s: %d bytes of %d were read", state, read, all)
				}
			}
		})
	}
}

// A content that changed unseen is found where it is read, what to do is said, and it helps for good.
func TestStatCacheStale(t *testing.T) {
	c := registeredClosure(t)
	c.registration = nil
	o := squashfsOptionsOf(t, c)
	o.Compression, _ = squashfs.ParseCompression("zstd:1")
	settle(t, c.root.Host(linux+"/bzImage"))
	want := pressed(t, o)
	store, err := cache.Open(o.Cache, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(o.Cache + "/file/??/*")
	for _, f := range files {
		digits, err := hex.DecodeString(filepath.Base(filepath.Dir(f)) + filepath.Base(f))
		if err != nil {
			t.Fatal(err)
		}
		b := store.Load(cachedFiles, cache.Key(digits), nil)
		b[len(b)-1] ^= 1 // of the last digest's checksum
		store.Save(cachedFiles, cache.Key(digits), b)
	}
	if err := store.Close(); err != nil || len(files) != 2 {
		t.Fatalf("%d blobs, %v", len(files), err)
	}
	if _, err = Squashfs(t.Context(), o); !errors.Is(err, squashfs.ErrStatCache) || !strings.HasSuffix(err.Error(), "; --no-stat-cache reads it anew") {
		t.Errorf("error %v", err)
	}
	for _, o.NoStatCache = range []bool{true, false} {
		if !bytes.Equal(pressed(t, o), want) {
			t.Error("another image")
		}
	}
}

// Builds that share a cache are right, whichever of them keeps what.
func TestStatCacheOfTwo(t *testing.T) {
	c := registeredClosure(t)
	c.registration = nil
	o := squashfsOptionsOf(t, c)
	want := pressed(t, Options{Source: o.Source, Compression: o.Compression, BlockSize: o.BlockSize, Output: o.Output, NoDigest: true})
	settle(t, c.root.Host(linux+"/bzImage"))
	var g errgroup.Group
	for i := range 8 {
		one := o
		one.Output = filepath.Join(t.TempDir(), "image")
		one.NoStatCache = i%4 == 0
		g.Go(func() error {
			if _, err := Squashfs(t.Context(), one); err != nil {
				return err
			}
			b, err := os.ReadFile(one.Output)
			if err == nil && !bytes.Equal(b, want) {
				err = errors.New("another image")
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// A store path that is not what its registration says is told of and pressed as it is, and nothing of it
// is kept by the hash.
func TestNARHash(t *testing.T) {
	change := map[string]func(t *testing.T, host string) error{
		"nothing":    func(*testing.T, string) error { return nil },
		"content":    func(_ *testing.T, host string) error { return os.WriteFile(host+"/init", []byte("other"), 0o755) },
		"permission": func(_ *testing.T, host string) error { return os.Chmod(host+"/init", 0o644) },
		"name":       func(_ *testing.T, host string) error { return os.Rename(host+"/init", host+"/inits") },
		"one more":   func(_ *testing.T, host string) error { return os.WriteFile(host+"/more", nil, 0o644) },
		"link": func(_ *testing.T, host string) error {
			return errors.Join(os.Remove(host+"/link"), os.Symlink("elsewhere", host+"/link"))
		},
		"what no NAR holds": func(_ *testing.T, host string) error {
			return errors.Join(os.Chmod(host+"/init", 0o700), os.Chtimes(host, time.Now(), time.Now()))
		},
	}
	for name, change := range change {
		t.Run(name, func(t *testing.T) {
			c := registeredClosure(t)
			o := squashfsOptionsOf(t, c)
			if err := change(t, c.root.Host(top)); err != nil {
				t.Fatal(err)
			}
			sound := name == "nothing" || name == "what no NAR holds"
			want := pressed(t, Options{Source: o.Source, Compression: o.Compression, BlockSize: o.BlockSize, Output: o.Output, NoDigest: true})
			for range 2 {
				said := ""
				o.Warn = func(msg string) { said += msg }
				if !bytes.Equal(pressed(t, o), want) {
					t.Error("another image")
				}
				if warned := strings.Contains(said, "nix-store --repair-path "+top+" "); warned == sound || !warned && said != "" {
					t.Errorf("said %q", said)
				}
			}
			kept, _ := filepath.Glob(o.Cache + "/tree/??/*")
			if sound && len(kept) != 2 || !sound && len(kept) != 1 {
				t.Errorf("%d trees are kept", len(kept))
			}
		})
	}
}
