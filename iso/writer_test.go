package iso

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// Two images are equal, and whatever the destination held before is overwritten.
func TestDeterministic(t *testing.T) {
	opts, c := sample()
	opts.Joliet = true
	delete(c, longName) // no Joliet name holds it
	opts.Files = c.files()
	image := func(dst *memory) []byte {
		w, err := NewWriter(dst, opts)
		if err != nil {
			t.Fatal(err)
		}
		r := write(t, w, c)
		return dst.b[:r.Size]
	}
	first := image(&memory{})
	second := image(&memory{bytes.Repeat([]byte{0xAA}, len(first))})
	if !bytes.Equal(first, second) {
		for i := range first {
			if first[i] != second[i] {
				t.Fatalf("images differ, first at %#x", i)
			}
		}
		t.Fatal("images differ in length")
	}
}

// The seed, and nothing but it, changes the identifiers.
func TestSeed(t *testing.T) {
	opts, c := sample()
	var images [2]memory
	for i := range images {
		w, err := NewWriter(&images[i], opts)
		if err != nil {
			t.Fatal(err)
		}
		for path, b := range c {
			if err := w.WriteFile(path, bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Finish([32]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	a, b := images[0].b, images[1].b
	if bytes.Equal(a[440:444], b[440:444]) {
		t.Error("disk signature does not depend on the seed")
	}
	if bytes.Equal(a[512+56:512+72], b[512+56:512+72]) {
		t.Error("disk GUID does not depend on the seed")
	}
	if !bytes.Equal(a[systemArea:systemArea+4*sectorSize], b[systemArea:systemArea+4*sectorSize]) {
		t.Error("volume descriptors depend on the seed")
	}
}

func TestOptionErrors(t *testing.T) {
	file := func(path string) File { return File{Path: path, Size: 1} }
	tests := []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no volume ID", func(o *Options) { o.VolumeID = "" }, "must be 1-32"},
		{"long volume ID", func(o *Options) { o.VolumeID = strings.Repeat("x", 33) }, "must be 1-32"},
		{"slash in volume ID", func(o *Options) { o.VolumeID = "a/b" }, `holds '/'`},
		{"volume ID not ASCII", func(o *Options) { o.VolumeID = "nixös" }, "printable ASCII"},
		{"volume ID ends with a space", func(o *Options) { o.VolumeID = "a " }, "space"},
		{"too early", func(o *Options) { o.ModTime = time.Date(1899, 12, 31, 0, 0, 0, 0, time.UTC) }, "1900-2155"},
		{"too late", func(o *Options) { o.Boot = nil; o.ModTime = time.Date(2156, 1, 1, 0, 0, 0, 0, time.UTC) }, "1900-2155"},
		{"too late for FAT", func(o *Options) { o.ModTime = time.Date(2108, 1, 1, 0, 0, 0, 0, time.UTC) }, "2107"},
		{"empty path", func(o *Options) { o.Files = append(o.Files, file("")) }, "empty"},
		{"leading slash", func(o *Options) { o.Files = append(o.Files, file("/a")) }, "empty part"},
		{"dot dot", func(o *Options) { o.Files = append(o.Files, file("a/../b")) }, ". or .."},
		{"NUL", func(o *Options) { o.Files = append(o.Files, file("a\x00b")) }, "NUL"},
		{"long name", func(o *Options) { o.Files = append(o.Files, file("d/"+strings.Repeat("n", 256))) }, "256 bytes"},
		{"twice", func(o *Options) { o.Files = append(o.Files, file("isopress.json")) }, "iso: isopress.json: is there twice"},
		{"file, then directory", func(o *Options) { o.Files = append(o.Files, file("isopress.json/x")) }, "iso: isopress.json: is a file and a directory"},
		{"directory, then file", func(o *Options) { o.Files = append(o.Files, file("boot")) }, "iso: boot: is a file and a directory"},
		{"negative size", func(o *Options) { o.Files[0].Size = -1 }, "negative"},
		{"alignment", func(o *Options) { o.Files[0].Align = 3000 }, "alignment 3000"},
		{"small alignment", func(o *Options) { o.Files[0].Align = 512 }, "alignment 512"},
		{"too large", func(o *Options) { o.Files[0].Size = 1 << 43 }, "an image holds"},
		{"too large together", func(o *Options) {
			o.Files = append(o.Files, File{Path: "x", Size: 1 << 42, Grow: true}, File{Path: "y", Size: 1 << 42})
		}, "iso: y: does not fit"},
		{"Joliet", func(o *Options) { o.Joliet = true; o.Files = []File{file("d/a?b")}; o.Boot = nil }, "iso: d/a?b: '?' cannot be in a Joliet name"},
		{"long Joliet", func(o *Options) { o.Joliet = true; o.Files = []File{file(strings.Repeat("j", 104))}; o.Boot = nil }, "104 characters"},
		{"Joliet beyond UCS-2", func(o *Options) { o.Joliet = true; o.Files = []File{file("😀")}; o.Boot = nil }, "U+D83D"},
		{"Joliet of no UTF-8", func(o *Options) { o.Joliet = true; o.Files = []File{file("\xff")}; o.Boot = nil }, "UTF-8"},
		{"no such kernel", func(o *Options) { o.Boot.Kernel = "vmlinuz" }, `kernel "vmlinuz": is none`},
		{"no such initrd", func(o *Options) { o.Boot.Initrd = "x" }, `initrd "x": is none`},
		{"kernel as initrd", func(o *Options) { o.Boot.Initrd = o.Boot.Kernel }, "is kernel and initrd"},
		{"kernel grows", func(o *Options) { o.Files[2].Grow = true }, "its size must be known"},
		{"kernel is empty", func(o *Options) { o.Files[2].Size = 0 }, "is empty"},
		{"kernel is huge", func(o *Options) { o.Files[2].Size = 1 << 32 }, "EFI system partition holds"},
		{"both are huge", func(o *Options) { o.Files[1].Size, o.Files[2].Size = 3<<29, 3<<29 }, "EFI system partition holds"},
		{"long command line", func(o *Options) { o.Boot.Cmdline = strings.Repeat("c", 2048) }, "2048 bytes"},
		{"NUL in command line", func(o *Options) { o.Boot.Cmdline = "a\x00" }, "byte 1"},
		{"command line not ASCII", func(o *Options) { o.Boot.Cmdline = "ü" }, "printable ASCII"},
		{"a BOOTX64.EFI", func(o *Options) { o.Files = append(o.Files, file(bootEFI)) }, "makes EFI/BOOT/BOOTX64.EFI itself"},
		{"a stub that is none", func(o *Options) { o.Boot.EFIStub = []byte("stub") }, "no PE file"},
		{"a stub that is cut off", func(o *Options) { o.Boot.EFIStub = uefiStub[:0x900] }, "cut off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts, _ := sample()
			if got := opts.Files[2].Path; got != opts.Boot.Kernel {
				t.Fatalf("the kernel is not where the tests expect it, there is %s", got)
			}
			tt.change(&opts)
			dst := &memory{}
			_, err := NewWriter(dst, opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "iso: ") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if len(dst.b) != 0 {
				t.Error("something was written")
			}
		})
	}
}

func TestWriteErrors(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		do   func(*Writer) error
		want string
		is   error
	}{
		{"not written", func(w *Writer) error { _, err := w.Finish(testSeed); return err }, "iso: fixed: was not written", nil},
		{"unknown", func(w *Writer) error { return w.WriteFile("x", strings.NewReader("")) }, "none of the image's files", nil},
		{"shrunk", func(w *Writer) error { return w.WriteFile("fixed", strings.NewReader("123")) }, "iso: fixed: size is not the announced one: has 3 bytes, announced were 4", ErrSize},
		{"grew", func(w *Writer) error { return w.WriteFile("fixed", strings.NewReader("12345")) }, "iso: fixed: ", ErrSize},
		{"grew over its bound", func(w *Writer) error { return w.WriteFile("grow", strings.NewReader(strings.Repeat("x", 5001))) }, "iso: grow: ", ErrSize},
		{"behind one that grows", func(w *Writer) error { return w.WriteFile("behind", strings.NewReader("")) }, "iso: behind: has no place until grow is written", nil},
		{"twice", func(w *Writer) error {
			return errors.Join(w.WriteFile("fixed", strings.NewReader("1234")), w.WriteFile("fixed", strings.NewReader("1234")))
		}, "written already", nil},
		{"beyond", func(w *Writer) error {
			return w.Stream("grow", func(dst io.WriterAt) (int64, error) { _, err := dst.WriteAt([]byte{1}, 5000); return 0, err })
		}, "iso: grow: ", ErrSize},
		{"before", func(w *Writer) error {
			return w.Stream("grow", func(dst io.WriterAt) (int64, error) { _, err := dst.WriteAt([]byte{1}, -1); return 0, err })
		}, "iso: grow: ", ErrSize},
		{"claims too much", func(w *Writer) error {
			return w.Stream("grow", func(dst io.WriterAt) (int64, error) { return 5001, nil })
		}, "has 5001 bytes", ErrSize},
		{"reader fails", func(w *Writer) error {
			return w.WriteFile("fixed", io.MultiReader(strings.NewReader("1"), failing{broken}))
		}, "iso: fixed: broken", broken},
		{"sticky", func(w *Writer) error {
			_ = w.WriteFile("fixed", failing{broken})
			_, err := w.Finish(testSeed)
			return err
		}, "iso: fixed: broken", broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, err := NewWriter(&memory{}, Options{VolumeID: "X", Files: []File{
				{Path: "fixed", Size: 4}, {Path: "grow", Size: 5000, Grow: true}, {Path: "behind", Size: 0},
			}})
			if err != nil {
				t.Fatal(err)
			}
			err = tt.do(w)
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A destination that fails makes the writer fail.
func TestDestinationErrors(t *testing.T) {
	opts, c := sample()
	for budget := range 40 {
		dst := &limited{left: budget}
		w, err := NewWriter(dst, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range w.files {
			if err == nil {
				err = w.WriteFile(f.Path, bytes.NewReader(c[f.Path]))
			}
		}
		if err == nil {
			_, err = w.Finish(testSeed)
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("after %d writes: got %v", budget, err)
		}
	}
}

var errFull = errors.New("full")

type limited struct{ left int }

func (l *limited) WriteAt(p []byte, _ int64) (int, error) {
	if l.left == 0 {
		return 0, errFull
	}
	l.left--
	return len(p), nil
}

// Every file lies where the result says, aligned as asked, and boot files ahead of all others.
func TestPlaces(t *testing.T) {
	opts, c := sample()
	for i := range opts.Files {
		if opts.Files[i].Path == "nix-store.squashfs" || opts.Files[i].Path == "boot/initrd" {
			opts.Files[i].Align = 1 << 16
		}
		if opts.Files[i].Path == "isopress.json" {
			opts.Files[i].Size, opts.Files[i].Grow = 1<<20, true
		}
	}
	dst := &memory{}
	w, err := NewWriter(dst, opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Extent("isopress.json"); got.Size != 0 {
		t.Errorf("a file that is not written yet lies at %v", got)
	}
	r := write(t, w, c)
	kernel := w.Extent("boot/kernel")
	end := kernel.Offset + kernel.Size
	for i, f := range r.Files {
		want := c[f.Path]
		if f.Path != opts.Files[i].Path || f.Size != int64(len(want)) {
			t.Errorf("file %d: got %v, want %s of %d bytes", i, f, opts.Files[i].Path, len(want))
		}
		if got := w.Extent(f.Path); got != f {
			t.Errorf("writer says %v, result %v", got, f)
		}
		if !bytes.Equal(dst.b[f.Offset:f.Offset+f.Size], want) {
			t.Errorf("%s: other bytes at %d", f.Path, f.Offset)
		}
		if f.Offset%max(opts.Files[i].Align, sectorSize) != 0 {
			t.Errorf("%s: lies at %d", f.Path, f.Offset)
		}
		inESP := strings.HasPrefix(f.Path, "boot/")
		if inESP && f.Offset+f.Size > r.ESP.Offset+r.ESP.Size || inESP != (f.Offset <= kernel.Offset) {
			t.Errorf("%s: lies at %d, the EFI system partition at %v", f.Path, f.Offset, r.ESP)
		}
		if !inESP {
			if gap := f.Offset - end; gap < 0 || gap >= max(opts.Files[i].Align, sectorSize) {
				t.Errorf("%s: lies at %d, %d behind the file ahead of it", f.Path, f.Offset, gap)
			}
			end = f.Offset + f.Size
		}
	}
	if waste := r.Size - end; waste > gptSize+espAlign {
		t.Errorf("%d bytes behind the last file: the place of one that did not grow is lost", waste)
	}
}

func ExampleWriter() {
	dst := &memory{}
	w, err := NewWriter(dst, Options{
		VolumeID: "EXAMPLE",
		Files:    []File{{Path: "doc/hello.txt", Size: 6}, {Path: "data", Size: 1 << 20, Grow: true}},
	})
	if err != nil {
		panic(err)
	}
	if err := w.WriteFile("doc/hello.txt", strings.NewReader("hello\n")); err != nil {
		panic(err)
	}
	err = w.Stream("data", func(dst io.WriterAt) (int64, error) {
		n, err := dst.WriteAt([]byte("streamed"), 0)
		return int64(n), err
	})
	if err != nil {
		panic(err)
	}
	r, err := w.Finish([32]byte{})
	if err != nil {
		panic(err)
	}
	for _, f := range r.Files {
		fmt.Printf("%s: %q\n", f.Path, dst.b[f.Offset:f.Offset+f.Size])
	}
	// Output:
	// doc/hello.txt: "hello\n"
	// data: "streamed"
}
