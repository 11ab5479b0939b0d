package iso

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// fatsOf are the FATs of an image by their names, and their bytes.
func fatsOf(t *testing.T, im *Image) (names []string, list []FAT, b [][]byte) {
	t.Helper()
	list, err := im.FATs()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		all, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		names, b = append(names, f.Name), append(b, all)
	}
	return names, list, b
}

// System partitions, be they files or appended, are patched where they are, while what lies before them moves.
func TestPatchFATs(t *testing.T) {
	long(t)
	for name, want := range map[string][]string{
		"live-build": {"boot/grub/efi.img"}, "archiso": {"GPT partition 2"}, "ubuntu": {"GPT partition 2"}, "genisoimage": {"boot/grub/efi.img"},
		"appended MBR": {"boot/grub/efi.img", "MBR partition 2"}, "isohybrid -u": {"boot/grub/efi.img"}, "ISO 9660:1999": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := styles[slices.IndexFunc(styles, func(s style) bool { return s.name == name })]
			im := open(t, s.image(t))
			names, fats, was := fatsOf(t, im)
			if !slices.Equal(names, want) {
				t.Fatalf("%q, want %q", names, want)
			}
			ch := Changes{Replace: map[string]Content{squashfs: contentOf(pattern("new", 4<<20+5))}}
			for i, f := range fats {
				label := []byte("PATCHED    ")
				copy(was[i][43:], label)
				copy(was[i][f.Size()-11:], label)
				ch.Patch = append(ch.Patch, Patch{f.Pos + f.Size() - 11, label}, Patch{f.Pos + 43, label})
			}
			path, res := rewriteTo(t, im, ch)
			if _, _, is := fatsOf(t, open(t, path)); !slices.EqualFunc(was, is, bytes.Equal) {
				t.Error("the FATs are others")
			}
			checkSums(t, path)
			if len(res.Sums) != 2 {
				t.Errorf("corrected: %q", res.Sums)
			}
		})
	}
}

// A patch alone is a change: checksum files follow it, and nothing else does.
func TestPatchAlone(t *testing.T) {
	old := styles[0].image(t)
	im := open(t, old)
	at, err := im.Extents("zz/behind")
	if err != nil {
		t.Fatal(err)
	}
	path, res := rewriteTo(t, im, Changes{Patch: []Patch{{at[0].Offset + 77, []byte("patched")}}})
	if !slices.Equal(res.Sums, []string{"md5sum.txt", "sha256sum.txt"}) {
		t.Errorf("corrected: %q", res.Sums)
	}
	checkSums(t, path)
	want := extract(t, old, "any")
	got := extract(t, path, "any")
	copy(want["zz/behind"][77:], "patched")
	for _, name := range res.Sums {
		delete(want, name)
		delete(got, name)
	}
	diff(t, "patched", want, got)
}

func TestPatchRefuse(t *testing.T) {
	im := open(t, styles[0].image(t))
	at, err := im.Extents(squashfs)
	if err != nil {
		t.Fatal(err)
	}
	word := []byte("word")
	for _, c := range []struct {
		name, want string
		list       []Patch
	}{
		{"the system area", "outside of files", []Patch{{100, word}}},
		{"a descriptor", "the volume descriptor", []Patch{{systemArea + 100, word}}},
		{"a directory", "the directory /", []Patch{{im.trees[0].dirs[0].pos + 2047, word}}},
		{"the catalog", "the boot catalog", []Patch{{im.catalog.pos + 40, word}}},
		{"the end", "outside of files", []Patch{{im.Size() - 3, word}}},
		{"a negative place", "outside of files", []Patch{{-3, word}}},
		{"one another", "over another patch", []Patch{{at[0].Offset + 3, word}, {at[0].Offset, word}}},
		{"what is replaced", "/live/filesystem.squashfs, which is replaced", []Patch{{at[0].Offset + 9, word}}},
	} {
		dst := new(output)
		_, err := im.Rewrite(t.Context(), dst, Changes{Patch: c.list, Replace: map[string]Content{squashfs: contentOf(word)}})
		if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), c.want) || len(dst.b) > 0 {
			t.Errorf("%s: %v, %d bytes were written", c.name, err, len(dst.b))
		}
	}
}
