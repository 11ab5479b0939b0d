package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"github.com/isopress/isopress/internal/nix"
)

// changes are what may happen to a system, in the order of the table.
var changes = []struct {
	name string
	make func(v *variant) (about string, err error)
}{
	{"leaf", leaf},
	{"package", packageOfEnvironment},
	{"grown", grown},
	{"added", added},
	{"removed", removed},
	{"kernel", kernel},
	{"hashes", hashes},
}

var errNone = errors.New("no path suits")

// name is a base name without the hash.
func name(base string) string { return base[hashLen+1:] }

// leaf: a path that only the top level refers to, and the top level. A text file gets a line more; where no such
// path has one, a link gets a longer target.
func leaf(v *variant) (string, error) {
	base := v.middle(func(base string) bool { return v.onlyTop(base) && v.textFile(base) != "" })
	if base != "" {
		return v.textChanged(base, "")
	}
	base = v.middle(func(base string) bool { return v.onlyTop(base) && v.link(base) != "" })
	if base == "" {
		return "", errNone
	}
	link := v.link(base)
	err := v.changePath(base, func(path string, _ fs.FileMode, data []byte) []byte {
		if path == link {
			data = append(data, "-changed"...)
		}
		return data
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("leaf: the target of a link in %s", name(base)), v.changeTop(nil)
}

// packageOfEnvironment: a path that only a directory of links refers to, and that only the top level: all three.
func packageOfEnvironment(v *variant) (string, error) {
	base := v.middle(func(base string) bool { return v.environment(base) != "" && v.textFile(base) != "" })
	if base == "" {
		return "", errNone
	}
	return v.textChanged(base, v.environment(base))
}

func (v *variant) textChanged(base, environment string) (string, error) {
	file := v.textFile(base)
	about := fmt.Sprintf("a line in a text file of %s", name(base))
	if err := v.changePath(base, appendTo(file, []byte("changed\n"))); err != nil {
		return "", err
	}
	if environment == "" {
		return "leaf: " + about, v.changeTop(nil)
	}
	if err := v.changePath(environment, nil); err != nil {
		return "", err
	}
	return fmt.Sprintf("package: %s; the links to it in %s", about, name(environment)), v.changeTop(nil)
}

func appendTo(file string, more []byte) edit {
	return func(path string, _ fs.FileMode, data []byte) []byte {
		if path == file {
			data = append(data, more...)
		}
		return data
	}
}

// grown: the largest file of a path in the middle of the order gets longer by a tenth of the path's size.
func grown(v *variant) (string, error) {
	base := v.middle(func(base string) bool { return v.largest(base) != "" })
	if base == "" {
		return "", errNone
	}
	file := v.largest(base)
	data, err := os.ReadFile(filepath.Join(v.store, base, file))
	if err != nil {
		return "", err
	}
	size := v.narSize(base) / 10
	for len(data) < size {
		data = append(data, data...)
	}
	if err := v.changePath(base, appendTo(file, other(data[:size]))); err != nil {
		return "", err
	}
	return fmt.Sprintf("grown: %s by 10 %%, %d bytes at the end of its largest file", name(base), size), v.changeTop(nil)
}

// other is another content, which compresses as well.
func other(b []byte) []byte {
	b = bytes.Clone(b)
	for i := range b {
		b[i] ^= 0x55
	}
	return b
}

// added: a path with new content, of the size of the one before it in the middle of the order.
func added(v *variant) (string, error) {
	like := v.middle(func(base string) bool { return v.largest(base) != "" })
	if like == "" {
		return "", errNone
	}
	base := v.rename(like) + "-added"
	delete(v.renamed, like[:hashLen])
	err := v.copyPath(like, base, func(_ string, mode fs.FileMode, data []byte) []byte {
		if mode.IsRegular() {
			data = other(data)
		}
		return data
	})
	if err != nil {
		return "", err
	}
	v.add(base, like)
	if err := v.changeTop(nil); err != nil {
		return "", err
	}
	link := filepath.Join(v.store, v.renamed[v.top[:hashLen]]+v.top[hashLen:], "added")
	return fmt.Sprintf("added: %s", name(base)), os.Symlink(nix.StoreDir+"/"+base, link)
}

// removed: a path that only the top level and a directory of links refer to. The links stay.
func removed(v *variant) (string, error) {
	base := v.middle(func(base string) bool { return v.onlyTop(base) || v.environment(base) != "" })
	if base == "" {
		return "", errNone
	}
	v.remove(base)
	return fmt.Sprintf("removed: %s, %d bytes", name(base), v.narSize(base)), v.changeTop(nil)
}

// kernel: all of the kernel's image but its beginning, by which it is known as one, is another.
func kernel(v *variant) (string, error) {
	const setup = 64 << 10
	base, file := v.target("kernel")
	if !slices.ContainsFunc(v.infos, func(i nix.PathInfo) bool { return nix.Base(i.Path) == base }) {
		return "", errNone
	}
	err := v.changePath(base, func(path string, _ fs.FileMode, data []byte) []byte {
		if path == file && len(data) > setup {
			data = append(data[:setup:setup], other(data[setup:])...)
		}
		return data
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("kernel: %s of %s", file, name(base)), v.changeTop(nil)
}

// hashes: all paths have new hashes, and all references are to these.
func hashes(v *variant) (string, error) {
	to := map[string]string{}
	for _, i := range v.infos {
		base := nix.Base(i.Path)
		to[base] = v.rename(base)
	}
	for _, i := range v.infos {
		base := nix.Base(i.Path)
		if err := v.copyPath(base, to[base], nil); err != nil {
			return "", err
		}
	}
	return "hashes: every path's, and all references", nil
}

func (v *variant) narSize(base string) int {
	for _, i := range v.closure.infos {
		if nix.Base(i.Path) == base {
			return int(i.NarSize)
		}
	}
	return 0
}

// first is the first file, by its path, that suits, or "".
func (v *variant) first(base string, suits func(d fs.DirEntry, name string) bool) (found string) {
	dir := filepath.Join(v.store, base)
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && suits(d, name) {
			found, _ = filepath.Rel(dir, name)
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// textFile is a file that somebody may have written a line into, or "".
func (v *variant) textFile(base string) string {
	return v.first(base, func(d fs.DirEntry, name string) bool {
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 != 0 || info.Size() < 64 || info.Size() > 256<<10 {
			return false
		}
		data, err := os.ReadFile(name)
		return err == nil && utf8.Valid(data) && !bytes.Contains(data, []byte{0})
	})
}

// link is a symbolic link, or "".
func (v *variant) link(base string) string {
	return v.first(base, func(d fs.DirEntry, _ string) bool { return d.Type() == fs.ModeSymlink })
}

// largest is the largest regular file, or "" where all are small.
func (v *variant) largest(base string) (found string) {
	most := int64(64 << 10)
	v.first(base, func(d fs.DirEntry, name string) bool {
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() > most {
			most = info.Size()
			found, _ = filepath.Rel(filepath.Join(v.store, base), name)
		}
		return false
	})
	return found
}
