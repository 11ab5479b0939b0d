package iso

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// assembled returns what a source in testdata assembles to.
var assembled = func() func(t *testing.T, name string) []byte {
	var mu sync.Mutex
	done := map[string][]byte{}
	return func(t *testing.T, name string) []byte {
		t.Helper()
		testenv.NeedTool(t, "nasm")
		mu.Lock()
		defer mu.Unlock()
		if done[name] == nil {
			out := filepath.Join(t.TempDir(), "out")
			run(t, "nasm", "-Werror", "-f", "bin", "-o", out, filepath.Join("testdata", name))
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			done[name] = b
		}
		return bytes.Clone(done[name])
	}
}()

// Fields of testdata/kernel.asm.
const (
	testSetup     = 0x1000
	testPayload   = testSetup - 32 // payload_size, and behind it
	testInitrd    = testSetup - 28 // initrd_size
	testStatus    = testSetup - 24 // efi_status
	testPort      = testSetup - 16 // port
	testImageSize = 0x280 + peOptionalOffset + 56
)

// testKernel is a kernel that looks whether the loader did right, and says so.
func testKernel(t *testing.T, payload, initrd int) []byte {
	b := assembled(t, "kernel.asm")
	le.PutUint32(b[setupSysSize:], u32(int64(payload+15)/16))
	le.PutUint32(b[testPayload:], u32(int64(payload)))
	le.PutUint32(b[testInitrd:], u32(int64(initrd)))
	le.PutUint16(b[testPort:], 0x3F8)
	return append(b, words(payload)...)
}

// words is what testdata/kernel.asm wants kernel and initrd to hold.
func words(size int) []byte {
	b := make([]byte, 0, size+4)
	for x := uint32(0x9E3779B1); len(b) < size; x += 0x9E3779B1 {
		b = le.AppendUint32(b, x)
	}
	return b[:size]
}

const testCmdline = "root=LABEL=nixos quiet"

// stubImage makes an image that starts kernel with initrd, if that is not empty. CheckKernel is not asked.
func stubImage(t *testing.T, kernel, initrd []byte) (path string, r *Result) {
	t.Helper()
	c := contents{"kernel": kernel}
	opts := Options{VolumeID: "STUBS", ModTime: testTime, Boot: &Boot{Kernel: "kernel", Cmdline: testCmdline}}
	if len(initrd) > 0 {
		c["initrd"] = initrd
		opts.Boot.Initrd = "initrd"
	}
	opts.Files = c.files()
	return makeImage(t, opts, c)
}

// extent is where a file lies.
func (r *Result) extent(t *testing.T, path string) Extent {
	t.Helper()
	for _, e := range r.Files {
		if e.Path == path {
			return e
		}
	}
	t.Fatalf("no file %s", path)
	return Extent{}
}

// readAt reads a part of a file.
func readAt(t *testing.T, path string, offset int64, size int) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	return b
}

// readPieces reads a file that lies in pieces.
func readPieces(t *testing.T, path string, pieces []Extent) (b []byte) {
	t.Helper()
	for _, e := range pieces {
		b = append(b, readAt(t, path, e.Offset, int(e.Size))...)
	}
	return b
}

// patch overwrites a part of a file.
func patch(t *testing.T, path string, offset int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(b, offset)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
}

// onScreen looks for text on a screen of characters of w by h pixels. It knows no font: it wants
// cells side by side that are equal where the text's characters are, and others where they are not.
func onScreen(path, text string, w, h int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		return err
	}
	size := m.Bounds().Size()
	light := make([]bool, size.X*size.Y)
	for i := range light {
		r, _, _, _ := m.At(i%size.X, i/size.X).RGBA()
		light[i] = r > 0x4000
	}
	for y := range size.Y - h + 1 {
		for x := range size.X - w*len(text) + 1 {
			if spells(light, size, image.Pt(x, y), text, w, h) {
				return nil
			}
		}
	}
	return fmt.Errorf("%q is not on the screen", text)
}

// spells looks for text at one place.
func spells(light []bool, size, at image.Point, text string, w, h int) bool {
	cell := func(i int) (bits string) {
		b := make([]byte, 0, w*h)
		for y := range h {
			for x := range w {
				bit := byte(0)
				if light[(at.Y+y)*size.X+at.X+i*w+x] {
					bit = 1
				}
				b = append(b, bit)
			}
		}
		return string(b)
	}
	glyphs, characters := map[rune]string{}, map[string]rune{}
	for i, c := range text {
		g := cell(i)
		if old, ok := glyphs[c]; ok && old != g {
			return false
		}
		if old, ok := characters[g]; ok && old != c {
			return false
		}
		glyphs[c], characters[g] = g, c
	}
	return true
}
