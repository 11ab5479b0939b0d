package iso

import (
	"errors"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The HFS+ volume of a hybrid image, as 7-Zip reads it, has the image's files before and after.
func TestRewriteHFS(t *testing.T) {
	long(t)
	tree, old := filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "image.iso")
	makeTree(t, tree)
	for _, link := range []string{"debian", "zz/link", "zz/dangling"} { // which 7-Zip takes for an attack
		if err := os.Remove(filepath.Join(tree, link)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "grub-mkrescue", "-o", old, tree, "--", "-volid", "GRUB")
	var err error
	im := open(t, old)
	want := readHFS(t, im, old)
	if n := len(want["live/filesystem.squashfs"]); n != 3<<20+1234 {
		t.Fatalf("a squashfs of %d bytes in HFS+", n)
	}
	// A map of one block has bits for 32 MiB.
	for _, size := range []int{70 << 20, 20 << 20, 5000, 0} {
		content := pattern("new", size)
		path, _ := rewriteTo(t, im, Changes{
			Replace: map[string]Content{squashfs: contentOf(content)},
			Add:     []Addition{{Path: "added", Content: contentOf([]byte("for others than Macs"))}},
		})
		im := open(t, path)
		want[squashfs] = content
		for _, sums := range []string{"md5sum.txt", "sha256sum.txt"} {
			if want[sums], err = fs.ReadFile(im.FS(), sums); err != nil {
				t.Fatal(err)
			}
		}
		diff(t, "HFS+", want, readHFS(t, im, path))
	}
	_, err = im.Rewrite(t.Context(), new(output), Changes{Remove: []string{"zz/behind"}})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "HFS+") {
		t.Errorf("a file that goes: %v", err)
	}
}

// readHFS reads all files of the HFS+ volume, and looks at its map.
func readHFS(t *testing.T, im *Image, path string) contents {
	t.Helper()
	if im.hfs == nil {
		t.Fatal("no HFS+")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v := im.hfs
	used := 0
	for _, c := range b[v.bitmap.pos:][:v.bitmap.size] {
		used += bits.OnesCount8(c)
	}
	if total := int((v.end - v.start) / v.block); used != total || int(v.bitmap.size) < (total+7)/8 {
		t.Errorf("%d of %d blocks are used, in a map of %d bytes", used, total, v.bitmap.size)
	}
	dir := t.TempDir()
	volume := filepath.Join(dir, "volume")
	if err := os.WriteFile(volume, b[v.start:v.end], 0o644); err != nil {
		t.Fatal(err)
	}
	contains(t, run(t, "7zz", "x", "-y", "-thfs", "-o"+dir, volume), "Method = HFS+", "Free Space = 0", "Everything is Ok")
	return readTree(t, os.DirFS(filepath.Join(dir, "GRUB")))
}

// What lies about itself is no HFS+ volume that could be kept right; nothing crashes.
func TestHFSHostile(t *testing.T) {
	tree, path := filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "image.iso")
	makeTree(t, tree)
	run(t, "grub-mkrescue", "-o", path, tree)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v := open(t, path).hfs
	leaf := v.forks[0].at - hfsFileFork - v.catalog.pos // of a file's record
	for _, h := range []struct {
		name  string
		at    int64 // in both headers, or from the catalog's start
		value uint32
	}{
		{"blocks of 3 bytes", 40, 3},
		{"more blocks than the partition", hfsTotalBlocks, 1 << 30},
		{"a catalog behind the end", hfsCatalogFork + 16, 1 << 30},
		{"a catalog of 8 TiB", hfsCatalogFork + 20, 1 << 31},
		{"a map behind the end", hfsAllocationFork + 16, 1<<32 - 1},
		{"nodes of no size", -18 - 14, 0},
		{"a file behind the end", -(leaf + hfsFileFork + 16), 1<<32 - 1},
		{"a file of more blocks than are there", -(leaf + hfsFileFork + 12), 1 << 30},
	} {
		b := append([]byte{}, image...)
		if h.at < 0 {
			be.PutUint32(b[v.catalog.pos-h.at:], h.value)
		} else {
			be.PutUint32(b[v.start+hfsHeader+h.at:], h.value)
			be.PutUint32(b[v.end-hfsHeader+h.at:], h.value)
		}
		im, err := Open(watched{t, b}, int64(len(b)))
		if err != nil {
			t.Errorf("%s: %v", h.name, err)
			continue
		}
		if im.hfs != nil {
			t.Errorf("%s: believed", h.name)
		}
		if _, err := im.Rewrite(t.Context(), new(output), Changes{Replace: map[string]Content{squashfs: contentOf([]byte("x"))}}); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", h.name, err)
		}
	}
}
