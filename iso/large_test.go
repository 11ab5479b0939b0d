package iso

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A file of several extents, and one behind it, beyond 4 GiB. The file is sparse.
func TestLargeFile(t *testing.T) {
	const size = 2*maxExtent + 12345
	marks := []int64{0, 1<<32 - 3, maxExtent - 4, maxExtent, 2*maxExtent + 100, size - 4}
	path := filepath.Join(t.TempDir(), "image.iso")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	opts, c := sample()
	delete(c, longName)
	opts.Files = append([]File{{Path: "large", Size: 2 * size, Grow: true}}, c.files()...)
	w, err := NewWriter(f, opts)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Stream("large", func(dst io.WriterAt) (int64, error) {
		for _, at := range marks {
			if _, err := dst.WriteAt([]byte("mark"), at); err != nil {
				return 0, err
			}
		}
		return size, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p, b := range c {
		if err := w.WriteFile(p, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := w.Finish(testSeed)
	if err != nil {
		t.Fatal(err)
	}
	large := r.Files[0]
	for _, at := range marks {
		b := make([]byte, 4)
		if _, err := f.ReadAt(b, large.Offset+at); err != nil || string(b) != "mark" {
			t.Errorf("at %d: %q, %v", at, b, err)
		}
	}

	out := run(t, "xorriso", "-indev", path, "-find", "/large", "-exec", "report_lba", "--")
	for i, n := range []int64{maxExtent, maxExtent, 12345} {
		start := large.Offset/sectorSize + int64(i)*maxExtent/sectorSize
		contains(t, out, fmt.Sprintf("File data lba: %2d , %8d , %8d , %8d , '/large'", i, start, roundUp(n, sectorSize)/sectorSize, int64(size)))
	}
	out = run(t, "isoinfo", "-i", path, "-R", "-l")
	contains(t, out, fmt.Sprintf(" %d ", maxExtent), " 12345 ")

	// Joliet apart, what lies behind it is read back right.
	to := filepath.Join(t.TempDir(), "squashfs")
	run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/nix-store.squashfs", to)
	got, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, c["nix-store.squashfs"]) {
		t.Error("the file behind it holds other bytes")
	}
	contains(t, run(t, "sgdisk", "-v", path), "No problems found")
}

// Thousands of files with names that need continuation areas, in one directory and in many.
func TestManyFiles(t *testing.T) {
	c := contents{}
	for i := range 3000 {
		// Lengths around what a directory record and what one NM entry hold.
		name := fmt.Sprintf("%04d-%s", i, strings.Repeat("x", 60+i%191))
		c["many/"+name] = []byte(name)
		if i%3 == 0 {
			c[fmt.Sprintf("dirs/%04d/%s/file", i, strings.Repeat("d", i%250+1))] = []byte("in " + name)
		}
	}
	opts := Options{VolumeID: "MANY", ModTime: testTime, Files: c.files()}
	path, _ := makeImage(t, opts, c)

	out := run(t, "xorriso", "-indev", path, "-find", "/", "-type", "f")
	var got []string
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "'/"); ok {
			got = append(got, strings.TrimSuffix(name, "'"))
		}
	}
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(c)); !slices.Equal(got, want) {
		t.Errorf("xorriso finds %d files, want %d", len(got), len(want))
	}
	out = run(t, "isoinfo", "-i", path, "-R", "-f")
	for p := range c {
		if !strings.Contains(out, "/"+p+"\n") {
			t.Errorf("isoinfo does not find %s", p)
		}
	}
	to := filepath.Join(t.TempDir(), "many")
	t.Cleanup(func() { run(t, "chmod", "-R", "u+w", to) })
	run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/many", to)
	for p, want := range c {
		name, ok := strings.CutPrefix(p, "many/")
		if !ok {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
	checkDirectories(t, path)
	checkPathTables(t, path)
}

// A path table's parent numbers have 16 bits.
func TestManyDirectories(t *testing.T) {
	var files []File
	for i := range maxDirectories {
		files = append(files, File{Path: fmt.Sprintf("%d/f", i)})
	}
	_, err := NewWriter(&memory{}, Options{VolumeID: "X", Files: files})
	if err == nil || !strings.Contains(err.Error(), "65536 directories") {
		t.Errorf("got %v", err)
	}
	if _, err := NewWriter(&memory{}, Options{VolumeID: "X", Files: files[1:]}); err != nil {
		t.Error(err)
	}
}

// checkPathTables checks that the two tables say the same, and what the directories say themselves.
func checkPathTables(t *testing.T, path string) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pvd := image[systemArea:]
	size := int(le.Uint32(pvd[132:]))
	if le.Uint32(pvd[80:]) != be.Uint32(pvd[84:]) || le.Uint16(pvd[128:]) != be.Uint16(pvd[130:]) {
		t.Error("the volume descriptor's byte orders differ")
	}
	l := image[int(le.Uint32(pvd[140:]))*sectorSize:][:size]
	m := image[int(be.Uint32(pvd[148:]))*sectorSize:][:size]
	var extents []uint32
	for at := 0; at < size; at += 8 + int(l[at]+1)&^1 {
		extent, parent := le.Uint32(l[at+2:]), int(le.Uint16(l[at+6:]))
		if extent != be.Uint32(m[at+2:]) || parent != int(be.Uint16(m[at+6:])) {
			t.Fatalf("the tables differ at %d", at)
		}
		extents = append(extents, extent)
		self := image[int(extent)*sectorSize:]
		up := self[self[0]:]
		if le.Uint32(self[2:]) != extent || parent > len(extents) || le.Uint32(up[2:]) != extents[parent-1] {
			t.Fatalf("directory %d, parent %d: its records say otherwise", len(extents), parent)
		}
	}
	if len(extents) != 2003 {
		t.Errorf("%d directories", len(extents))
	}
}

// checkDirectories walks the ISO 9660 directories and checks what ECMA-119 wants of their records:
// none crosses a sector's end, identifiers are sorted and unique.
func checkDirectories(t *testing.T, path string) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	extent := func(r []byte) []byte {
		return image[int(le.Uint32(r[2:]))*sectorSize:][:le.Uint32(r[10:])]
	}
	queue := [][]byte{extent(image[systemArea+156:])}
	seen := 0
	for ; len(queue) > 0; queue = queue[1:] {
		last := ""
		for at := 0; at < len(queue[0]); {
			dir := queue[0]
			n := int(dir[at])
			if n == 0 {
				at = int(roundUp(int64(at+1), sectorSize))
				continue
			}
			if at/sectorSize != (at+n-1)/sectorSize {
				t.Fatalf("a record crosses a sector's end")
			}
			r := dir[at : at+n]
			at += n
			ident := string(r[recordHead:][:r[32]])
			seen++
			for _, field := range []int{2, 10} {
				if le.Uint32(r[field:]) != be.Uint32(r[field+4:]) {
					t.Fatalf("%q: the byte orders of the field at %d differ", ident, field)
				}
			}
			if ident == "\x00" || ident == "\x01" {
				continue
			}
			if key := isoSortKey(ident); key <= last {
				t.Fatalf("%q is not sorted, or there twice", ident)
			} else {
				last = key
			}
			if r[25]&flagDirectory != 0 {
				queue = append(queue, extent(r))
			}
		}
	}
	if seen < 3000 {
		t.Errorf("only %d records", seen)
	}
}
