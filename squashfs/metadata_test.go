//go:build linux

package squashfs

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTableTooLarge(t *testing.T) {
	// Only the length counts: no memory is behind it.
	huge, err := unix.Mmap(-1, 0, 1<<32, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(huge) }()
	file := &inode{kind: typeFile, dir: &inode{kind: typeDir}, name: "file"}
	err = (&treeWriter{inodes: &metadataWriter{out: huge}}).inode(file)
	if !errors.Is(err, ErrTooLarge) || strings.Contains(err.Error(), "squashfs: ") {
		t.Errorf("inode table: %v; want no prefix, which comes with the file's name", err)
	}
	err = (&treeWriter{dirs: &metadataWriter{out: huge}}).list(file.dir)
	if !errors.Is(err, ErrTooLarge) || strings.Contains(err.Error(), "squashfs: ") {
		t.Errorf("directory table: %v; want no prefix", err)
	}
	if _, err := (&metadataWriter{out: huge[:1<<32-1]}).ref(); err != nil {
		t.Errorf("one of just under 4 GiB: %v", err)
	}
}
