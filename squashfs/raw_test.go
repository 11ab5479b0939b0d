//go:build linux

package squashfs

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isopress/isopress/internal/testenv"
)

// rawTree has files that lie raw, and files that could lie in them, or they in those.
func rawTree(blockSize int) fstest.MapFS {
	tree := runsTree(blockSize)
	for name, b := range map[string][]byte{
		"raw/kernel":       tree["c-with-a-tail"].Data, // of which "long" has all blocks but the tail
		"raw/copy":         tree["c-with-a-tail"].Data,
		"raw/text":         words(3, 3*blockSize+100), // would compress
		"raw/small":        []byte("small"),
		"raw/holes":        tree["long"].Data, // has blocks of zeros, and others share its blocks
		"raw/zeros":        make([]byte, 2*blockSize+7),
		"raw/empty":        {},
		"like-the-text":    words(3, 2*blockSize),
		"like-the-zeros":   make([]byte, 2*blockSize+9),
		"small-and-equal":  []byte("small"),
		"z/behind-the-raw": []byte("last"),
	} {
		tree[name] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	return tree
}

var rawNames = []string{"raw/text", "raw/kernel", "raw/copy", "raw/small", "raw/holes", "raw/empty", "raw/zeros"}

func TestRawFilesLieAsTheyAre(t *testing.T) {
	testenv.NeedTool(t, "unsquashfs")
	const blockSize = 16 << 10
	tree := rawTree(blockSize)
	for name, o := range map[string]Options{
		"zstd":         {RawAlign: 4096},
		"no fragments": {RawAlign: 1 << 20, NoFragments: true},
		"lz4":          {Compression: compression(t, "lz4")}, // has options behind the superblock
		"none":         {Compression: compression(t, "none"), RawAlign: 2048},
	} {
		t.Run(name, func(t *testing.T) {
			o.BlockSize, o.Raw = blockSize, rawNames
			p := prepare(t, tree, o)
			f, err := os.Create(filepath.Join(t.TempDir(), "image"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			res, err := p.Write(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if res.Size > p.MaxSize() {
				t.Errorf("%d bytes, the bound was %d", res.Size, p.MaxSize())
			}
			checkRaw(t, f, tree, p.RawFiles(), o.RawAlign)

			dir := filepath.Join(t.TempDir(), "out")
			runTool(t, "unsquashfs", "-no-progress", "-strict-errors", "-d", dir, f.Name())
			for name, want := range tree {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want.Data) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
		})
	}
}

// checkRaw compares what lies where the plan said with the files, and wants no byte
// between them that need not be there.
func checkRaw(t *testing.T, image *os.File, tree fstest.MapFS, got []RawFile, align int64) {
	t.Helper()
	end := int64(superblockSize + 2 + 8) // the longest of the compressors' options here
	for i, f := range got {
		want := tree[rawNames[i]].Data
		b := make([]byte, f.Size)
		if _, err := image.ReadAt(b, f.Offset); err != nil || f.Path != rawNames[i] || !bytes.Equal(b, want) {
			t.Errorf("%+v: not the %d bytes of %s, %v", f, len(want), rawNames[i], err)
		}
		switch {
		case f.Path == "raw/copy":
			if f.Offset != got[1].Offset {
				t.Error("equal files lie in two places")
			}
		case f.Size > 0 && (f.Offset%max(align, 1) != 0 || f.Offset-end >= max(align, 32)):
			t.Errorf("%+v: at no multiple of %d, or far from %d", f, align, end)
		}
		end = max(end, f.Offset+f.Size)
	}
}

// What equals raw blocks lies in them, and they lie in nothing else.
func TestRawFilesAreShared(t *testing.T) {
	const blockSize = 16 << 10
	p := prepare(t, rawTree(blockSize), Options{BlockSize: blockSize, Raw: rawNames})
	text := p.fileNamed(t, "raw/text").content.blocks
	if p.fileNamed(t, "like-the-text").content.blocks.base != text {
		t.Error("a file that is the beginning of a raw one does not lie in it")
	}
	for _, name := range rawNames {
		c := p.fileNamed(t, name).content
		if c.size > 0 && (c.blocks.base != nil || c.tail != noTail) {
			t.Errorf("%s lies in another file, or has a tail in a fragment block", name)
		}
	}
	if b := p.fileNamed(t, "like-the-zeros").content.blocks; b.stored != 0 || b.base != nil {
		t.Error("zeros are stored because a raw file has some")
	}
}

// A raw file's name has any bytes.
func TestRawName(t *testing.T) {
	const name = "b\xf6\xf6t/vmlinuz"
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := Prepare(t.Context(), DirFS(dir), Options{Raw: []string{name}, RawAlign: 2048})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.RawFiles(); len(got) != 1 || got[0] != (RawFile{name, 2048, 6}) {
		t.Errorf("%+v", got)
	}
}

func TestRawErrors(t *testing.T) {
	tree := fstest.MapFS{"dir/file": {Data: []byte("x")}, "link": {Data: []byte("dir/file"), Mode: fs.ModeSymlink}}
	for name, want := range map[string]string{
		"dir":        "raw file dir: not a regular file",
		"link":       "raw file link: not a regular file",
		"dir/file/x": "raw file dir/file/x: file does not exist",
		"none":       "raw file none: file does not exist",
		"/dir/file":  "invalid",
		".":          "invalid",
	} {
		_, err := Prepare(t.Context(), tree, Options{Raw: []string{name}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, align := range []int64{-1, 3, 2 << 20, math.MaxInt64} {
		if err := (Options{RawAlign: align}).Validate(); err == nil || !strings.Contains(err.Error(), "power of two") {
			t.Errorf("alignment %d: %v", align, err)
		}
	}
	if _, err := Prepare(t.Context(), tree, Options{Raw: []string{"dir/file"}, Exclude: func(name string, _ fs.DirEntry) bool { return name == "dir" }}); err == nil {
		t.Error("a raw file that is excluded is no error")
	}
}
