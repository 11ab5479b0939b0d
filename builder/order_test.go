package builder

import (
	"maps"
	"testing"

	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/squashfs"
)

// registered is a closure in which each path refers to the others named, by their names alone.
func registered(refs map[string][]string) *Closure {
	c := &Closure{}
	for name, uses := range refs {
		i := nix.PathInfo{Path: nix.StoreDir + "/" + name}
		for _, u := range uses {
			i.References = append(i.References, nix.StoreDir+"/"+u)
		}
		c.registration = append(c.registration, i)
	}
	return c
}

func TestRanks(t *testing.T) {
	for name, c := range map[string]struct {
		refs map[string][]string
		want map[string]int
	}{
		"a system": {
			map[string][]string{"system": {"system", "etc", "path", "libc"}, "etc": {"etc"}, "path": {"tool"}, "tool": {"libc"}, "libc": nil},
			map[string]int{"system": rankTop, "etc": rankLeaf, "path": rankLeaf, "tool": rankCommon, "libc": rankCommon},
		},
		"several that nobody refers to": {
			map[string][]string{"a": {"data", "libc"}, "b": {"data", "tool"}, "tool": {"libc"}, "data": nil, "libc": nil},
			map[string]int{"a": rankTop, "b": rankTop, "data": rankLeaf, "tool": rankLeaf, "libc": rankCommon},
		},
		"no references":   {map[string][]string{"a": nil, "b": {"b"}}, map[string]int{"a": rankTop, "b": rankTop}},
		"no registration": {nil, map[string]int{}},
	} {
		ranks := registered(c.refs).ranks()
		c.want[registrationFile] = rankTop
		if !maps.Equal(ranks, c.want) {
			t.Errorf("%s: %v, want %v", name, ranks, c.want)
		}
	}
}

func TestOrderOptions(t *testing.T) {
	const old, built = "0r30bl9nhbcx0l0kabhlk946gxs003hp-b", "zr30bl9nhbcx0l0kabhlk946gxs003hp-b"
	var opts squashfs.Options
	registered(map[string][]string{"1r30bl9nhbcx0l0kabhlk946gxs003hp-a": {old, built}, old: nil, built: nil}).orderOptions(&opts)
	for _, base := range []string{old, built} {
		if p := opts.RootOrder(base); p.Rank != rankLeaf || p.Name[:2] != "b " {
			t.Errorf("%s lies at %v", base, p)
		}
	}
	if opts.Volatile != "/nix/store/" {
		t.Errorf("volatile is %q", opts.Volatile)
	}
}
