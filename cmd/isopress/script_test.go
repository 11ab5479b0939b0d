package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The user's own cache is none of the tests' business.
func TestMain(m *testing.M) {
	testscript.Main(ownCache{m}, map[string]func(){"isopress": main})
}

type ownCache struct{ *testing.M }

func (c ownCache) Run() int {
	dir, err := os.MkdirTemp("", "isopress-test-cache-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("XDG_CACHE_HOME", dir); err != nil {
		panic(err)
	}
	return c.M.Run()
}

// TestScripts runs the command lines of testdata/script: each is a session with
// what it must say, and what it must leave behind.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".tmp/cache"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			tool, ok := strings.CutPrefix(cond, "lacks:")
			if !ok {
				return false, errors.New("unknown condition " + cond)
			}
			_, err := exec.LookPath(tool)
			if err != nil && os.Getenv("ISOPRESS_REQUIRE_TOOLS") == "1" {
				return false, err
			}
			return err != nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"store":   makeStore,
			"nothing": onlyThese,
			"code":    exitsWith,
		},
	})
}

// makeStore makes the directory's tree a store path: store ROOT HASH-NAME DIR.
func makeStore(ts *testscript.TestScript, _ bool, args []string) {
	dir := filepath.Join(ts.MkAbs(args[0]), "nix/store")
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(os.CopyFS(filepath.Join(dir, args[1]), os.DirFS(ts.MkAbs(args[2]))))
}

// onlyThese checks that a directory holds the named files and no other:
// nothing DIR [but FILE…].
func onlyThese(ts *testscript.TestScript, _ bool, args []string) {
	found, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, d := range found {
		names = append(names, d.Name())
	}
	want := strings.Join(args[min(2, len(args)):], " ")
	if got := strings.Join(names, " "); got != want {
		ts.Fatalf("%s holds %q, want %q", args[0], got, want)
	}
}

// exitsWith runs isopress, which must end with an exit code: code N ARGS….
func exitsWith(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("isopress", args[1:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("isopress %q: exit code %s, want %s", args[1:], got, args[0])
	}
}
