package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/squashfs"
)

// writeOld writes a file, with the directories above it, that was not touched for long.
func writeOld(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Time{}, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
}

// The host follows an absolute symlink in a tree to its own file, which need not be the one that the
// tree has at that place.
func TestFindsWhatTheHostMeans(t *testing.T) {
	dir := t.TempDir()
	tree, kernel := filepath.Join(dir, "tree"), filepath.Join(dir, "kernel")
	writeOld(t, kernel, "the host's")
	writeOld(t, filepath.Join(tree, kernel), "the tree's own")
	link := filepath.Join(tree, "vmlinuz")
	if err := os.Symlink(kernel, link); err != nil {
		t.Fatal(err)
	}
	o := &Options{Source: Source{Root: tree}}
	for host, want := range map[string]string{link: "", filepath.Join(tree, kernel): kernel[1:]} {
		info, err := os.Stat(host)
		if err != nil {
			t.Fatal(err)
		}
		got, err := o.findInTree(t.Context(), squashfs.DirFS(tree), &payload{host: host, size: info.Size()})
		if err != nil || got != want {
			t.Errorf("%s: found %q, %v, want %q", host, got, err, want)
		}
	}
}

// A kernel or an initrd that changes behind our back is an error, wherever it lies and whenever it does.
func TestBootFilesHoldStill(t *testing.T) {
	b, err := os.ReadFile(testenv.Closure(t).Kernel)
	if err != nil {
		t.Fatal(err)
	}
	kernel := string(b)
	other := strings.Repeat("\x00", 4096) + kernel[4096:]
	for name, tc := range map[string]struct {
		phase   string
		kernel  string // what is given
		change  string // what changes
		content string
	}{
		"in the tree":                  {"scan", "tree/vmlinuz", "tree/vmlinuz", other},
		"in the tree, its size":        {"scan", "tree/vmlinuz", "tree/vmlinuz", kernel + "more"},
		"the tree's copy":              {"scan", "vmlinuz", "tree/vmlinuz", other},
		"the tree's copy, its size":    {"scan", "vmlinuz", "tree/vmlinuz", kernel[:len(kernel)-1]},
		"the original of one in place": {"press", "vmlinuz", "vmlinuz", other},
		"beside":                       {"scan", "vmlinuz", "vmlinuz", other},
		"beside, its size":             {"scan", "vmlinuz", "vmlinuz", kernel + "more"},
		"beside, late":                 {"press", "vmlinuz", "vmlinuz", other},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeOld(t, filepath.Join(dir, "tree/sbin/init"), "#!/bin/sh")
			writeOld(t, filepath.Join(dir, "initrd"), "070701")
			writeOld(t, filepath.Join(dir, tc.kernel), kernel)
			if !strings.HasPrefix(name, "beside") {
				writeOld(t, filepath.Join(dir, "tree/vmlinuz"), kernel)
			}
			lz4, err := squashfs.ParseCompression("lz4")
			if err != nil {
				t.Fatal(err)
			}
			changed := false
			_, err = Build(t.Context(), Options{
				Source:      Source{Root: filepath.Join(dir, "tree")},
				Boot:        Boot{Kernel: filepath.Join(dir, tc.kernel), Initrd: filepath.Join(dir, "initrd")},
				Output:      filepath.Join(dir, "image"),
				Compression: lz4,
				Progress: func(p Progress) {
					if p.Phase == tc.phase && !changed {
						changed = true
						if err := os.WriteFile(filepath.Join(dir, tc.change), []byte(tc.content), 0o644); err != nil {
							t.Error(err)
						}
					}
				},
			})
			if !errors.Is(err, squashfs.ErrChanged) || !strings.Contains(err.Error(), "vmlinuz") || strings.Count(err.Error(), "must hold still") != 1 {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "image")); err == nil {
				t.Error("there is an image")
			}
		})
	}
}

func TestKernelAsInitrd(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	writeOld(t, in("kernel"), "kernel")
	writeOld(t, in("copy"), "kernel")
	writeOld(t, in("initrd"), "070701")
	if err := os.Symlink("kernel", in("link")); err != nil {
		t.Fatal(err)
	}
	for name, is := range map[string]bool{"link": true, "copy": true, "initrd": false} {
		f, size, err := openFile("--kernel", in("kernel"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := &bootFiles{}
		if b.kernel, err = hostPayload(kernelFile, in("kernel"), f, size); err != nil {
			t.Fatal(err)
		}
		o := &Options{Boot: Boot{Initrd: in(name)}}
		if err := o.setInitrd(b, &system{}); is && (err == nil || !strings.Contains(err.Error(), in(name)+": is the kernel")) || !is && err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
