package squashfs

import (
	"os/exec"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// runTool runs a program and fails the test with its output if it fails.
func runTool(t testing.TB, name string, args ...string) string {
	t.Helper()
	testenv.NeedTool(t, name)
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
