package builder

import (
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"
)

func TestExclude(t *testing.T) {
	tree := fstest.MapFS{}
	for _, name := range []string{"a", "d/a", "d/b.txt", "d/e/a", "d/e/[x]", "d/e/.hidden", "d/\xff", "!bang", "f,g"} {
		tree[name] = &fstest.MapFile{}
	}
	for pattern, want := range map[string]string{
		"a": "a d/a d/e/a", "/a": "a", "./a": "a", "d/a": "d/a", "/d/a": "d/a", "e/a": "", "**/e/a": "d/e/a",
		"d/*": "d/a d/b.txt d/e d/\xff", "d/?": "d/a d/e d/\xff", "d/**": "d/a d/b.txt d/e d/e/.hidden d/e/[x] d/e/a d/\xff",
		"d/**/a": "d/a d/e/a", "d/**/": "d/e", "e/": "d/e", "a/": "", "**": "!bang a d d/a d/b.txt d/e d/e/.hidden d/e/[x] d/e/a d/\xff f,g",
		"*.txt": "d/b.txt", "{a,b.*}": "a d/a d/b.txt d/e/a", "[ab]": "a d/a d/e/a", "[!a]": "d d/e d/\xff", "[^a]": "d d/e d/\xff",
		`\[x\]`: "d/e/[x]", `\!bang`: "!bang", "f,g": "f,g", ".*": "d/e/.hidden", "A": "",
	} {
		x, err := newExcluder([]string{pattern})
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		got := ""
		err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && name != "." && x.exclude(name, d) {
				if got != "" {
					got += " "
				}
				got += name
			}
			return err
		})
		if err != nil || got != want {
			t.Errorf("%s leaves out %q, want %q (%v)", pattern, got, want, err)
		}
		if used := len(x.warnings()) == 0; used != (want != "") {
			t.Errorf("%s: used %v", pattern, used)
		}
	}
	for _, bad := range []string{"", "/", "./", "[", "a[b", `a\`, "{a", "!a", "/!a", "a//b", "../a", "a/..", "a/./b", "a//", "//a", "/../a/"} {
		if _, err := newExcluder([]string{bad}); err == nil {
			t.Errorf("%q is a pattern", bad)
		}
	}
}

// A warning says no more than is known: what lies in a directory that is left
// out was not looked at.
func TestExcludeWarnings(t *testing.T) {
	tree := fstest.MapFS{"a/b/x": {}, "c": {}}
	const depth = "; a pattern with a slash is a path from the root of what is pressed, **/ at its start means any depth"
	for _, tc := range []struct {
		patterns []string
		want     []string
	}{
		{[]string{"c", "x"}, nil},
		{[]string{"y"}, []string{"y: nothing matches"}},
		{[]string{"b/x", "c"}, []string{"b/x: nothing matches" + depth}},
		{[]string{"a", "a/b/x", "y"}, []string{
			"a/b/x: nothing matches outside the directories that other patterns leave out" + depth,
			"y: nothing matches outside the directories that other patterns leave out"}},
	} {
		x, err := newExcluder(tc.patterns)
		if err != nil {
			t.Fatal(err)
		}
		err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && name != "." && x.exclude(name, d) && d.IsDir() {
				return fs.SkipDir
			}
			return err
		})
		if got := x.warnings(); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q (%v)", tc.patterns, got, tc.want, err)
		}
	}
}
