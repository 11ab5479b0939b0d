//go:build linux

package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// spoken is a TreeCheck that writes down what it sees, and fails at a call, if that is told.
type spoken struct {
	seen   []string
	failAt string
}

var errSpoken = errors.New("refused")

func (s *spoken) say(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	s.seen = append(s.seen, text)
	if text == s.failAt {
		return errSpoken
	}
	return nil
}

func (s *spoken) WriteHeader(e TreeEntry) error {
	return s.say("%d %q %v %d %q", e.Depth, e.Name, e.Mode, e.Size, e.Target)
}
func (s *spoken) Write(b []byte) (int, error) { return len(b), s.say("%d bytes %s", len(b), b[:1]) }
func (s *spoken) Close() error                { return s.say("end") }

// A check sees all of a tree, in order, before it is kept, and one that it refuses is not kept.
func TestTreeCheck(t *testing.T) {
	tree := fstest.MapFS{
		"p/b":       {Data: []byte("bbb"), Mode: 0o755},
		"p/a/empty": {Mode: 0o644},
		"p/a/large": {Data: []byte("l" + strings.Repeat("m", 5000)), Mode: 0o644},
		"p/z":       {Data: []byte("a/large"), Mode: fs.ModeSymlink | 0o777},
		"q":         {Data: []byte("q"), Mode: 0o644},
		"r/linked":  {Data: []byte("r"), Mode: 0o644, Sys: &Attr{Inode: 7, Nlink: 2}}, // has more names
		"s":         {Data: []byte("no key"), Mode: 0o644},
	}
	whole := []string{`0 "" dr-xr-xr-x 0 ""`, `1 "a" dr-xr-xr-x 0 ""`, `2 "empty" -rw-r--r-- 0 ""`,
		`2 "large" -rw-r--r-- 5001 ""`, "4096 bytes l", "905 bytes m", `1 "b" -rwxr-xr-x 3 ""`, "3 bytes b",
		`1 "z" Lrwxrwxrwx 0 "a/large"`, "end"}
	for i, failAt := range append([]string{""}, whole...) {
		trees := &memoryCache{}
		checks := map[string]*spoken{}
		var mu sync.Mutex
		warned := ""
		opts := Options{BlockSize: 4096, Trees: trees, TreeKey: func(path string) string {
			if path == "s" {
				return ""
			}
			return path // of those within p, too
		}, TreeCheck: func(path string) TreeCheck {
			mu.Lock()
			defer mu.Unlock()
			checks[path] = &spoken{failAt: failAt}
			if path != "p" {
				checks[path].failAt = ""
			}
			return checks[path]
		}, Warn: func(path, msg string) { warned += path + ": " + msg }}
		p := prepare(t, tree, opts)
		want, kept := whole, 2
		if failAt != "" {
			want, kept = whole[:i], 1
		}
		if got := checks["p"].seen; !slices.Equal(got, want) {
			t.Errorf("fails at %q: saw\n%s", failAt, strings.Join(got, "\n"))
		}
		if got := checks["q"].seen; !slices.Equal(got, []string{`0 "" -rw-r--r-- 1 ""`, "1 bytes q", "end"}) {
			t.Errorf("of q: %q", got)
		}
		if len(checks) != 3 || checks["r"].seen != nil {
			t.Errorf("%d checks; of a tree that is not kept it saw %q", len(checks), checks["r"].seen)
		}
		if len(trees.blobs) != kept || (warned == "p: refused") != (failAt != "") {
			t.Errorf("fails at %q: %d trees are kept, warned of %q", failAt, len(trees.blobs), warned)
		}
		// What was refused is hashed all the same.
		plain := prepare(t, tree, Options{BlockSize: 4096})
		if a, b := p.fileNamed(t, "p/a/large"), plain.fileNamed(t, "p/a/large"); !slices.Equal(a.content.digests, b.content.digests) {
			t.Error("another content")
		}
	}
}

// A tree that cannot be read is an error with a check as without.
func TestTreeCheckUnreadable(t *testing.T) {
	tree := fstest.MapFS{"p/a": {Data: []byte("a"), Mode: 0o644}, "p/b": {Data: []byte("b"), Mode: 0o644}}
	opts := Options{Trees: &memoryCache{}, TreeKey: func(path string) string { return path },
		TreeCheck: func(string) TreeCheck { return &spoken{} }}
	_, err := Prepare(t.Context(), unreadable{tree}, opts)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "p/b") {
		t.Errorf("error %v", err)
	}
}

// unreadable has a file that does not open.
type unreadable struct{ fstest.MapFS }

func (u unreadable) Open(name string) (fs.File, error) {
	if name == "p/b" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return u.MapFS.Open(name)
}

// A blob that a few bytes a node or a block make expand without bound is not taken.
func TestKeptTreeBounds(t *testing.T) {
	opts := Options{BlockSize: 4096, TreeKey: func(path string) string { return path }}
	tree := fstest.MapFS{"p": {Data: []byte("p"), Mode: 0o644}}
	for name, b := range map[string][]byte{
		"nodes":  forgedNodes(maxKeptNodes + 1),
		"blocks": forgedBlocks(maxKeptBlocks + 1),
	} {
		opts.Trees = anyTree(b)
		if p := prepare(t, tree, opts); p.stats.Bytes != 1 {
			t.Errorf("%s: it was taken: %+v", name, p.stats)
		}
	}
	// Smaller ones of their kind are.
	opts.Trees = anyTree(forgedBlocks(1000))
	if p := prepare(t, tree, opts); p.stats.Bytes != 1000*4096 {
		t.Errorf("of blocks: %+v", p.stats)
	}
	opts.Trees = anyTree(forgedNodes(1000))
	if p := prepare(t, tree, opts); p.stats.Inodes != 1001 {
		t.Errorf("of nodes: %+v", p.stats)
	}
}

// forgedNodes is a directory of pipes, with it as many as n.
func forgedNodes(n int) []byte {
	b := binary.AppendUvarint([]byte{byte(typeDir), 0, 0, 0, 0}, uint64(n-1))
	for i := range n - 1 {
		b = appendString(b, fmt.Sprintf("%06x", i))
		b = append(b, byte(typeFifo), 0, 0, 0, 0)
	}
	return b
}

// forgedBlocks is a file of zeros.
func forgedBlocks(n int) []byte {
	b := binary.AppendUvarint([]byte{byte(typeFile), 0, 0, 0, 0}, uint64(n)*4096)
	return append(b, make([]byte, 2+n)...)
}
