package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// file is an entry of a tree, with all that is to stay.
type file struct {
	attributes string // type, mode, owners, date, and a link's target
	links      string // the names that are the same file
	digest     string // SHA-256 of its content
	size       int64
	host       string // where it was extracted
}

// tree is what one way of reading an image gives, by path.
type tree map[string]*file

// readings are the ways in which systems read an image, as xorriso's -read_fs names them.
var readings = []struct{ name, as string }{
	{"any", "Rock Ridge"}, {"norock", "Joliet"}, {"ecma119", "plain ISO 9660"},
}

// trees compares what every reading gives, content included.
func (j *judge) trees() error {
	var firstBefore, firstAfter tree
	for i, r := range readings {
		b, err := j.before.tree(r.name)
		if err != nil {
			return err
		}
		a, err := j.after.tree(r.name)
		if err != nil {
			j.fault("%s: the tree is unreadable: %v", r.as, err)
			continue
		}
		if i == 0 {
			firstBefore, firstAfter = b, a
			if err := j.manifest(b, a); err != nil {
				return err
			}
		}
		if err := j.compareTrees(r.as, b, a, sameChange(firstBefore, firstAfter)); err != nil {
			return err
		}
		for _, im := range []*image{j.before, j.after} {
			if err := os.RemoveAll(filepath.Join(im.work, r.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// tree extracts the image.
func (im *image) tree(reading string) (tree, error) {
	dir := filepath.Join(im.work, reading)
	_, err := run("xorriso", "-no_rc", "-report_about", "FAILURE", "-osirrox", "on", "-hardlinks", "on",
		"-read_fs", reading, "-indev", im.path, "-extract", "/", dir)
	if err != nil {
		return nil, err
	}
	return listTree(dir)
}

func listTree(dir string) (tree, error) {
	t := make(tree)
	byInode := make(map[uint64][]string)
	err := filepath.WalkDir(dir, func(host string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, inode, err := readEntry(host)
		if err != nil {
			return err
		}
		name := "/" + filepath.ToSlash(must(filepath.Rel(dir, host)))
		t[filepath.Clean(name)] = f
		if f.digest != "" {
			byInode[inode] = append(byInode[inode], name)
		}
		return nil
	})
	for _, names := range byInode {
		for _, name := range names {
			t[name].links = fmt.Sprint(names)
		}
	}
	return t, err
}

func must(s string, err error) string {
	if err != nil {
		panic(err) // a path below its own root always has a relative one
	}
	return s
}

func readEntry(host string) (*file, uint64, error) {
	info, err := os.Lstat(host)
	if err != nil {
		return nil, 0, err
	}
	st := info.Sys().(*syscall.Stat_t)
	f := &file{host: host, size: info.Size()}
	f.attributes = fmt.Sprintf("%v %d:%d %s", info.Mode(), st.Uid, st.Gid, info.ModTime().UTC().Format("2006-01-02T15:04:05"))
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(host)
		f.attributes += " -> " + target
		return f, st.Ino, err
	case info.Mode().IsRegular():
		f.digest, err = digest(host)
	}
	return f, st.Ino, err
}

func digest(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// sameChange tells of two files whether some path of an earlier reading has these contents, so that they are
// compared there, under the name that lists of checksums know.
func sameChange(b, a tree) func(x, y *file) bool {
	seen := make(map[[2]string]bool)
	for name, x := range b {
		if y := a[name]; y != nil {
			seen[[2]string{x.digest, y.digest}] = true
		}
	}
	return func(x, y *file) bool { return seen[[2]string{x.digest, y.digest}] }
}

func (j *judge) compareTrees(as string, b, a tree, compared func(x, y *file) bool) error {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if b[name] == nil {
			j.fault("%s: %s was not there", as, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if a[name] == nil {
			j.fault("%s: %s is missing", as, name)
			continue
		}
		if b[name].attributes != a[name].attributes || b[name].links != a[name].links {
			j.fault("%s: %s: %s %s, it was %s %s", as, name, a[name].attributes, a[name].links, b[name].attributes, b[name].links)
		}
		if as != readings[0].as && compared(b[name], a[name]) {
			continue
		}
		if err := j.compareContent(as, name, b, a); err != nil {
			return err
		}
	}
	return nil
}

// compareContent compares a file's content: it is the same, or a squashfs of the same tree, or a list of
// checksums that is right, or what tells of its own place.
func (j *judge) compareContent(as, name string, b, a tree) error {
	x, y := b[name], a[name]
	squashfs, err := startsWith(x.host, x.digest, "hsqs")
	switch {
	case err != nil:
		return err
	case squashfs:
		return j.compareSquashfs(as, name, x, y)
	case isSums(name) && x.digest != "":
		return j.compareSums(as, name, b, a)
	case x.digest == y.digest:
	case j.mayDiffer.match(name):
		j.note("%s: %s differs, as it may", as, name)
	case j.isCatalog(name, x):
	case j.isSystemPartition(name):
	default:
		return j.compareBootInfo(as, name, x, y)
	}
	return nil
}

func startsWith(host, digest, magic string) (bool, error) {
	if digest == "" {
		return false, nil
	}
	f, err := os.Open(host)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, len(magic))
	_, err = io.ReadFull(f, head)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return false, nil
	}
	return string(head) == magic, err
}

// isCatalog: El Torito's catalog is a file of some images; elTorito compares it. Other readings than Rock
// Ridge have other names.
func (j *judge) isCatalog(name string, f *file) bool {
	ok, _ := startsWith(f.host, f.digest, "\x01\x00\x00\x00")
	return j.before.cat != "" && ok && f.size == sectorSize
}

// isSystemPartition: a file that boots under UEFI; systemPartitions compares what is in it.
func (j *judge) isSystemPartition(name string) bool {
	return slices.ContainsFunc(j.before.boot, func(b bootImage) bool { return b.platform == "UEFI" && b.path == name })
}

// compareBootInfo allows the places of boot information tables to differ, in files where bootInfo finds them right.
func (j *judge) compareBootInfo(as, name string, x, y *file) error {
	b, err := os.ReadFile(x.host)
	if err != nil {
		return err
	}
	a, err := os.ReadFile(y.host)
	if err != nil {
		return err
	}
	for _, data := range [][]byte{a, b} {
		if len(data) < 64 || !bytes.Equal(data[8:12], []byte{16, 0, 0, 0}) {
			j.fault("%s: %s differs", as, name)
			return nil
		}
		clear(data[8:64])
		if len(data) >= 2556 {
			clear(data[2548:2556])
		}
	}
	if !bytes.Equal(a, b) || !j.boots(x.size) {
		j.fault("%s: %s differs", as, name)
	}
	return nil
}

// boots: a boot image for a BIOS has that size.
func (j *judge) boots(size int64) bool {
	return slices.ContainsFunc(j.before.boot, func(b bootImage) bool {
		return b.platform == "BIOS" && cmp.Compare((size+sectorSize-1)/sectorSize, b.sectors) == 0
	})
}
