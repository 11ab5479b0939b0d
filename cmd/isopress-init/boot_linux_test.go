package main

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/qemu"
	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/squashfs"
)

// TestCopyToRAM boots the test closure with copytoram. Its init unplugs the medium, drops what
// is cached, and compares the store's files with their digests; it says what /iso is.
func TestCopyToRAM(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	c := testenv.Closure(t)
	closure, err := builder.NewClosure(strings.NewReader(strings.Join(c.Paths(t), "\n")), "")
	if err != nil {
		t.Fatal(err)
	}
	fast, err := squashfs.ParseCompression("zstd:1")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "demo.iso")
	if _, err := builder.Build(t.Context(), builder.Options{
		Source:      builder.Source{Closure: closure},
		Boot:        builder.Boot{System: c.System, InitBinary: buildInit(t), Cmdline: "copytoram demo.unplug"},
		Output:      image,
		Compression: fast,
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	r, err := qemu.Run(ctx, qemu.Config{Image: image, Attach: qemu.USB,
		Expect: regexp.MustCompile(`^ISOPRESS-DEMO: [0-9]+ store paths mounted from tmpfs,`)})
	if err != nil {
		t.Errorf("%v\n%s", err, r.Tail)
	}
}
