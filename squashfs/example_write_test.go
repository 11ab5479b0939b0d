package squashfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/isopress/isopress/squashfs"
)

// A tree that is only in memory, with owners and a hard link.
func ExampleWrite() {
	date := time.Unix(1_700_000_000, 0)
	hosts := &fstest.MapFile{Data: []byte("127.0.0.1 localhost\n"), Mode: 0o644, ModTime: date,
		Sys: &squashfs.Attr{UID: 1000, GID: 100, Inode: 1, Nlink: 2}} // one file of two names
	tree := fstest.MapFS{
		"etc/hosts":     hosts,
		"etc/hosts.bak": hosts,
		"bin/sh":        {Data: []byte("busybox"), Mode: fs.ModeSymlink | 0o777, ModTime: date},
	}
	level, err := squashfs.ParseCompression("xz:6:bcj=none")
	if err != nil {
		log.Fatal(err)
	}
	f, err := os.CreateTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()

	res, err := squashfs.Write(context.Background(), f, tree, squashfs.Options{
		Compression: level,
		ModTime:     date,
		Warn:        func(path, msg string) { log.Println(path, msg) },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Files, "file,", res.Inodes, "inodes,", res.Size, "bytes")

	r, err := squashfs.NewReader(f, res.Size)
	if err != nil {
		log.Fatal(err)
	}
	info, err := r.Lstat("etc/hosts.bak")
	if err != nil {
		log.Fatal(err)
	}
	attr := info.Sys().(*squashfs.Attr)
	fmt.Println(info.Mode(), attr.Nlink, attr.UID, attr.GID, info.Size(), info.ModTime().Format(time.DateOnly))
	// Output:
	// 1 file, 5 inodes, 4096 bytes
	// -rw-r--r-- 2 1000 100 20 2023-11-14
}

// An image can lie within a larger file, such as a disk's: a plan knows how much
// room to leave for it.
func ExamplePrepare() {
	ctx := context.Background()
	tree := fstest.MapFS{"zeros": {Data: make([]byte, 10<<20)}, "text": {Data: []byte("text")}}
	plan, err := squashfs.Prepare(ctx, tree, squashfs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	stats := plan.Stats()
	fmt.Println(stats.Bytes, "bytes of content,", stats.PlannedBytes, "of them not zero; at most", plan.MaxSize(), "of image")

	disk, err := os.CreateTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(disk.Name())
	defer disk.Close()
	const start = 1 << 20
	res, err := plan.Write(ctx, io.NewOffsetWriter(disk, start))
	if err != nil {
		log.Fatal(err)
	}
	r, err := squashfs.NewReader(io.NewSectionReader(disk, start, res.Size), res.Size)
	if err != nil {
		log.Fatal(err)
	}
	b, err := fs.ReadFile(r, "text")
	fmt.Printf("%s %v\n", b, err)
	// Output:
	// 10485764 bytes of content, 4 of them not zero; at most 4096 of image
	// text <nil>
}

// An archive in a file is read in place: it stays open until the image is written,
// and is the caller's to close, after the Tar.
func ExampleFromTar_file() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "tree.tar")
	if err := os.WriteFile(name, archive("etc/motd", "hello\n"), 0o644); err != nil {
		log.Fatal(err)
	}

	in, err := os.Open(name)
	if err != nil {
		log.Fatal(err)
	}
	defer in.Close()
	tree, err := squashfs.FromTar(ctx, squashfs.TarOptions{}, in)
	if err != nil {
		log.Fatal(err)
	}
	defer tree.Close()
	out, err := os.Create(filepath.Join(dir, "image.squashfs"))
	if err != nil {
		log.Fatal(err)
	}
	defer out.Close()
	if _, err := squashfs.Write(ctx, out, tree, squashfs.Options{}); err != nil {
		log.Fatal(err)
	}

	r, err := squashfs.OpenReader(out.Name())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	b, err := fs.ReadFile(r, "etc/motd")
	fmt.Printf("%s%v\n", b, err)
	// Output:
	// hello
	// <nil>
}

// archive is one of a single file.
func archive(name, text string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return b.Bytes()
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
