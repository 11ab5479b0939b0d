//go:build linux

package squashfs

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/guesttest"
	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/internal/treelist"
)

// codecTree is a tree of what the codecs treat each in its own way: machine
// code, text, a run of zeros, what does not compress, and one byte.
func codecTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	code := make([]byte, 1<<20+1234) // from the middle: it starts with headers
	if _, err := f.ReadAt(code, 1<<20); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	random := rand.NewChaCha8([32]byte{})
	for text.Len() < 200_000 {
		text.WriteString(hex.EncodeToString(code[random.Uint64()%(1<<20):][:3+random.Uint64()%16]) + "\n")
	}
	noise := make([]byte, 300_000)
	_, _ = random.Read(noise)
	for name, content := range map[string][]byte{
		"code": code, "text": text.Bytes(), "noise": noise, "byte": {7},
		"mixed": append(append(bytes.Clone(noise[:70_000]), make([]byte, 700_000)...), code[:400_000]...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// codecs with what unsquashfs -s says of them.
var codecs = map[string][]string{
	"zstd:15":                              {"Compression zstd\n"}, // a default is not said
	"zstd:4":                               {"Compression zstd\n", "\tcompression-level 4\n"},
	"gzip:9":                               {"Compression gzip\n"},
	"gzip:2":                               {"Compression gzip\n", "compression-level 2\n", "window-size 15\n", "Strategies selected: default\n"},
	"xz:6":                                 {"Compression xz\n", "Dictionary size 1048576\n", "Filters selected: x86\n"},
	"xz:1:bcj=none":                        {"Compression xz\n"},
	"xz:3:bcj=x86+armthumb+ia64:dict=192K": {"Compression xz\n", "Dictionary size 196608\n", "Filters selected: x86, ia64, armthumb\n"},
	"lz4":                                  {"Compression lz4\n"},
	"lz4:hc":                               {"Compression lz4\n", "High Compression option specified (-Xhc)\n"},
	"none":                                 {"Data is uncompressed\n"},
}

func TestCodecs(t *testing.T) {
	testenv.NeedTool(t, "unsquashfs")
	testenv.NeedRoot(t) // unsquashfs gives the files their owners
	tree := codecTree(t)
	want := treeListing(t, tree)
	for spec, says := range codecs {
		t.Run(spec, func(t *testing.T) {
			opts := Options{Compression: compression(t, spec), Workers: 1}
			image, res := writeImage(t, DirFS(tree), opts)
			about := runTool(t, "unsquashfs", "-s", image)
			for _, s := range says {
				if !strings.Contains(about, s) {
					t.Errorf("unsquashfs -s does not say %q, but:\n%s", s, about)
				}
			}
			if spec != "none" && res.DataBytes > 2<<20 {
				t.Errorf("%d bytes of data, hardly compressed", res.DataBytes)
			}
			dir := filepath.Join(t.TempDir(), "out")
			runTool(t, "unsquashfs", "-no-progress", "-strict-errors", "-d", dir, image)
			differ(t, want, treeListing(t, dir))

			opts.Workers = 3
			again, _ := writeImage(t, DirFS(tree), opts)
			sameBytes(t, image, again)
		})
	}
}

func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Error("1 and 3 workers write different images")
	}
}

// The kernel's decoders are stricter than unsquashfs's: it is they who count.
func TestKernelReadsCodecs(t *testing.T) {
	if testing.Short() {
		t.Skip("boots guests")
	}
	tree := codecTree(t)
	for _, spec := range []string{"xz:6", "xz:3:dict=192K", "lz4", "lz4:hc", "gzip:9", "zstd:19"} {
		t.Run(spec, func(t *testing.T) {
			image, _ := writeImage(t, DirFS(tree), Options{Compression: compression(t, spec)})
			guesttest.CheckSquashfsTree(t, image, tree, treelist.Options{NoXattrs: true})
		})
	}
	// Blocks smaller than those of metadata, of which there is more than one.
	small := newTestTree(t)
	for i := range 600 {
		small.file(fmt.Sprintf("a-file-with-a-name/%03d", i), random(uint64(i), 5000))
	}
	t.Run("xz in 4K", func(t *testing.T) {
		image, _ := writeImage(t, DirFS(small.dir), Options{Compression: compression(t, "xz:1"), BlockSize: 4 << 10})
		guesttest.CheckSquashfsTree(t, image, small.dir, treelist.Options{NoXattrs: true})
	})
}

func TestCompressorOptions(t *testing.T) {
	for spec, want := range map[string]string{
		"zstd:15": "", "zstd:19": "13000000", "zstd:1": "01000000",
		"gzip": "", "gzip:3": "03000000" + "0f00" + "0000",
		"xz:bcj=none": "", "xz:9:bcj=none": "", "xz:bcj=none:dict=128K": "",
		"xz":                               "00000200" + "01000000",
		"xz:bcj=none:dict=8K":              "00200000" + "00000000",
		"xz:bcj=arm64+riscv+sparc":         "00000200" + "e0000000",
		"xz:bcj=powerpc+ia64+arm:dict=96K": "00800100" + "0e000000",
		"xz:bcj=armthumb":                  "00000200" + "10000000",
		"lz4":                              "01000000" + "00000000",
		"lz4:hc":                           "01000000" + "01000000",
		"none":                             "",
	} {
		got := hex.EncodeToString(compression(t, spec).options(128 << 10))
		if got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}

func TestDictionaryLargerThanBlock(t *testing.T) {
	opts := Options{Compression: compression(t, "xz:6:dict=96K"), BlockSize: 64 << 10}
	if _, err := Write(t.Context(), discard{}, DirFS(t.TempDir()), opts); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Errorf("a dictionary larger than the block: %v", err)
	}
}
