package kcmdline

import (
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	for _, s := range []string{"NIXOS", "MY DISC", `a\x20b`, "tab\t\"quote\"", "é", "\x00\xff"} {
		e := Escape(s)
		if strings.ContainsAny(e, " \t\"") || Unescape(e) != s {
			t.Errorf("%q: escaped %q, back %q", s, e, Unescape(e))
		}
	}
}

func TestRoot(t *testing.T) {
	for line, want := range map[string]string{
		"quiet":                              "",
		"root=LABEL=A quiet root=LABEL=B":    "B",
		`root="LABEL=MY ISO" quiet`:          "MY ISO",
		`"root=LABEL=MY ISO"`:                "MY ISO",
		`x="root=LABEL=A" root=LABEL=a\x20b`: "a b",
		"root=LABEL=A -- root=LABEL=B":       "A",
		"root=/dev/disk/by-label/C":          "C",
		"root=LABEL=A root=/dev/sda":         "",
		"-- root=LABEL=A":                    "",
	} {
		root, _ := Root(line)
		if got, _ := Label(root); got != want {
			t.Errorf("%q: volume ID %q, want %q", line, got, want)
		}
	}
	if Check(`a="b`) == nil || Check(`a="b c"`) != nil {
		t.Error("open quotes are not told from closed ones")
	}
}
