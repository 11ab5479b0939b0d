package squashfs

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"sync"
	"testing"
	"testing/fstest"
)

// forward has files that can only be read from their start on, as a decompressor's,
// and counts what is opened and read.
type forward struct {
	fstest.MapFS
	mu     sync.Mutex
	opened map[string]int
	read   map[string]int
}

func (f *forward) Open(name string) (fs.File, error) {
	file, err := f.MapFS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return file, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened[name]++
	return &forwardFile{file, f, name}, nil
}

type forwardFile struct {
	fs.File // and not its Seek and ReadAt
	fsys    *forward
	name    string
}

func (f *forwardFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.fsys.mu.Lock()
	defer f.fsys.mu.Unlock()
	f.fsys.read[f.name] += n
	return n, err
}

// How often files are read is what the package's documentation says.
func TestReadings(t *testing.T) {
	const block = 4 << 10
	data := bytes.Repeat([]byte("0123456789abcde\n"), 3*block/16)
	for i := range 3 {
		data[i*block] = byte(i) // blocks that differ
	}
	withTail := append(bytes.Clone(data), "tail"...)
	fsys := &forward{opened: map[string]int{}, read: map[string]int{}, MapFS: fstest.MapFS{
		"a":     {Data: withTail},
		"again": {Data: withTail},
		"empty": {},
		"small": {Data: []byte("small")},
		"whole": {Data: append(bytes.Clone(data[block:]), make([]byte, block)...)},
		"zero":  {Data: make([]byte, 2*block)},
	}}
	w := &inOrder{T: t}
	if _, err := Write(context.Background(), w, fsys, Options{BlockSize: block, Workers: 3}); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"a": 3, "again": 1, "empty": 1, "small": 2, "whole": 2, "zero": 1}
	if !maps.Equal(fsys.opened, want) {
		t.Errorf("opened %v, want %v", fsys.opened, want)
	}
	read := map[string]int{"a": 3*len(withTail) - len("tail"), "again": len(withTail), "small": 10, "whole": 5 * block, "zero": 2 * block}
	delete(fsys.read, "empty")
	if !maps.Equal(fsys.read, read) {
		t.Errorf("read %v bytes, want %v", fsys.read, read)
	}
	if !w.done {
		t.Error("no superblock")
	}
}

// inOrder takes what is written from its start on, and the superblock last.
type inOrder struct {
	*testing.T
	mu   sync.Mutex
	pos  int64
	done bool
}

func (w *inOrder) WriteAt(b []byte, off int64) (int, error) {
	if !w.mu.TryLock() {
		w.Error("two calls at once")
		return 0, io.ErrShortWrite
	}
	defer w.mu.Unlock()
	switch {
	case w.done:
		w.Errorf("%d bytes at %d behind the superblock", len(b), off)
	case off == 0:
		w.done = true
	case w.pos > 0 && off != w.pos:
		w.Errorf("%d bytes at %d, after those up to %d", len(b), off, w.pos)
	}
	w.pos = off + int64(len(b))
	return len(b), nil
}
