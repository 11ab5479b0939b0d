//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// readOnly closes a mounted disk to writers.
func readOnly(t testing.TB, disk string) {
	t.Helper()
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
}

// damage puts another content in a file's place.
func damage(t testing.TB, file string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, change(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// flipIn returns a change of one bit, of the bytes from begin up to end; a negative end is from the end on.
func flipIn(begin, end int) func(b []byte) []byte {
	return func(b []byte) []byte {
		to := end
		if to <= 0 || to > len(b) {
			to = len(b)
		}
		b[begin+rand.IntN(to-begin)] ^= 1 << rand.IntN(8)
		return b
	}
}

func flipBits(t testing.TB, file string) { t.Helper(); damage(t, file, flipIn(0, 0)) }

// blobDamage are changes of a blob's file; its header is laid out in package internal/cache.
var blobDamage = map[string]func(b []byte) []byte{
	"magic":           flipIn(0, 7),
	"version":         flipIn(7, 8),
	"kind":            flipIn(8, 24),
	"key":             flipIn(24, 56),
	"length":          flipIn(56, 64),
	"checksum":        flipIn(64, 68),
	"content":         flipIn(68, 0),
	"anywhere":        flipIn(0, 0),
	"empty":           func([]byte) []byte { return nil },
	"within header":   func(b []byte) []byte { return b[:rand.IntN(68)] },
	"header alone":    func(b []byte) []byte { return b[:68] },
	"cut off":         func(b []byte) []byte { return b[:68+rand.IntN(len(b)-68)] },
	"a byte less":     func(b []byte) []byte { return b[:len(b)-1] },
	"a byte more":     func(b []byte) []byte { return append(b, 0) },
	"twice":           func(b []byte) []byte { return append(b, b...) },
	"zeros":           func(b []byte) []byte { return make([]byte, len(b)) },
	"content zeros":   func(b []byte) []byte { clear(b[68:]); return b },
	"tail zeros":      func(b []byte) []byte { clear(b[len(b)/2:]); return b },
	"noise":           func(b []byte) []byte { _, _ = rand.NewChaCha8([32]byte{5}).Read(b); return b },
	"shorter, in all": func(b []byte) []byte { binary.LittleEndian.PutUint64(b[56:], uint64(len(b)-69)); return b[:len(b)-1] },
	"huge length":     func(b []byte) []byte { binary.LittleEndian.PutUint64(b[56:], 1<<62); return b },
}

// Of a damaged cache nothing wrong gets into an image, and it is whole again after one build.
func TestDamagedCache(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	b.pressSame(t, "")
	for _, kind := range []string{"block", "tree"} {
		for name, change := range blobDamage {
			t.Run(kind+"/"+name, func(t *testing.T) {
				damage(t, one(b.blobs(t, kind)), change)
				b.pressSame(t, "removed; it is made again")
				b.pressSame(t, "")
			})
		}
		t.Run(kind+"/swapped", func(t *testing.T) {
			files := b.blobs(t, kind)
			rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
			swap(t, files[0], files[1])
			b.pressSame(t, "removed; it is made again")
		})
	}
	t.Run("of another kind", func(t *testing.T) {
		swap(t, one(b.blobs(t, "block")), one(b.blobs(t, "tree")))
		b.pressSame(t, "removed; it is made again")
	})
	t.Run("all at once", func(t *testing.T) {
		for range 5 {
			for _, f := range append(b.blobs(t, "block"), b.blobs(t, "tree")...) {
				flipBits(t, f)
			}
			b.pressSame(t, "more of these")
		}
	})
}

func one(files []string) string { return files[rand.IntN(len(files))] }

func swap(t testing.TB, a, b string) {
	t.Helper()
	if err := errors.Join(os.Rename(a, a+"-"), os.Rename(b, a), os.Rename(a+"-", b)); err != nil {
		t.Fatal(err)
	}
}

// What is no file in a blob's or a directory's place is not waited for, and goes, or is told of.
func TestThingsInTheCache(t *testing.T) {
	b := newCachedBuild(t, "zstd:3")
	b.pressSame(t, "")
	things := map[string]func(name string) error{
		"directory": func(name string) error { return os.Mkdir(name, 0o700) },
		"FIFO":      func(name string) error { return unix.Mkfifo(name, 0o600) },
		"link":      func(name string) error { return os.Symlink(b.dir+"/initrd", name) },
		"no link":   func(name string) error { return os.Symlink("nowhere", name) },
		"device":    func(name string) error { return unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) },
	}
	for name, place := range things {
		for _, kind := range []string{"block", "tree"} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				file := one(b.blobs(t, kind))
				if err := errors.Join(os.Remove(file), place(file)); err != nil {
					t.Fatal(err)
				}
				b.pressSame(t, "not a file, removed; it is made again")
				b.pressSame(t, "")
			})
		}
		t.Run("for all blocks/"+name, func(t *testing.T) {
			if name == "directory" || name == "no link" {
				t.Skip("blocks are kept there")
			}
			kind := b.cache + "/block"
			away := t.TempDir() + "/block"
			if err := errors.Join(os.Rename(kind, away), things[name](kind)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.press(t, "warning: cache ", "--cache", b.cache), b.want) {
				t.Error("another image")
			}
			if err := errors.Join(os.Remove(kind), os.Rename(away, kind)); err != nil {
				t.Fatal(err)
			}
			b.pressSame(t, "")
		})
	}
}

// Where in an ISO of ours the squashfs and its block list are.
func squashfsIn(t testing.TB, image []byte) (begin, list, end int) {
	t.Helper()
	begin = bytes.Index(image, []byte("hsqs"))
	list = bytes.Index(image, []byte("isopress blocks\x01"))
	if begin < 0 || list < begin {
		t.Fatalf("squashfs at %d, block list at %d", begin, list)
	}
	return begin, list, list + 4096
}

// An image that is damaged gives the right bytes as a base, or a clear error.
func TestDamagedBaseISO(t *testing.T) {
	// With this compression blocks are not kept, but trees are: all blocks come from the base.
	b := newCachedBuild(t, "zstd:1")
	b.pressSame(t, "")
	base := filepath.Join(b.dir, "base.iso")
	if err := os.WriteFile(base, b.want, 0o600); err != nil {
		t.Fatal(err)
	}
	b.pressSame(t, "", "--base", base)
	begin, list, end := squashfsIn(t, b.want)
	const sector = 2048
	root := sector * int(binary.LittleEndian.Uint32(b.want[16*sector+156+2:]))
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	for name, change := range map[string]func(b []byte) []byte{
		"volume descriptor": flipIn(16*sector, 17*sector),
		"its magic":         flipIn(16*sector, 16*sector+6),
		"its root":          flipIn(16*sector+156, 16*sector+190),
		"root directory":    flipIn(root, root+512),
		"superblock":        flipIn(begin, begin+96),
		"list's head":       flipIn(list, list+56),
		"block list":        flipIn(list, end),
		"blocks":            flipIn(begin+96, list),
		"anywhere":          flipIn(0, 0),
		"many blocks": func(b []byte) []byte {
			for at := begin + 96; at < list; at += 1 + rand.IntN(400_000) {
				b[at] ^= 1 << rand.IntN(8)
			}
			return b
		},
		"zeros":         func(b []byte) []byte { clear(b[begin+rand.IntN(list-begin) : list]); return b },
		"cut off":       func(b []byte) []byte { return b[:rand.IntN(len(b))] },
		"without list":  func(b []byte) []byte { clear(b[list:end]); return b },
		"squashfs":      func(b []byte) []byte { return b[begin:] },
		"list of other": func(b []byte) []byte { copy(b[list+16+4+4+32:], b[list+16+4+4+32+40:][:200]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			outcomes := map[string]int{}
			for range rounds {
				if err := os.WriteFile(base, change(bytes.Clone(b.want)), 0o600); err != nil {
					t.Fatal(err)
				}
				outcomes[b.withBase(t, base)]++
			}
			t.Log(outcomes)
		})
	}
}

// withBase builds with a base that may be damaged, and says what came of it.
func (b *cachedBuild) withBase(t testing.TB, base string) string {
	t.Helper()
	b.emptyOut(t)
	code, _, errs := isopress(t, append(b.args, "--base", base, "--cache", b.cache, "-q")...)
	if code != exitDone {
		if !strings.HasPrefix(errs, "isopress: --base "+base+": ") || strings.Count(errs, "\n") != 1 {
			t.Errorf("exit code %d: %s", code, errs)
		}
		empty(t, filepath.Dir(b.out()))
		return errs
	}
	image, err := os.ReadFile(b.out())
	if err != nil || !bytes.Equal(image, b.want) {
		t.Errorf("another image, %v: %s", err, errs)
	}
	if errs != "" {
		return fmt.Sprintf("warned: %.100s", errs)
	}
	return "right bytes"
}
