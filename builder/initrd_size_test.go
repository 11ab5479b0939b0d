package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// An initrd that a BIOS loader cannot place is told of, and one that no loader can is an error; both
// name the file that was given.
func TestLargeInitrd(t *testing.T) {
	kernel := testenv.Closure(t).Kernel
	limit, err := maxInitrd(kernel)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		size      int64
		warn, err string
	}{
		{limit, "", ""},
		{limit + 1, "so the image boots by UEFI only", ""},
		{3 << 30, "", "the EFI system partition holds"},
	} {
		dir := t.TempDir()
		tree, initrd := filepath.Join(dir, "tree"), filepath.Join(dir, "large")
		writeOld(t, filepath.Join(tree, "sbin/init"), "#!/bin/sh")
		writeOld(t, initrd, "070701")
		if err := os.Truncate(initrd, tt.size); err != nil { // sparse
			t.Fatal(err)
		}
		var warnings []string
		o := &Options{Source: Source{Root: tree}, Boot: Boot{Kernel: kernel, Initrd: initrd},
			Warn: func(msg string) { warnings = append(warnings, msg) }}
		_, err := o.prepareBoot(t.Context())
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), initrd)) {
			t.Errorf("%d bytes: got %v", tt.size, err)
		}
		got := strings.Join(warnings, "\n")
		if tt.warn == "" && got != "" || tt.warn != "" && (!strings.HasPrefix(got, initrd+": ") || !strings.Contains(got, tt.warn)) {
			t.Errorf("%d bytes: warnings %q", tt.size, got)
		}
		t.Log(err, got)
	}
}
