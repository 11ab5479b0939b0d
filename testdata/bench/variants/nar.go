package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/isopress/isopress/internal/nix"
)

// narHash is the SHA-256 of a store path's Nix archive, as the registration has it, and the archive's size. A
// build reads a path anew each time where it is another.
func narHash(path string) (hash string, size uint64, err error) {
	h := sha256.New()
	counted := &countingWriter{w: h}
	w := nix.NewNARWriter(counted)
	if err := addToNAR(w, path, "", 0); err != nil {
		return "", 0, err
	}
	if err := w.Close(); err != nil {
		return "", 0, err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), counted.n, nil
}

type countingWriter struct {
	w io.Writer
	n uint64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += uint64(n)
	return n, err
}

func addToNAR(w *nix.NARWriter, path, name string, depth int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	h := nix.NARHeader{Depth: depth, Name: name, Mode: info.Mode(), Size: info.Size()}
	if info.Mode().Type() == fs.ModeSymlink {
		if h.Target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	case fs.ModeDir:
		entries, err := os.ReadDir(path) // sorted
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := addToNAR(w, filepath.Join(path, e.Name()), e.Name(), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
