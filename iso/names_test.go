package iso

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestISONames(t *testing.T) {
	x := strings.Repeat
	tests := []struct {
		given, want []string // names that end in / are directories
	}{
		{[]string{"bzImage", "nix-store.squashfs", "version.txt"}, []string{"BZIMAGE.;1", "NIX_STORE.SQUASHFS;1", "VERSION.TXT;1"}},
		{[]string{".boot.cat", ".hidden", "a.", "é"}, []string{"_BOOT.CAT;1", "_HIDDEN.;1", "A.;1", "__.;1"}},
		{[]string{"A", "a", "b"}, []string{"A.;1", "A1.;1", "B.;1"}},
		{[]string{"A", "A1", "a"}, []string{"A.;1", "A1.;1", "A2.;1"}},
		{[]string{"FOO/", "foo"}, []string{"FOO", "FOO1.;1"}},
		{[]string{"a.b/", "a_b/"}, []string{"A_B", "A_B1"}},
		{[]string{"linux-6.12.30-generic"}, []string{"LINUX_6_12_30_GENERIC.;1"}},
		{[]string{x("d", 40) + "/", x("d", 41) + "/"}, []string{x("D", 31), x("D", 30) + "1"}},
		{[]string{x("f", 40) + ".json", x("f", 41) + ".json"}, []string{x("F", 26) + ".JSON;1", x("F", 25) + "1.JSON;1"}},
	}
	for _, tt := range tests {
		var children []*node
		for _, name := range tt.given {
			n := &node{name: strings.TrimSuffix(name, "/")}
			if n.name == name {
				n.file = &content{}
			}
			children = append(children, n)
		}
		if got := isoNames(children); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.given, got, tt.want)
		}
	}
}

// Names that differ only behind what ISO 9660 keeps get numbers, and that does not take for ever.
func TestISONamesCollide(t *testing.T) {
	var children []*node
	for i := range 20000 {
		children = append(children, &node{name: fmt.Sprintf("%s%05d", strings.Repeat("n", 40), i), file: &content{}})
	}
	names := isoNames(children)
	seen := make(map[string]bool)
	for _, name := range names {
		if seen[name] || len(name) > maxISOFile+len(".;1") {
			t.Fatalf("%q is there twice or too long", name)
		}
		seen[name] = true
	}
}

// ECMA-119 9.3: compared as if filled up with spaces, the name before the extension.
func TestISOOrder(t *testing.T) {
	want := []string{"A.;1", "A.A;1", "A.A0;1", "A.B;1", "A0.;1", "AA", "AA.C;1", "A_.;1", "B"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, func(a, b string) int { return strings.Compare(isoSortKey(a), isoSortKey(b)) })
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
