package builder

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/iso"
)

// foreignISO is one with a file that is no squashfs.
func foreignISO(t *testing.T) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "foreign.iso"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := iso.NewWriter(f, iso.Options{VolumeID: "FOREIGN", Files: []iso.File{{Path: "text", Size: 4}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteFile("text", strings.NewReader("text")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish([32]byte{}); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// sparse makes a file twice as large as what is free.
func sparse(t *testing.T, name string) {
	t.Helper()
	free, known := freeSpace(filepath.Dir(name))
	if !known {
		t.Skip("the system does not tell what is free")
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(2*free + 1<<30); err != nil {
		t.Fatal(err)
	}
}

// Where the squashfs stays as it is, too, what cannot fit is refused before it is written.
func TestRepackSpace(t *testing.T) {
	small, large := foreignISO(t), foreignISO(t)
	sparse(t, large)
	big := t.TempDir()
	sparse(t, filepath.Join(big, "file"))
	if err := os.Mkdir(filepath.Join(big, "empty"), 0o755); err != nil { // for a warning
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	writeOld(t, text, "text")
	own := built(t, pack(t, ownSources(t)["a tree"], 0))
	for name, o := range map[string]RepackOptions{
		"a large image":          {Image: large, Add: []Add{{text, "more"}}},
		"with a file removed":    {Image: large, Remove: []string{"text"}},
		"a large addition":       {Image: small, Add: []Add{{big, "more"}}},
		"a large addition, ours": {Image: own, Add: []Add{{big, "more"}}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o.Options, o.KeepSquashfs = pack(t, Options{}, 0), true
			// Nothing is to be written if the check is missing: when files are added, or ahead of all that.
			o.Warn = func(string) { cancel() }
			if o.Image != own {
				cancel()
			}
			_, err := Repack(ctx, o)
			if err == nil || !strings.Contains(err.Error(), "free, about") {
				t.Errorf("%v", err)
			}
		})
	}
}
