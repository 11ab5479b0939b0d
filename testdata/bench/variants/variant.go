package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/isopress/isopress/internal/nix"
)

// variant is a closure that is being changed.
type variant struct {
	*closure
	name    string
	infos   []nix.PathInfo
	renamed renames
	changed int64 // bytes of files with another content
}

func newVariant(c *closure, name string) *variant {
	v := &variant{closure: c, name: name, renamed: renames{}}
	for _, i := range c.infos {
		i.References = slices.Clone(i.References)
		v.infos = append(v.infos, i)
	}
	return v
}

// renames are new hashes by the old ones.
type renames map[string]string

// base32 is Nix's alphabet.
const base32 = "0123456789abcdfghijklmnpqrsvwxyz"

// rename gives a path a new hash, and returns its new base name.
func (v *variant) rename(base string) string {
	sum := sha256.Sum256([]byte(v.name + " " + base))
	hash := make([]byte, hashLen)
	for i := range hash {
		hash[i] = base32[sum[i]%32]
	}
	v.renamed[base[:hashLen]] = string(hash)
	return string(hash) + base[hashLen:]
}

// replace puts the new hashes into b. What may be a hash is looked at from its end, as Nix does it: a byte that no
// hash has rules out all places over it.
func (r renames) replace(b []byte) {
	for start := 0; start+hashLen <= len(b); {
		bad := -1
		for i := start + hashLen - 1; i >= start; i-- {
			if !inHash[b[i]] {
				bad = i
				break
			}
		}
		if bad >= 0 {
			start = bad + 1
			continue
		}
		if to, ok := r[string(b[start:start+hashLen])]; ok {
			copy(b[start:], to)
			start += hashLen
			continue
		}
		start++
	}
}

var inHash = func() (table [256]bool) {
	for _, c := range []byte(base32) {
		table[c] = true
	}
	return table
}()

// edit changes the contents of regular files and the targets of links, by their path within a store path.
type edit func(path string, mode fs.FileMode, data []byte) []byte

// copyPath makes the store path under the base name to, with the new hashes and the edit, which may be nil.
func (v *variant) copyPath(from, to string, e edit) error {
	src, dst := filepath.Join(v.store, from), filepath.Join(v.store, to)
	return filepath.WalkDir(src, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, _ := filepath.Rel(src, name)
		return v.copyFile(name, filepath.Join(dst, path), path, d, e)
	})
}

func (v *variant) copyFile(from, to, path string, d fs.DirEntry, e edit) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return os.Mkdir(to, 0o755)
	case fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(string(v.edited(path, info.Mode(), []byte(target), e)), to)
	case 0:
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		is := v.edited(path, info.Mode(), data, e)
		if err := os.WriteFile(to, is, info.Mode().Perm()|0o200); err != nil {
			return err
		}
		return os.Chtimes(to, time.Unix(1, 0), time.Unix(1, 0))
	}
	return fmt.Errorf("%s: no store has files of type %v", from, info.Mode().Type())
}

// edited is the new content, which is counted when it is another one.
func (v *variant) edited(path string, mode fs.FileMode, data []byte, e edit) []byte {
	is := bytes.Clone(data)
	v.renamed.replace(is)
	if e != nil {
		is = e(path, mode, is)
	}
	if !bytes.Equal(is, data) {
		v.changed += int64(len(is))
	}
	return is
}

// changePath gives the path a new hash and an edited content.
func (v *variant) changePath(base string, e edit) error {
	if base == "" {
		return errNone
	}
	return v.copyPath(base, v.rename(base), e)
}

// changeTop gives the top level, which is to be changed last, a new hash.
func (v *variant) changeTop(e edit) error { return v.changePath(v.top, e) }

// remove takes a path from the closure.
func (v *variant) remove(base string) {
	path := nix.StoreDir + "/" + base
	v.infos = slices.DeleteFunc(v.infos, func(i nix.PathInfo) bool { return i.Path == path })
	for i := range v.infos {
		v.infos[i].References = slices.DeleteFunc(v.infos[i].References, func(r string) bool { return r == path })
	}
}

// add registers a new path, which refers to what another does, and which the top level refers to.
func (v *variant) add(base, as string) {
	for i := range v.infos {
		if nix.Base(v.infos[i].Path) == v.top {
			v.infos[i].References = append(v.infos[i].References, nix.StoreDir+"/"+base)
		}
	}
	for _, i := range v.infos {
		if nix.Base(i.Path) == as {
			refs := slices.DeleteFunc(slices.Clone(i.References), func(r string) bool { return r == i.Path })
			v.infos = append(v.infos, nix.PathInfo{Path: nix.StoreDir + "/" + base, References: refs})
			return
		}
	}
}

// write leaves the closure's lists in dir.
func (v *variant) write(dir, about string) error {
	rename := func(path string) string {
		b := []byte(path)
		v.renamed.replace(b)
		return string(b)
	}
	var paths strings.Builder
	for i := range v.infos {
		info := &v.infos[i]
		if path := rename(info.Path); path != info.Path || info.NarHash == "" {
			info.Path = path
			var err error
			if info.NarHash, info.NarSize, err = narHash(filepath.Join(v.store, nix.Base(path))); err != nil {
				return err
			}
		}
		for j, ref := range info.References {
			info.References[j] = rename(ref)
		}
		fmt.Fprintln(&paths, info.Path)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"store-paths":  paths.String(),
		"registration": string(nix.FormatRegistration(v.infos)),
		"about":        about + "\n",
		"bytes":        fmt.Sprintln(v.changed),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
