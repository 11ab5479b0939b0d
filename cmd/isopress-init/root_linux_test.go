package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckInit(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, mode := range map[string]os.FileMode{"good": 0o755, "plain": 0o644} {
		if err := os.WriteFile(at(name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "good", "dangling": "/nowhere/init", "circle": "circle"} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"good": "", "link": "", "plain": "not executable", ".": "not a file", "none": "is not there",
		"dangling": "a symlink to /nowhere/init, which is not there", "circle": "too many",
	} {
		err := checkInit(at(name))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExecError(t *testing.T) {
	for err, want := range map[error]string{
		unix.ENOENT: "interpreter", unix.ENOEXEC: "not a program for this machine", unix.EACCES: "permission denied",
	} {
		if got := execError("/init", err).Error(); !strings.Contains(got, want) {
			t.Errorf("%v: %s", err, got)
		}
	}
}

func TestRemoveWithin(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "a/b"), 0o755),
		os.WriteFile(filepath.Join(dir, "a/b/c"), nil, 0o644), os.Symlink("/etc", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		t.Fatal(err)
	}
	// As if everything in it were another file system.
	if err := removeWithin(dir, uint64(st.Dev)+1); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("of another device: %v, %v", list, err)
	}
	if err := removeWithin(dir, uint64(st.Dev)); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

func TestAttachLoopErrors(t *testing.T) {
	if _, err := attachLoop(filepath.Join(t.TempDir(), "none"), "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
