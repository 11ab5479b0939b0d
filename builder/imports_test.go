package builder

import (
	"os/exec"
	"strings"
	"testing"
)

// Dependencies point one way: cmd -> builder -> {squashfs, initrd, iso} -> internal.
func TestImports(t *testing.T) {
	const module = "github.com/isopress/isopress/"
	layer := func(path string) int {
		name, _, _ := strings.Cut(path, "/")
		return map[string]int{"cmd": 3, "builder": 2, "squashfs": 1, "initrd": 1, "iso": 1, "internal": 0}[name]
	}
	// internal/guesttest serves tests alone, and packs an initrd for them.
	testsOnly := map[string]bool{"internal/guesttest": true, "internal/testenv": true}
	out, err := exec.Command("go", "list", "-f", `{{$p := .ImportPath}}{{range .Imports}}{{$p}} {{.}}{{"\n"}}{{end}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	edges := 0
	for line := range strings.Lines(string(out)) {
		from, to, _ := strings.Cut(strings.TrimSpace(line), " ")
		from, ours := strings.CutPrefix(from, module)
		to, theirs := strings.CutPrefix(to, module)
		if !ours || !theirs || testsOnly[from] || strings.HasPrefix(from, "testdata/") {
			continue
		}
		edges++
		if layer(to) >= layer(from) && layer(from) > 0 || layer(from) == 0 && layer(to) > 0 {
			t.Errorf("%s imports %s", from, to)
		}
		if testsOnly[to] {
			t.Errorf("%s imports %s, which is for tests", from, to)
		}
	}
	if edges < 10 {
		t.Errorf("only %d imports seen: is the list right?\n%s", edges, out)
	}
}
