package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/nix"
)

const (
	topPath    = "0r30bl9nhbcx0l0kabhlk946gxs003hp-system"
	kernelPath = "86a4hsxp7lcmk2njqqcsv6kb53dxk1d8-linux"
	leafPath   = "pncg64932s7z734jxl96czpbnzhrbj4c-etc"
	linksPath  = "sdgq3f2cmgn10i3y5m2pxz1qr4y0yc8v-path"
	libPath    = "ls8pjpj0cjpqb0rjr2m38a068zrghvyd-lib"
)

// testClosure is a small system, and the root that it lies in.
func testClosure(t *testing.T) (dir, root string) {
	t.Helper()
	dir, root = t.TempDir(), t.TempDir()
	text := func(refs ...string) string {
		return "#!/bin/sh\n" + nix.StoreDir + "/" + strings.Join(refs, "\n"+nix.StoreDir+"/") + strings.Repeat("\nline", 20)
	}
	for name, content := range map[string]string{
		topPath + "/init":       text(topPath, leafPath, linksPath),
		kernelPath + "/bzImage": strings.Repeat("kernel", 50_000),
		leafPath + "/profile":   text(leafPath, "0r30bl9nhbcx0l0kabhlk946gxs003h-short"),
		libPath + "/libx.so":    text(libPath) + strings.Repeat("code", 50_000),
		libPath + "/README":     text(libPath),
	} {
		file := filepath.Join(root, nix.StoreDir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(nix.StoreDir, target), name); err != nil {
			t.Fatal(err)
		}
	}
	link(topPath, filepath.Join(dir, "result"))
	link(kernelPath+"/bzImage", filepath.Join(root, nix.StoreDir, topPath, "kernel"))
	link(libPath+"/libx.so", filepath.Join(root, nix.StoreDir, linksPath, "libx.so"))
	var infos []nix.PathInfo
	for base, refs := range map[string][]string{
		topPath: {leafPath, kernelPath, linksPath}, kernelPath: nil, leafPath: {leafPath}, linksPath: {libPath}, libPath: {libPath},
	} {
		i := nix.PathInfo{Path: nix.StoreDir + "/" + base, NarHash: madeUp(base), NarSize: 200_000}
		for _, r := range refs {
			i.References = append(i.References, nix.StoreDir+"/"+r)
		}
		infos = append(infos, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "registration"), nix.FormatRegistration(infos), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, root
}

func TestVariants(t *testing.T) {
	dir, root := testClosure(t)
	out := t.TempDir()
	if err := run(dir, root, out); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ kept, made int }{
		"1-leaf":    {3, 2},
		"2-package": {2, 3},
		"3-grown":   {3, 2},
		"4-added":   {4, 2},
		"5-removed": {3, 1},
		"6-kernel":  {3, 2},
		"7-hashes":  {0, 5},
	} {
		kept, made := checkVariant(t, filepath.Join(out, name), root)
		if kept != want.kept || made != want.made {
			t.Errorf("%s: %d paths kept and %d made, want %d and %d", name, kept, made, want.kept, want.made)
		}
	}
}

// checkVariant looks at the lists and at what they name.
func checkVariant(t *testing.T, dir, root string) (kept, made int) {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	infos, err := nix.ParseRegistration(bytes.NewReader(read("registration")))
	if err != nil {
		t.Fatal(err)
	}
	old := map[string]bool{topPath: true, kernelPath: true, leafPath: true, linksPath: true, libPath: true}
	known, oldHash := map[string]bool{}, map[string]bool{}
	for base := range old {
		oldHash[madeUp(base)] = true
	}
	for _, path := range strings.Fields(string(read("store-paths"))) {
		known[path] = true
	}
	for _, i := range infos {
		base := nix.Base(i.Path)
		if !known[i.Path] {
			t.Errorf("%s: %s is registered and not listed", dir, i.Path)
		}
		for _, ref := range i.References {
			if !known[ref] {
				t.Errorf("%s: %s refers to %s, which is not listed", dir, i.Path, ref)
			}
		}
		if _, err := os.Lstat(filepath.Join(root, i.Path)); err != nil {
			t.Error(err)
		}
		if oldHash[i.NarHash] != old[base] {
			t.Errorf("%s: %s has the NAR hash %s", dir, base, i.NarHash)
		}
		if old[base] {
			kept++
			continue
		}
		made++
		if hash, size, err := narHash(filepath.Join(root, i.Path)); err != nil || hash != i.NarHash || size != i.NarSize {
			t.Errorf("%s: %s is registered with NAR hash %s and %d bytes, and has %s and %d: %v", dir, base, i.NarHash, i.NarSize, hash, size, err)
		}
	}
	if kept == 0 {
		noneOf(t, old, infos, root)
	}
	return kept, made
}

// noneOf looks for old hashes in the files of new paths.
func noneOf(t *testing.T, old map[string]bool, infos []nix.PathInfo, root string) {
	t.Helper()
	for _, i := range infos {
		filepath.WalkDir(filepath.Join(root, i.Path), func(name string, d fs.DirEntry, err error) error {
			data, _ := os.ReadFile(name)
			if target, err := os.Readlink(name); err == nil {
				data = []byte(target)
			}
			for base := range old {
				if bytes.Contains(data, []byte(base)) {
					t.Errorf("%s still refers to %s", name, base)
				}
			}
			return err
		})
	}
}

func TestReplace(t *testing.T) {
	const from, to = "0r30bl9nhbcx0l0kabhlk946gxs003hp", "11111111111111111111111111111111"
	for text, want := range map[string]string{
		from:                to,
		"abc" + from + from: "abc" + to + to,
		"e" + from + "-x":   "e" + to + "-x",
		from[1:]:            from[1:],
		from[1:] + "e":      from[1:] + "e",
		"":                  "",
	} {
		b := []byte(text)
		renames{from: to}.replace(b)
		if string(b) != want {
			t.Errorf("%s became %s, want %s", text, b, want)
		}
	}
}

// madeUp stands for a NAR hash that nobody looks at but as a name.
func madeUp(base string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(base))) }

// The hash is what nix-hash --type sha256 says of the same file.
func TestNARHash(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hash, size, err := narHash(file)
	if want := "1c37d01af40be2e80691de3cc3df44377a699afbb17c68f080964b2fd071fc13"; err != nil || hash != want || size != 120 {
		t.Errorf("%s, %d bytes, %v; want %s", hash, size, err, want)
	}
}
