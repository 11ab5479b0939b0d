package fatedit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isopress/isopress/internal/testenv"
)

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// contents are the files of the file systems here, by their names.
func contents() map[string][]byte {
	fill := func(n int) []byte { return bytes.Repeat([]byte("0123456789abcde\n"), n/16+1)[:n] }
	return map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI":                    fill(70000),
		"EFI/BOOT/grub.cfg":                       fill(300),
		"loader/entries/a long name of many.conf": fill(4096),
		"lower.txt":                               fill(1),
		"Mixed Case.TXT":                          fill(33),
		"UPPER.TXT":                               fill(9000),
	}
}

// image makes a file system with dosfstools and mtools.
func image(t testing.TB, kib int, options ...string) string {
	testenv.NeedTool(t, "mkfs.vfat", "mcopy", "fsck.fat")
	dir := t.TempDir()
	img := filepath.Join(dir, "fat")
	run(t, "mkfs.vfat", append(append([]string{"-C", "--invariant", "-n", "LABEL"}, options...), img, fmt.Sprint(kib))...)
	for name, b := range contents() {
		file := filepath.Join(dir, "tree", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"EFI", "loader", "lower.txt", "Mixed Case.TXT", "UPPER.TXT"} {
		run(t, "mcopy", "-s", "-m", "-i", img, filepath.Join(dir, "tree", name), "::/")
	}
	return img
}

func open(t testing.TB, img string) (*FS, []byte) {
	t.Helper()
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f, b
}

// patch writes a file system's patches into its bytes.
func patch(t testing.TB, f *FS, b []byte) {
	t.Helper()
	patches, err := f.Patches()
	if err != nil {
		t.Fatal(err)
	}
	end := int64(0)
	for _, p := range patches {
		if p.Pos < end {
			t.Fatalf("a patch at %d, the one before ends at %d", p.Pos, end)
		}
		end = p.Pos + int64(len(p.Bytes))
		if end > int64(len(b)) {
			t.Fatalf("a patch at %d to %d of %d", p.Pos, end, len(b))
		}
		copy(b[p.Pos:], p.Bytes)
	}
}

// listing is what mtools tells of all files: names, short names, sizes and dates.
func listing(t *testing.T, img string) string {
	var kept []string
	for _, l := range strings.Split(run(t, "mdir", "-a", "-s", "-i", img, "::"), "\n") {
		if !strings.Contains(l, "bytes free") && !strings.HasPrefix(strings.TrimSpace(l), "Total files") && !strings.Contains(l, " files ") && !strings.Contains(l, " file ") {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "\n")
}

var kinds = []struct {
	name    string
	kib     int
	options []string
	bits    int
}{
	{"FAT12", 1440, nil, 12},
	{"FAT12 of one sector a cluster", 1440, []string{"-F", "12", "-s", "1"}, 12},
	{"FAT12 with one copy", 2048, []string{"-f", "1"}, 12},
	{"FAT16", 16384, nil, 16},
	{"FAT16 of 4096-byte sectors", 65536, []string{"-F", "16", "-S", "4096"}, 16},
	{"FAT32", 40960, []string{"-F", "32", "-s", "1"}, 32},
}

// What is there is read, by the names that it has.
func TestRead(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			f, _ := open(t, image(t, k.kib, k.options...))
			if f.bits != k.bits {
				t.Errorf("FAT%d", f.bits)
			}
			var names []string
			for name, want := range contents() {
				names = append(names, name)
				got, err := fs.ReadFile(f, name)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			if err := fstest.TestFS(f, names...); err != nil {
				t.Error(err)
			}
		})
	}
}

// Files grow and shrink: within a cluster, to more, to fewer; other tools read them so, and find nothing wrong.
func TestReplace(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			img := image(t, k.kib, k.options...)
			before := listing(t, img)
			f, b := open(t, img)
			want := contents()
			for name, size := range map[string]int{"EFI/BOOT/grub.cfg": 301, "lower.txt": 20000, "UPPER.TXT": 10, "loader/entries/a long name of many.conf": 4097} {
				was := len(want[name])
				want[name] = bytes.Repeat([]byte("new"), size)[:size]
				before = strings.Replace(before, fmt.Sprintf(" %d ", was), fmt.Sprintf(" %d ", size), 1)
				if err := f.Replace(name, want[name]); err != nil {
					t.Fatal(err)
				}
			}
			patch(t, f, b)
			if err := os.WriteFile(img, b, 0o666); err != nil {
				t.Fatal(err)
			}
			run(t, "fsck.fat", "-n", img)
			dir := t.TempDir()
			run(t, "mcopy", "-s", "-i", img, "::/EFI", "::/loader", "::/lower.txt", "::/Mixed Case.TXT", "::/UPPER.TXT", dir)
			for name, b := range want {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			if after := sizeless(listing(t, img)); after != sizeless(before) {
				t.Errorf("%s\nwas\n%s", after, before)
			}
		})
	}
}

// sizeless leaves the columns of a listing out that are sizes.
func sizeless(list string) string {
	var out []string
	for _, l := range strings.Split(list, "\n") {
		fields := strings.Fields(l)
		out = append(out, strings.Join(slices.DeleteFunc(fields, func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }), " "))
	}
	return strings.Join(out, "\n")
}

// A file that changes within its last cluster leaves all else as it was.
func TestReplaceWithinCluster(t *testing.T) {
	f, b := open(t, image(t, 1440))
	old := bytes.Clone(b)
	if err := f.Replace("EFI/BOOT/grub.cfg", append(contents()["EFI/BOOT/grub.cfg"], 'x')); err != nil {
		t.Fatal(err)
	}
	patch(t, f, b)
	differ := 0
	for i := range b {
		if b[i] != old[i] {
			differ++
		}
	}
	if differ != 2 { // the byte, and the size's lowest
		t.Errorf("%d bytes differ", differ)
	}
}

func TestReplaceErrors(t *testing.T) {
	f, _ := open(t, image(t, 1440))
	for _, c := range []struct {
		name string
		size int
		want error
	}{
		{"none", 1, fs.ErrNotExist}, {"EFI", 1, fs.ErrInvalid}, {"../x", 1, fs.ErrInvalid}, {"lower.txt", 1440 << 10, ErrFull}, {"lower.txt", 0, nil},
	} {
		if err := f.Replace(c.name, make([]byte, c.size)); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// What contradicts itself is not made worse.
func TestDamaged(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(f *FS, b []byte)
	}{
		{"a chain without an end", func(f *FS, b []byte) { f.loop(t, b, "EFI/BOOT/BOOTX64.EFI") }},
		{"clusters of two files", func(f *FS, b []byte) {
			le.PutUint16(b[f.node(t, "EFI/BOOT/BOOTX64.EFI").entry+26:], uint16(f.node(t, "UPPER.TXT").first))
		}},
		{"copies that differ", func(f *FS, b []byte) { b[f.fatPos[1]+9] ^= 1 }},
		{"a file beyond the end", func(f *FS, b []byte) { le.PutUint16(b[f.node(t, "EFI/BOOT/BOOTX64.EFI").entry+26:], 4000) }},
		{"more bytes than clusters", func(f *FS, b []byte) { le.PutUint32(b[f.node(t, "EFI/BOOT/BOOTX64.EFI").entry+28:], 1<<20) }},
		{"a directory in itself", func(f *FS, b []byte) {
			le.PutUint16(b[f.node(t, "EFI/BOOT").entry+26:], uint16(f.node(t, "EFI").first))
		}},
		{"more sectors than there are", func(_ *FS, b []byte) { le.PutUint16(b[19:], 60000) }},
		{"a FAT that is too small", func(_ *FS, b []byte) { b[22] = 1 }},
		{"no boot sector", func(_ *FS, b []byte) { b[510] = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, b := open(t, image(t, 1440))
			c.damage(f, b)
			f, err := Open(bytes.NewReader(b), int64(len(b)))
			if err == nil {
				err = f.Replace("EFI/BOOT/BOOTX64.EFI", make([]byte, 70001))
			}
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v", err)
			}
		})
	}
	_, b := open(t, image(t, 1440))
	if _, err := Open(bytes.NewReader(b[:9000]), int64(len(b))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func (f *FS) node(t testing.TB, name string) *node {
	n, err := f.lookup("test", name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// loop leads a file's second cluster back to its first, in both copies.
func (f *FS) loop(t testing.TB, b []byte, name string) {
	first := f.node(t, name).first
	f.setNext(f.next(first), first)
	for _, pos := range f.fatPos {
		copy(b[pos:], f.fat)
	}
}

// Whatever is read, nothing outside of the file system is written, and what is written is read back.
func FuzzFAT(f *testing.F) {
	for _, k := range kinds[:2] {
		_, b := open(f, image(f, k.kib, k.options...))
		f.Add(b[:256<<10], 0, []byte{})
		f.Add(b[:256<<10], 512+3, []byte{0, 1, 2})
	}
	f.Fuzz(func(t *testing.T, b []byte, at int, change []byte) {
		b = append(bytes.Clone(b), make([]byte, 64<<10)...)
		if at >= 0 && at < len(b) {
			copy(b[at:], change)
		}
		fat, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		want := map[string][]byte{}
		fs.WalkDir(fat, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || len(want) == 3 {
				return nil
			}
			old, err := fs.ReadFile(fat, name)
			if err == nil && fat.Replace(name, append(bytes.Clone(old), "and more"...)) == nil {
				want[name] = append(old, "and more"...)
			}
			return nil
		})
		patch(t, fat, b)
		again, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil && len(want) > 0 {
			t.Fatal(err)
		}
		for name, w := range want {
			if got, err := fs.ReadFile(again, name); err != nil || !bytes.Equal(got, w) {
				t.Fatalf("%q: %d bytes, %v", name, len(got), err)
			}
		}
	})
}
