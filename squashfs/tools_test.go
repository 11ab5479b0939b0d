package squashfs

import (
	"os"
	"os/exec"
	"testing"
)

// needTool returns the path of a program that a test compares with. Without it
// the test is skipped, or fails where ISOPRESS_REQUIRE_TOOLS=1 says that all of
// them must be there.
func needTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("ISOPRESS_REQUIRE_TOOLS") == "1" {
		t.Fatalf("%s is required: %v", name, err)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// runTool runs a program and fails the test with its output if it fails.
func runTool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(needTool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
