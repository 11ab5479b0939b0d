package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/nix"
)

// hashLen is the length of a store path's hash; "-" and the name follow.
const hashLen = 32

// closure is what is varied.
type closure struct {
	infos []nix.PathInfo // in the order of the names without the hash, which is isopress's own
	top   string         // base name, as all that follow
	users map[string][]string
	store string // directory on the host
}

func readClosure(dir, root string) (*closure, error) {
	f, err := os.Open(filepath.Join(dir, "registration"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	infos, err := nix.ParseRegistration(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	top, err := os.Readlink(filepath.Join(dir, "result"))
	if err != nil {
		return nil, err
	}
	if err := nix.CheckStorePath(top); err != nil {
		return nil, fmt.Errorf("%s leads to %w", filepath.Join(dir, "result"), err)
	}
	c := &closure{infos: infos, top: nix.Base(top), users: map[string][]string{}, store: filepath.Join(root, nix.StoreDir)}
	slices.SortFunc(infos, func(a, b nix.PathInfo) int {
		x, y := nix.Base(a.Path), nix.Base(b.Path)
		return cmp.Or(cmp.Compare(x[hashLen:], y[hashLen:]), cmp.Compare(x, y))
	})
	for _, i := range infos {
		for _, ref := range i.References {
			if ref != i.Path {
				c.users[nix.Base(ref)] = append(c.users[nix.Base(ref)], nix.Base(i.Path))
			}
		}
	}
	return c, nil
}

// target is the store path, and the file within it, that a link of the top level leads to.
func (c *closure) target(link string) (base, file string) {
	to, _ := os.Readlink(filepath.Join(c.store, c.top, link))
	base, file, _ = strings.Cut(nix.Base(to), "/")
	return base, file
}

// boots tells of what the firmware's loader wants, which isopress lays out in its own way.
func (c *closure) boots(base string) bool {
	kernel, _ := c.target("kernel")
	initrd, _ := c.target("initrd")
	return base == kernel || base == initrd || base == c.top
}

// onlyTop tells whether nothing but the top level refers to the path.
func (c *closure) onlyTop(base string) bool { return slices.Equal(c.users[base], []string{c.top}) }

// environment is the one path beside the top level that refers to the path, if only the top level refers to that in
// turn: a directory of links to all programs, say.
func (c *closure) environment(base string) string {
	users := slices.DeleteFunc(slices.Clone(c.users[base]), func(u string) bool { return u == c.top })
	if len(users) == 1 && c.onlyTop(users[0]) {
		return users[0]
	}
	return ""
}

// middle is the suitable path nearest to the middle of the order, one of 1 to 16 MiB where there is any, or "".
func (c *closure) middle(suits func(base string) bool) string {
	best, least := "", 0
	for i, info := range c.infos {
		base := nix.Base(info.Path)
		if c.boots(base) || !suits(base) {
			continue
		}
		distance := max(i-len(c.infos)/2, len(c.infos)/2-i)
		if info.NarSize < 1<<20 || info.NarSize > 16<<20 {
			distance += len(c.infos)
		}
		if best == "" || distance < least {
			best, least = base, distance
		}
	}
	return best
}
