package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The output's name may lead elsewhere: what counts is where the file, and the
// temporary one beside it, will lie.
func TestFindTarget(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"tree/sub", "out"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tree/old"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"into": "tree/old", "again": "into", "dangling": "out/new", "lost": "nowhere/new", "loop": "loop",
		"sub": "tree/sub", "up": "sub/../old", "out/abs": filepath.Join(dir, "tree/new"), "stdout": "/dev/stdout", "to-dir": "tree",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for path, want := range map[string]string{
		"new": "new", "into": "tree/old", "again": "tree/old", "dangling": "out/new", "up": "tree/old", "sub/../new": "tree/new",
		"out/abs": "tree/new", "sub/x": "tree/sub/x", filepath.Join(dir, "new"): "new", "./tree/../out/x": "out/x",
	} {
		got, err := findTarget(path)
		if err != nil || got.file != filepath.Join(dir, want) || got.path != path {
			t.Errorf("%s leads to %+v, want %s (%v)", path, got, want, err)
			continue
		}
		inside := strings.HasPrefix(want, "tree/")
		if err := got.checkOutside("tree"); (err != nil) != inside {
			t.Errorf("%s, at %s: within tree? %v", path, want, err)
		}
	}
	for path, want := range map[string]string{
		"lost": "the directory " + dir + "/nowhere does not exist", "nowhere/x": "the directory nowhere does not exist", "loop": "more than 40 symlinks",
		"out": "a directory", "to-dir": "a directory", "out/": "a directory", "new/": "a directory", "..": "a directory", "/dev/null": "not a regular file",
		"tree/old/x": "not a directory",
	} {
		if got, err := findTarget(path); err == nil || !strings.Contains(err.Error(), path+": "+want) {
			t.Errorf("%s leads to %+v, %v; want %q", path, got, err, want)
		}
	}
}

// The names of open files are not names that a file could get, also where they
// lead to a regular file.
func TestDescriptorsAreNoOutputs(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/dev/stdout", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	paths := []string{"-", "/dev/stdout", "/dev/stderr", "/dev/../dev/stdout", "/dev/fd/1", filepath.Join(dir, "link")}
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		paths = append(paths, "/proc/self/fd/1", "/proc/thread-self/fd/2", "/proc/self/task/../fd/1")
	}
	for _, path := range paths {
		var option OptionError
		if got, err := findTarget(path); !errors.As(err, &option) {
			t.Errorf("%s leads to %+v, %v", path, got, err)
		}
	}
}

// A link stays a link, and what it leads to is new.
func TestOutputBehindLink(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"old", "new"} {
		if err := os.Symlink(name, filepath.Join(dir, "to-"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old", "new"} {
		target, err := findTarget(filepath.Join(dir, "to-"+name))
		if err != nil {
			t.Fatal(err)
		}
		err = writeOutput(target, func(out *output) error {
			_, err := out.WriteAt([]byte("content"), 0)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != "content" || err != nil {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
		if link, err := os.Readlink(filepath.Join(dir, "to-"+name)); link != name || err != nil {
			t.Errorf("to-%s leads to %q, %v", name, link, err)
		}
	}
}
