package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFilesToCopy(t *testing.T) {
	dir := t.TempDir()
	page := os.Getpagesize()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "boot"), 0o755), os.Symlink("b", filepath.Join(dir, "link")),
		os.WriteFile(filepath.Join(dir, "boot/kernel"), make([]byte, 3*page), 0o644),
		os.WriteFile(filepath.Join(dir, "b"), make([]byte, page+1), 0o644),
		os.WriteFile(filepath.Join(dir, "a"), make([]byte, page), 0o644)); err != nil {
		t.Fatal(err)
	}
	files, need, err := filesToCopy(dir)
	if err != nil || len(files) != 2 || files[0].Name() != "a" || files[1].Name() != "b" || need != int64(3*page) {
		t.Errorf("%d files, %d bytes, %v", len(files), need, err)
	}
	if _, _, err := filesToCopy(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestCopyToDir(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	file := filepath.Join(from, "image")
	if err := os.WriteFile(file, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	p := &progress{total: 7, saidAt: time.Now()}
	if err := copyToDir(to, from, info, buf, p); err != nil || p.done != 7 {
		t.Errorf("%d bytes, %v", p.done, err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "image")); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	var unreadable *readError
	if err := copyToDir(to, from, info, buf, p); !errors.Is(err, os.ErrExist) || errors.As(err, &unreadable) {
		t.Errorf("over a file: %v", err)
	}
	// A directory can be opened but not read, and a file that is gone not even that.
	for _, tc := range []struct {
		spoil func() error
		want  string
	}{
		{func() error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o755)) }, "/image on the medium cannot be read at byte 0 of 7: is a directory"},
		{func() error { return os.Remove(file) }, "at byte 0 of 7: no such file"},
	} {
		if err := tc.spoil(); err != nil {
			t.Fatal(err)
		}
		err := copyToDir(t.TempDir(), from, info, buf, p)
		if !errors.As(err, &unreadable) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), from) {
			t.Errorf("%v, want %s", err, tc.want)
		}
	}
}
