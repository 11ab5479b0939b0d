package hostroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "root/a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"absolute": "/a/b", "relative": "a/b", "a/up": "../../../../a", "chain": "absolute/../b", "loop": "loop", "dangling": "/none", "etc": "/tmp",
	} {
		if err := os.Symlink(target, filepath.Join(dir, "root", name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := New(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/a/b": "/a/b", "/absolute": "/a/b", "/relative/.": "/a/b", "/a/up/b": "/a/b", "/chain": "/a/b",
		"/loop": "more than 40 symlinks", "/dangling": "no such file", "/etc": "no such file", "/none": "no such file",
	} {
		got, err := root.Resolve(root.Host(path))
		if strings.HasPrefix(want, "/") {
			if err != nil || root.Inside(got) != want || !strings.HasPrefix(got, dir) {
				t.Errorf("%s: %s, %v; want %s", path, got, err, want)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want an error with %q", path, got, err, want)
		}
	}
	if _, err := New(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root that is not there: %v", err)
	}
	if host, err := New(""); err != nil || host.Host("/x") != "/x" || host.Inside("/x") != "/x" {
		t.Errorf("the host's own root: %q, %v", host, err)
	}
}
