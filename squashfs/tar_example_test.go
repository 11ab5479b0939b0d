package squashfs_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/isopress/isopress/squashfs"
)

// An image of two container layers, as they come from a registry.
func ExampleFromTar() {
	lower := layer(map[string]string{"etc/motd": "hello\n", "etc/issue": "first\n"})
	upper := layer(map[string]string{"etc/issue": "second\n", "etc/.wh.motd": ""})

	ctx := context.Background()
	tree, err := squashfs.FromTar(ctx, squashfs.TarOptions{}, lower, upper)
	if err != nil {
		log.Fatal(err)
	}
	defer tree.Close() // removes the expanded layers

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
	res, err := squashfs.Write(ctx, f, tree, squashfs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	issue, err := tree.Open("etc/issue")
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(issue)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d file: %s", res.Files, text)
	// Output: 1 file: second
}

// layer is a compressed archive.
func layer(files map[string]string) io.Reader {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			log.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	if err := z.Close(); err != nil {
		log.Fatal(err)
	}
	return &b
}
