//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isopress/isopress/internal/testenv"
)

// settle waits until what was written is old enough to be known by its dates.
func settle(t testing.TB, file string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(time.Unix(st.Ctim.Unix()).Add(2100 * time.Millisecond)))
}

// A closure without a registration is known by its files' dates: of a damaged cache nothing wrong gets
// into an image, whenever a build of it was killed, and whatever else uses it.
func TestStatCacheDamaged(t *testing.T) {
	b := newCachedBuild(t, "zstd:1") // blocks are not kept
	c := testenv.Closure(t)
	b.args = slices.DeleteFunc(b.args, func(arg string) bool { return arg == "--registration" || arg == c.Registration })
	settle(t, c.Registration)
	b.want = b.press(t, "", "--cache", "off")
	b.pressSame(t, "")
	for _, name := range []string{"kind", "key", "checksum", "content", "empty", "cut off", "noise"} {
		damage(t, one(b.blobs(t, "file")), blobDamage[name])
		b.pressSame(t, "removed; it is made again")
		b.pressSame(t, "")
	}
	for range 8 {
		b.thin(t)
		b.emptyOut(t)
		start(t, append(b.args, "--cache", b.cache)...).kill(b.took / 3)
		b.verify(t)
		b.pressSame(t, "")
	}
	b.pressSame(t, "", "--no-stat-cache")
	if b.blobs(t, "file"); len(b.blobs(t, "file")) == 0 {
		t.Error("nothing is kept")
	}
}

// A tree that changes is read again, be it that size and mtime are what they were; --no-stat-cache reads
// all of it.
func TestStatCacheOfTree(t *testing.T) {
	tree, dir := randomTree(t, 100_000), t.TempDir()
	file := filepath.Join(tree, "file")
	press := func(more ...string) []byte {
		t.Helper()
		args := append([]string{"squashfs", "--root", tree, "-o", dir + "/out", "--compression", "zstd:1", "-q"}, more...)
		if code, _, errs := isopress(t, args...); code != exitDone || errs != "" {
			t.Fatalf("exit code %d: %s", code, errs)
		}
		b, err := os.ReadFile(dir + "/out")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cache := dir + "/cache"
	settle(t, file)
	first := press("--cache", cache)
	if found, _ := filepath.Glob(cache + "/file/??/*"); len(found) != 1 {
		t.Errorf("kept: %q", found)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if err := os.WriteFile(file, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	want := press("--cache", "off")
	if bytes.Equal(want, first) {
		t.Error("the change is not in the image")
	}
	for _, more := range [][]string{nil, {"--no-stat-cache"}, nil} {
		if !bytes.Equal(press(append(more, "--cache", cache)...), want) {
			t.Errorf("%q: another image", more)
		}
	}
}

func TestNoStatCacheHelp(t *testing.T) {
	for verb, has := range map[string]bool{"build": true, "squashfs": true, "initrd": false, "cache": false} {
		if _, out, _ := isopress(t, verb, "--help"); strings.Contains(out, "--no-stat-cache") != has {
			t.Errorf("%s: %v", verb, !has)
		}
	}
}

// The cache is no larger than is said once a build has ended.
func TestCacheSize(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	b.pressSame(t, "")
	size := func() (n int64) {
		files, err := filepath.Glob(b.cache + "/*/??/*") // of a kind there may be none left
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			n += info.Size()
		}
		return n
	}
	before := size()
	b.pressSame(t, "", "--cache-size", "1G")
	if size() != before {
		t.Error("it was trimmed to more than it held")
	}
	// Something to keep, without which nothing is looked at.
	if err := os.Remove(one(b.blobs(t, "block"))); err != nil {
		t.Fatal(err)
	}
	b.pressSame(t, "", "--cache-size", "2M")
	if n := size(); n > 2<<20 || before < 3<<20 {
		t.Errorf("%d bytes of %d are left", n, before)
	}
	for _, bad := range []string{"0", "-1", "x", ""} {
		if code, _, errs := isopress(t, append(b.args, "--cache-size", bad)...); code != exitUsage || !strings.Contains(errs, "--cache-size") {
			t.Errorf("%q: exit code %d: %s", bad, code, errs)
		}
	}
}
