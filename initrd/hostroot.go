package initrd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is the kernel's limit of symlinks in one path.
const maxLinks = 40

// hostRoot is the directory that stands for "/": an absolute symlink within it
// leads to a place within it. Paths outside it mean what the host means.
type hostRoot string

func newHostRoot(dir string) (hostRoot, error) {
	if dir == "" {
		return hostRoot(filepath.Clean("/")), nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("initrd: %w", err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("initrd: %w", err)
	}
	return hostRoot(real), nil
}

func (r hostRoot) contains(p string) bool {
	if p == string(r) || string(r) == "/" {
		return true
	}
	return strings.HasPrefix(p, string(r)+string(filepath.Separator))
}

// resolve is p without symlinks.
func (r hostRoot) resolve(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", fmt.Errorf("initrd: %w", err)
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
			return "", fmt.Errorf("initrd: %w", err)
		}
		if target == "" {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("initrd: %s: more than %d symlinks", p, maxLinks)
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
func (r hostRoot) parent(p string) string {
	if p == string(r) {
		return p
	}
	return filepath.Dir(p)
}

// base is where an absolute symlink at p starts from.
func (r hostRoot) base(p string) string {
	if r.contains(p) {
		return string(r)
	}
	return string(filepath.Separator)
}
