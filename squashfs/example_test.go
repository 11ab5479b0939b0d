package squashfs_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/isopress/isopress/squashfs"
)

// An image of a tree that is only in memory, written and read back.
func ExampleWrite() {
	tree := fstest.MapFS{
		"etc/hostname": {Data: []byte("example\n"), Mode: 0o644},
		"etc/motd":     {Data: []byte("example\n"), Mode: 0o644}, // stored once
		"bin/sh":       {Data: []byte("busybox"), Mode: fs.ModeSymlink | 0o777},
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "image.squashfs"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	level, err := squashfs.ParseCompression("zstd:19")
	if err != nil {
		log.Fatal(err)
	}
	res, err := squashfs.Write(context.Background(), f, tree, squashfs.Options{Compression: level})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d files, %d of them a duplicate, %d bytes\n", res.Files, res.DuplicateFiles, res.Size)

	image, err := squashfs.NewReader(f, res.Size)
	if err != nil {
		log.Fatal(err)
	}
	b, err := fs.ReadFile(image, "etc/motd")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", b)
	// Output:
	// 2 files, 1 of them a duplicate, 4096 bytes
	// example
}

// DirFS gives a directory of the host with its owners, links and xattrs.
func ExampleDirFS() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o644); err != nil {
		log.Fatal(err)
	}
	plan, err := squashfs.Prepare(context.Background(), squashfs.DirFS(dir), squashfs.Options{AllRoot: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Stats().Bytes, "bytes,", plan.Stats().Blocks, "blocks: all zero")
	// Output: 1048576 bytes, 0 blocks: all zero
}
