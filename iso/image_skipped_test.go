package iso

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// All that the styles' trees have is shown, whatever their names are.
func TestSkippedNone(t *testing.T) {
	for _, s := range styles {
		t.Run(s.name, func(t *testing.T) {
			for _, f := range open(t, s.image(t)).Skipped() {
				t.Errorf("%s", f.Path)
			}
		})
	}
}

// What FS does not show is there with its content, each file once.
func TestSkipped(t *testing.T) {
	tree, out := t.TempDir(), filepath.Join(t.TempDir(), "image.iso")
	for name, text := range map[string]string{"dir-odd/sub/file": "one", "only-joliet": "two", "seen": "three", "dir-odd/none": ""} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	xorrisofs(t, tree, out, "-r", "-J", "-hide", "only-joliet")
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte("dir-odd"), []byte("dir\xFFodd"))
	im, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range im.Skipped() {
		text, err := io.ReadAll(f)
		got = append(got, f.Path+"="+string(text))
		if err != nil {
			t.Error(err)
		}
	}
	if want := []string{"dir\xFFodd/sub/file=one", "only-joliet=two"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A disk that the BIOS emulates is anyone's bytes: of its partitions those with a FAT in it count.
func TestHardDisks(t *testing.T) {
	tree, out := t.TempDir(), filepath.Join(t.TempDir(), "image.iso")
	disk := make([]byte, 64*blockSize)
	disk[510], disk[511] = 0x55, 0xAA
	partition := func(i int, start, blocks uint32) {
		e := disk[mbrTable+i*mbrEntrySize:]
		e[4] = 6
		le.PutUint32(e[8:], start)
		le.PutUint32(e[12:], blocks)
	}
	boot := disk[40*blockSize:]
	copy(boot, "\xEB\x3C\x90")
	copy(boot[11:], "\x00\x02\x01\x01\x00\x02\x10\x00\x18\x00\xF8")
	boot[510], boot[511] = 0x55, 0xAA
	partition(0, 40, 1000)
	path := filepath.Join(tree, "disk.img")
	if err := os.WriteFile(path, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	xorrisofs(t, tree, out, "-r", "-b", "disk.img", "-hard-disk-boot")
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, disk)
	for _, c := range []struct{ start, blocks, pos, size uint32 }{
		{40, 1000, 40, 24}, {40, 5, 40, 5}, {39, 5, 0, 64}, {64, 5, 0, 64}, {1 << 31, 1 << 31, 0, 64}, {0, 5, 0, 64}, {40, 0, 0, 64},
	} {
		partition(0, c.start, c.blocks)
		copy(b[at:], disk)
		im, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		list, err := im.HardDisks()
		if err != nil || len(list) != 1 || list[0].Name != "disk.img" {
			t.Fatalf("%+v: %v, %v", c, list, err)
		}
		if f := list[0]; f.Pos-int64(at) != int64(c.pos)*blockSize || f.Size() != int64(c.size)*blockSize {
			t.Errorf("%+v: %d bytes at %d", c, f.Size(), f.Pos-int64(at))
		}
	}
	if list, err := open(t, styles[0].image(t)).HardDisks(); err != nil || len(list) > 0 {
		t.Errorf("of an image that has none: %v, %v", list, err)
	}
}
