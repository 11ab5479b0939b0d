//go:build linux

package builder

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Of the files beside an output those go that a killed build of it has left, and no others.
func TestStaleOutputs(t *testing.T) {
	dir := t.TempDir()
	out := target{path: "image", file: filepath.Join(dir, "image.iso")}
	held, err := createOutput(out)
	if err != nil {
		t.Fatal(err)
	}
	defer held.lock.Close()
	closed, err := createOutput(out) // as while it is renamed
	if err != nil {
		t.Fatal(err)
	}
	defer closed.lock.Close()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	const number = "1234567890123456789"
	stay := []string{"image.iso", ".image.iso", ".image.iso" + number[:12], ".image.iso" + number + "x", ".image.is" + number, "image.iso" + number,
		".other.iso" + number, ".image.iso-" + number, "linked"}
	for _, name := range append(slices.Clone(stay), ".image.iso"+number, ".image.iso"+number[2:]) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Of other kinds, or with another name.
	for _, err := range []error{
		os.Mkdir(dir+"/.image.iso2"+number[1:], 0o700),
		os.Symlink("linked", dir+"/.image.iso3"+number[1:]),
		os.Link(dir+"/linked", dir+"/.image.iso4"+number[1:]),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	stay = append(stay, ".image.iso2"+number[1:], ".image.iso3"+number[1:], ".image.iso4"+number[1:],
		filepath.Base(held.Name()), filepath.Base(closed.Name()))
	if err := writeOutput(out, func(*output) error { return errors.New("no build") }); err == nil {
		t.Error("no error")
	}
	var left []string
	found, _ := os.ReadDir(dir)
	for _, d := range found {
		left = append(left, d.Name())
	}
	if slices.Sort(stay); !slices.Equal(left, stay) {
		t.Errorf("left\n%q, want\n%q", left, stay)
	}
}

// Builds of one output do not take each other's files for left over, at any moment.
func TestOutputsAtOnce(t *testing.T) {
	dir := t.TempDir()
	out := target{path: "image", file: filepath.Join(dir, "image")}
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for range 50 {
				err := writeOutput(out, func(o *output) error {
					_, err := o.WriteAt([]byte("content"), 0)
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if found, err := os.ReadDir(dir); err != nil || len(found) != 1 {
		t.Errorf("left %v, %v", found, err)
	}
}
