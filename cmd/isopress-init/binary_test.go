//go:build linux

package main

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buildInit builds the program as it is built for an initrd.
func buildInit(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	return out
}

// TestBinary: an initrd has no dynamic loader, and on a machine that has booted
// the program does nothing.
func TestBinary(t *testing.T) {
	out := buildInit(t)
	f, err := elf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("is dynamically linked")
		}
	}
	msg, err := exec.Command(out).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(msg), "process 1") {
		t.Errorf("%v: %s", err, msg)
	}
}

// TestDependencies: what is in the initrd is the standard library, x/sys and our own.
func TestDependencies(t *testing.T) {
	msg, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(msg)) {
		if !strings.HasPrefix(p, "golang.org/x/sys/") && !strings.HasPrefix(p, "github.com/isopress/isopress/") {
			t.Errorf("imports %s", p)
		}
	}
}
