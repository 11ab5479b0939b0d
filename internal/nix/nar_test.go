package nix

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// dumpTree writes the NAR of a file of the host.
func dumpTree(t *testing.T, w *NARWriter, path, name string, depth int) {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	h := NARHeader{Depth: depth, Name: name, Mode: info.Mode(), Size: info.Size()}
	if info.Mode().Type() == fs.ModeSymlink {
		h.Target, err = os.Readlink(path)
		must(t, err)
	}
	must(t, w.WriteHeader(h))
	switch {
	case info.IsDir():
		entries, err := os.ReadDir(path) // sorted
		must(t, err)
		for _, e := range entries {
			dumpTree(t, w, filepath.Join(path, e.Name()), e.Name(), depth+1)
		}
	case info.Mode().IsRegular():
		b, err := os.ReadFile(path)
		must(t, err)
		for _, part := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
			_, err = w.Write(part)
			must(t, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The archive is the one that Nix makes.
func TestNAR(t *testing.T) {
	testenv.NeedTool(t, "nix-store")
	dir := t.TempDir()
	for name, content := range map[string]string{
		"tree/empty": "", "tree/eight": "12345678", "tree/nine": "123456789", "tree/..dots": "x",
		"tree/a/b/c/deep": "deep", "tree/a.b": "sorts ahead of a/", "tree/a-b": "so does this", "tree/\xff name": "bytes",
		"tree/run": "#!/bin/sh", "file": "alone", "program": "alone", "none": "",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	must(t, os.MkdirAll(dir+"/tree/z/nothing", 0o755))
	must(t, os.Chmod(dir+"/tree/run", 0o700))
	must(t, os.Chmod(dir+"/program", 0o555))
	must(t, os.Chmod(dir+"/tree/nine", 0o654)) // the owner's bit alone counts
	must(t, os.Chmod(dir+"/tree/eight", 0o611))
	must(t, os.Symlink("no/where", dir+"/tree/link"))
	must(t, os.Symlink("tree", dir+"/link"))
	must(t, os.Mkdir(dir+"/void", 0o755))
	for _, name := range []string{"tree", "file", "program", "none", "link", "void"} {
		want, err := exec.Command("nix-store", "--dump", filepath.Join(dir, name)).Output()
		must(t, err)
		var got bytes.Buffer
		w := NewNARWriter(&got)
		dumpTree(t, w, filepath.Join(dir, name), "", 0)
		must(t, w.Close())
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: another archive, of %d bytes, not %d", name, got.Len(), len(want))
		}
	}
}

func TestNARErrors(t *testing.T) {
	dir, file := fs.ModeDir|0o755, fs.FileMode(0o644)
	write := func(size int) func(*NARWriter) error {
		return func(w *NARWriter) error { _, err := w.Write(make([]byte, size)); return err }
	}
	header := func(depth int, name string, mode fs.FileMode, size int64) func(*NARWriter) error {
		return func(w *NARWriter) error { return w.WriteHeader(NARHeader{depth, name, mode, size, ""}) }
	}
	end := (*NARWriter).Close
	for want, steps := range map[string][]func(*NARWriter) error{
		"no file":                          {end},
		`"x": at depth 1, behind one at 0`: {header(1, "x", file, 0)},
		`"x": at depth 2`:                  {header(0, "", dir, 0), header(2, "x", file, 0)},
		`"x": at depth 0`:                  {header(0, "", dir, 0), header(0, "x", file, 0)},
		`"x": within "y", which is no`:     {header(0, "", dir, 0), header(1, "y", file, 0), header(2, "x", file, 0)},
		`"y": 3 bytes are missing`:         {header(0, "", dir, 0), header(1, "y", file, 5), write(2), header(1, "z", file, 5)},
		`"y": 1 bytes are missing`:         {header(0, "", dir, 0), header(1, "y", file, 5), write(4), end},
		`"y": longer than the 5`:           {header(0, "", dir, 0), header(1, "y", file, 5), write(4), write(2)},
		`"p": of type p---------`:          {header(0, "", dir, 0), header(1, "p", fs.ModeNamedPipe, 0)},
		"closed":                           {header(0, "", dir, 0), end, write(1)},
		"full":                             {func(w *NARWriter) error { w.w = fullDisk{}; return nil }, header(0, "", dir, 0)},
	} {
		w := NewNARWriter(&bytes.Buffer{})
		for i, step := range steps {
			err := step(w)
			if last := i == len(steps)-1; (err != nil) != last || last && !strings.Contains(err.Error(), want) {
				t.Errorf("step %d: error %v, want %s at the end", i, err, want)
			}
		}
		if again := header(1, "z", file, 0)(w); again == nil {
			t.Errorf("%s: goes on after it", want)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("full") }
