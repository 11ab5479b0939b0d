package iso

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestFind(t *testing.T) {
	for _, joliet := range []bool{false, true} {
		opts, c := inPlace(4<<20, 2048)
		if opts.Joliet = joliet; joliet {
			delete(c, longName)
			opts.Files = opts.Files[:len(opts.Files)-1]
		}
		path, r := makeImage(t, opts, c)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, want := range r.Files {
			if bytes.ContainsRune([]byte(want.Path), '/') || want.Path == longName {
				continue
			}
			if got, err := Find(f, r.Size, want.Path); err != nil || got != want {
				t.Errorf("found %v, %v, want %v", got, err, want)
			}
		}
		if _, err := Find(f, r.Size, "none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("none: %v", err)
		}
		if _, err := Find(f, r.Size, "boot"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a directory: %v", err)
		}
	}
	if _, err := Find(bytes.NewReader(make([]byte, 1<<20)), 1<<20, "x"); !errors.Is(err, ErrNotISO) {
		t.Errorf("zeros: %v", err)
	}
	if _, err := Find(bytes.NewReader(nil), 0, "x"); !errors.Is(err, ErrNotISO) {
		t.Errorf("nothing: %v", err)
	}
}

func FuzzFind(f *testing.F) {
	opts, c := sample()
	dst := &memory{}
	w, err := NewWriter(dst, opts)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range w.files {
		if err := w.WriteFile(file.Path, bytes.NewReader(c[file.Path])); err != nil {
			f.Fatal(err)
		}
	}
	if _, err := w.Finish(testSeed); err != nil {
		f.Fatal(err)
	}
	root := w.hierarchies[0].dirs[0]
	f.Add(dst.b[root.pos:][:root.size])
	f.Fuzz(func(t *testing.T, dir []byte) {
		e, err := findIn(dir, "nix-store.squashfs", 1<<30)
		if err == nil && (e.Offset < 0 || e.Size < 0 || e.Offset+e.Size > 1<<30) {
			t.Errorf("%v", e)
		}
	})
}
