//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// An ISO of an archive is the ISO of the tree that it was made of, to the byte;
// what it starts is looked for in the archive.
func TestTarISO(t *testing.T) {
	c := testenv.Closure(t)
	tree, dir := t.TempDir(), t.TempDir()
	for _, d := range []string{"usr/lib", "usr/sbin"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "usr/lib/first"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"sbin": "usr/sbin", "usr/sbin/init": "/usr/lib/first"} {
		if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(dir, "tree.tar.gz")
	run(t, "tar", "--format=pax", "-C", tree, "-czf", archive, ".")
	initBinary := filepath.Join(dir, initName)
	if err := os.WriteFile(initBinary, []byte("stands for it"), 0o755); err != nil {
		t.Fatal(err)
	}
	build := func(out string, more ...string) []string {
		return append([]string{"build", "-o", filepath.Join(dir, out), "--kernel", c.Kernel,
			"--kernel-modules", filepath.Dir(filepath.Dir(filepath.Dir(c.Modules))), "--init-binary", initBinary}, more...)
	}
	press(t, build("root.iso", "--root", tree)...)
	press(t, build("tar.iso", "--tar", archive)...)
	if a, b := digest(t, filepath.Join(dir, "root.iso")), digest(t, filepath.Join(dir, "tar.iso")); a != b {
		t.Errorf("the archive's ISO is %s, the tree's %s", b, a)
	}
	code, _, errs := isopress(t, build("bad.iso", "--tar", archive, "--init", "/sbin/other")...)
	if code == exitDone || !strings.Contains(errs, "init /sbin/other: ") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, _, errs = isopress(t, build("bad.iso", "--tar", archive, "--init", "/usr")...); code == exitDone || !strings.Contains(errs, "init /usr: not a program") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "bad.iso")); err == nil {
		t.Error("an ISO that would not start")
	}
}

func TestTarFullDisk(t *testing.T) {
	disk, dir := smallDisk(t, "8M"), t.TempDir()
	archive := filepath.Join(dir, "tree.tar.zst")
	if err := os.WriteFile(filepath.Join(dir, "zeros"), make([]byte, 20<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.NeedTool(t, "zstd")
	run(t, "tar", "--zstd", "-C", dir, "-cf", archive, "zeros")
	code, _, errs := isopress(t, "squashfs", "--tar", archive, "-o", filepath.Join(disk, "out"))
	if code != exitFailed || !strings.Contains(errs, archive+": keeping the archive in a temporary file in "+disk+": no space left on device") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	empty(t, disk)
}
