// Package testenv says what the machine that runs the tests has, and skips tests that lack something.
//
// With ISOPRESS_REQUIRE_TOOLS=1, as in continuous integration, what is missing is a failure instead,
// so that a test is never skipped unnoticed. ISOPRESS_TEST_CLOSURE names the directory that
// testdata/make-closure has made.
package testenv

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Missing skips the test, or fails it where everything has to be there.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("ISOPRESS_REQUIRE_TOOLS") == "1" {
		t.Fatalf("ISOPRESS_REQUIRE_TOOLS: "+format, args...)
	}
	t.Skipf(format, args...)
}

// NeedTool wants programs on PATH.
func NeedTool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			Missing(t, "%s is not installed", name)
		}
	}
}

// NeedRoot wants the test to run as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "not root")
	}
}

// TestClosure is what testdata/make-closure has made.
type TestClosure struct {
	Dir          string
	StorePaths   string // file with a store path a line
	Registration string // file as of nix-store --dump-db
	System       string // store path of the top level
	Kernel       string // its kernel image
	Modules      string // its lib/modules/<release> directory
}

// Closure returns the test closure that ISOPRESS_TEST_CLOSURE names.
func Closure(t testing.TB) TestClosure {
	t.Helper()
	dir := os.Getenv("ISOPRESS_TEST_CLOSURE")
	if dir == "" {
		Missing(t, "no test closure: run testdata/make-closure DIR and set ISOPRESS_TEST_CLOSURE=DIR")
	}
	system, err := filepath.EvalSymlinks(filepath.Join(dir, "result"))
	if err != nil {
		t.Fatalf("ISOPRESS_TEST_CLOSURE: %v", err)
	}
	modules, err := filepath.Glob(filepath.Join(system, "kernel-modules/lib/modules/*"))
	if err != nil || len(modules) != 1 {
		t.Fatalf("ISOPRESS_TEST_CLOSURE: want one kernel release in %s/kernel-modules, found %q", system, modules)
	}
	return TestClosure{
		Dir:          dir,
		StorePaths:   filepath.Join(dir, "store-paths"),
		Registration: filepath.Join(dir, "registration"),
		System:       system,
		Kernel:       filepath.Join(system, "kernel"),
		Modules:      modules[0],
	}
}

// Paths reads the closure's store paths.
func (c TestClosure) Paths(t testing.TB) []string {
	t.Helper()
	f, err := os.Open(c.StorePaths)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var paths []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		paths = append(paths, s.Text())
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return paths
}
