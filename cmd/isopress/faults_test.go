//go:build linux

package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isopress/isopress/internal/testenv"
)

// randomTree is a tree that does not compress.
func randomTree(t testing.TB, size int) string {
	t.Helper()
	dir := t.TempDir()
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b)
	for name, content := range map[string][]byte{"file": b, "init": []byte("#!/bin/sh")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// empty checks that a directory holds nothing.
func empty(t testing.TB, dir string) {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil || len(found) > 0 {
		t.Errorf("%s holds %v, %v", dir, found, err)
	}
}

// smallDisk is a file system of the given size.
func smallDisk(t testing.TB, size string) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	disk, tree := smallDisk(t, "8M"), randomTree(t, 20<<20)
	c := testenv.Closure(t)
	for name, args := range map[string][]string{
		"squashfs": {"squashfs", "--root", tree, "-j", "2"},
		"build":    {"build", "--root", tree, "--kernel", c.Kernel, "--kernel-modules", c.Modules},
		"initrd":   {"initrd", "--init", "none", "--add", tree + ":/tree", "--compression", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(disk, "out")
			code, _, errs := isopress(t, append(args, "-o", out)...)
			// The ISO's kernel and initrd alone are more than the disk has.
			if code != exitFailed || !strings.Contains(errs, "no space left on device") && !strings.Contains(errs, "MiB needed") {
				t.Errorf("exit code %d: %s", code, errs)
			}
			if !strings.Contains(errs, disk) {
				t.Errorf("the error names no path: %s", errs)
			}
			empty(t, disk)
		})
	}
}

func TestWarnsOfLittleSpace(t *testing.T) {
	disk, tree := smallDisk(t, "8M"), t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "text"), []byte(strings.Repeat("to be or not to be ", 1<<20)), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, errs := isopress(t, "squashfs", "--root", tree, "-o", filepath.Join(disk, "out"), "--compression", "zstd:1")
	if code != exitDone || !strings.Contains(errs, "warning: "+disk+": only") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	code, _, errs = isopress(t, "squashfs", "--root", tree, "-o", filepath.Join(disk, "out"), "--compression", "none")
	if code != exitFailed || !strings.Contains(errs, "MiB needed") {
		t.Errorf("stored as it is: exit code %d: %s", code, errs)
	}
}

// What may not be read or written is found by a user without root's powers.
func TestPermissions(t *testing.T) {
	testenv.NeedRoot(t)
	program := filepath.Join(t.TempDir(), "isopress")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tree, dir := randomTree(t, 100), t.TempDir()
	for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{filepath.Dir(program), filepath.Dir(tree), tree} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nobody := func(args ...string) string {
		cmd := exec.Command(program, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%q succeeded", args)
		}
		return string(out)
	}
	if got := nobody("squashfs", "--root", tree, "-o", filepath.Join(dir, "out")); !strings.Contains(got, dir+"/out: permission denied") {
		t.Errorf("closed directory: %s", got)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(tree, "file"), 0); err != nil {
		t.Fatal(err)
	}
	if got := nobody("squashfs", "--root", tree, "-o", filepath.Join(dir, "out")); !strings.Contains(got, "file: open: permission denied; run isopress as root, or leave the file out with --exclude") {
		t.Errorf("closed file: %s", got)
	}
	empty(t, dir)
}

// A file that others write to, as those of /proc seem to be, is an error that
// says what can be done.
func TestTreeThatMoves(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	const root = "/proc/sys/kernel/random"
	if _, err := os.Stat(root); err != nil {
		testenv.Missing(t, "%s", root)
	}
	code, _, errs := isopress(t, "squashfs", "--root", root, "-o", out)
	if code != exitFailed || !strings.Contains(errs, "leave the file out with --exclude, or press a copy") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, _, errs := isopress(t, "squashfs", "--root", root, "-o", out, "--exclude", "*"); code != exitDone {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
