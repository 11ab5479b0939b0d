// Package hostroot follows symlinks beneath a host directory that stands for "/".
package hostroot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is the kernel's limit of symlinks in one path.
const maxLinks = 40

// Root is the directory that stands for "/": an absolute symlink within it
// leads to a place within it. Paths outside it mean what the host means.
type Root string

// New returns the Root at dir, which must exist; "" is the host's own root.
func New(dir string) (Root, error) {
	if dir == "" {
		return "/", nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", err
	}
	return Root(real), nil
}

// Host is where the host has p, an absolute path beneath the root.
func (r Root) Host(p string) string { return filepath.Join(string(r), p) }

// Inside is how the root names the host path p, which lies in it.
func (r Root) Inside(p string) string {
	return "/" + strings.TrimPrefix(strings.TrimPrefix(p, string(r)), "/")
}

func (r Root) contains(p string) bool {
	if p == string(r) || string(r) == "/" {
		return true
	}
	return strings.HasPrefix(p, string(r)+string(filepath.Separator))
}

// Resolve is the host path p without symlinks.
func (r Root) Resolve(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	sep := string(filepath.Separator)
	cur, todo := filepath.VolumeName(abs)+sep, strings.Split(abs[len(filepath.VolumeName(abs)):], sep)
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			cur = r.parent(cur)
			continue
		}
		next := filepath.Join(cur, name)
		target, err := linkTarget(next)
		if err != nil {
			return "", err
		}
		if target == "" {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: more than %d symlinks", p, maxLinks)
		}
		if filepath.IsAbs(target) {
			cur = r.base(next)
		}
		todo = append(strings.Split(target, sep), todo...)
	}
	return cur, nil
}

// linkTarget is "" for what is not a symlink.
func linkTarget(p string) (string, error) {
	fi, err := os.Lstat(p)
	if err != nil || fi.Mode()&os.ModeSymlink == 0 {
		return "", err
	}
	return os.Readlink(p)
}

// parent is where ".." leads: from the root, to itself.
func (r Root) parent(p string) string {
	if p == string(r) {
		return p
	}
	return filepath.Dir(p)
}

// base is where an absolute symlink at p starts from.
func (r Root) base(p string) string {
	if r.contains(p) {
		return string(r)
	}
	return string(filepath.Separator)
}
