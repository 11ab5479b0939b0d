package guesttest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isopress/isopress/internal/guesttest"
	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/internal/treelist"
)

// makeImage packs a tree with the reference tool.
func makeImage(t *testing.T) (root, image string) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a guest")
	}
	testenv.NeedTool(t, "mksquashfs")
	dir := t.TempDir()
	root, image = filepath.Join(dir, "root"), filepath.Join(dir, "image")
	for _, err := range []error{
		os.MkdirAll(root+"/a/b", 0o750),
		os.WriteFile(root+"/a/big", bytes.Repeat([]byte("0123456789abcdef"), 1<<17), 0o4755),
		os.WriteFile(root+"/a/small\nname", []byte("x"), 0o600),
		os.WriteFile(root+"/sparse", make([]byte, 3<<20), 0o644),
		os.Link(root+"/a/big", root+"/hard"),
		os.Symlink("a/big", root+"/sym"),
		unix.Mkfifo(root+"/pipe", 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = unix.Lsetxattr(root+"/a/big", "user.test", []byte{0, 1}, 0) // not on every file system
	cmd := exec.Command("mksquashfs", root, image, "-comp", "zstd", "-noappend", "-no-progress", "-quiet", "-xattrs")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v: %s", err, out)
	}
	return root, image
}

func TestCheckSquashfs(t *testing.T) {
	root, image := makeImage(t)
	guesttest.CheckSquashfsTree(t, image, root, treelist.Options{Hardlinks: true})
}

func TestCheckSquashfsFindsDifferences(t *testing.T) {
	root, image := makeImage(t)
	m := guesttest.ForTest(t)
	if err := os.WriteFile(root+"/sparse", append(make([]byte, 3<<20-1), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(root + "/sym"); err != nil {
		t.Fatal(err)
	}
	var list bytes.Buffer
	if err := treelist.Write(&list, root, treelist.Options{NoXattrs: true, NoRoot: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := m.CheckSquashfs(ctx, image, &list)
	for _, want := range []string{"GUEST-CHECK FAILED", `not expected "sym"`, `differs "sparse": `, "h="} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestCheckSquashfsOfABadImage(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest")
	}
	m := guesttest.ForTest(t)
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := m.CheckSquashfs(ctx, image, strings.NewReader("# treelist 1\n# 0 entries\n"))
	if err == nil || !strings.Contains(err.Error(), "GUEST-CHECK FAILED mount /dev/vdb") {
		t.Errorf("err = %v", err)
	}
}
