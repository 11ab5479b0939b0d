package builder

import (
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/squashfs"
)

// Ranks of store paths, by how often they change.
const (
	rankCommon = iota
	rankLeaf   // only what nobody refers to refers to it
	rankTop    // nobody refers to it: it changes whenever something does, as the registration
)

// orderOptions lets store paths lie by their names without the hash, so that one stays where it was
// when it is built anew; what changes often lies behind the rest, as far as the
// registration tells of references, and so does what refers to store paths.
func (c *Closure) orderOptions(opts *squashfs.Options) {
	ranks := c.ranks()
	opts.RootOrder = func(base string) squashfs.Place {
		return squashfs.Place{Rank: ranks[base], Name: nameOfPath(base)}
	}
	opts.Volatile = nix.StoreDir + "/"
}

func (c *Closure) ranks() map[string]int {
	used := map[string]bool{}
	eachUse := func(f func(path, user string)) {
		for _, i := range c.registration {
			for _, r := range i.References {
				if r != i.Path {
					f(r, i.Path)
				}
			}
		}
	}
	eachUse(func(path, _ string) { used[path] = true })
	ranks := map[string]int{registrationFile: rankTop}
	for _, i := range c.registration {
		ranks[nix.Base(i.Path)] = rankTop
		if used[i.Path] {
			ranks[nix.Base(i.Path)] = rankLeaf
		}
	}
	eachUse(func(path, user string) {
		if used[user] {
			ranks[nix.Base(path)] = rankCommon
		}
	})
	return ranks
}
