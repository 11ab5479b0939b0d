package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ownTree are the files of an own image, as extracted, with a manifest that an edit makes wrong.
func ownTree(t *testing.T, codec string, edit func(manifest string) string) tree {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("boot/kernel", "kernel")
	write("boot/bios.bin", codec)
	write("nix-store.squashfs", codec+"kernel")
	all, err := listTree(dir)
	check(t, err)
	write("isopress.json", edit(fmt.Sprintf(`{"builder": "%s", "options": {"compression": "%[1]s:3", "block_size": %d, "joliet": true},
		"boot": {"cmdline": "quiet"}, "files": [{"path": "nix-store.squashfs", "size": %d, "sha256": "%s"},
		{"path": "boot/kernel", "size": 6, "sha256": "%s", "within": "nix-store.squashfs", "offset": %[2]d}]}`,
		codec, len(codec), len(codec)+6, all["/nix-store.squashfs"].digest, all["/boot/kernel"].digest)))
	all, err = listTree(dir)
	check(t, err)
	return all
}

func TestManifest(t *testing.T) {
	same := func(s string) string { return s }
	replace := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	before := ownTree(t, "gzip", same)
	for name, c := range map[string]struct {
		edit func(string) string
		want string
	}{
		"right":          {same, ""},
		"old codec":      {replace("xz:3", "gzip:3"), `tells of compression "gzip:3"`},
		"command line":   {replace("quiet", "loud"), "it was map[boot:map[cmdline:quiet]"},
		"option":         {replace("true", "false"), "joliet:true"},
		"size":           {replace(`"size": 8`, `"size": 9`), "/nix-store.squashfs is not as it says"},
		"digest":         {replace(`"sha256": "`, `"sha256": "0`), "/nix-store.squashfs is not as it says"},
		"place":          {replace(`"offset": 2`, `"offset": 1`), "/boot/kernel does not lie at 1 of"},
		"within nothing": {replace(`"within": "nix`, `"within": "nox`), "lies within nox-store.squashfs, which is not there"},
		"no file":        {replace("boot/kernel", "boot/none"), "does not tell of /boot/kernel"},
		"no JSON":        {replace("{", ""), "invalid character"},
	} {
		j := &judge{codec: "xz"}
		check(t, j.manifest(before, ownTree(t, "xz", c.edit)))
		if c.want != "" {
			wantFault(t, j.findings, c.want)
		} else if len(j.findings) > 0 {
			t.Errorf("%s: %q", name, j.findings)
		}
	}
}
