package squashfs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/isopress/isopress/squashfs"
)

// press writes an image of a directory of the host.
func press(ctx context.Context, image, dir string) (res *squashfs.Result, err error) {
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	// An error of Close can mean that the image is not all there.
	defer func() { err = errors.Join(err, f.Close()) }()
	return squashfs.Write(ctx, f, squashfs.DirFS(dir), squashfs.Options{AllRoot: true})
}

// A directory of the host becomes an image in a file, which is read back.
func Example() {
	tmp, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	image := filepath.Join(tmp, "image.squashfs")
	res, err := press(context.Background(), image, "testdata/example")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Files, "files,", res.Bytes, "bytes of content,", res.DuplicateFiles, "duplicate")

	r, err := squashfs.OpenReader(image)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	err = fs.WalkDir(r, ".", func(name string, _ fs.DirEntry, err error) error {
		fmt.Println(name)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	b, err := fs.ReadFile(r, "etc/hostname")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", b)
	// Output:
	// 2 files, 16 bytes of content, 1 duplicate
	// .
	// etc
	// etc/hostname
	// etc/motd
	// example
}
