//go:build linux

package builder

import (
	"context"
	"errors"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An archive that is opened after all, when no one waits for it any more, is
// closed again.
func TestOpenArchiveCancelled(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector would close it, too
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f, err := openArchive(ctx, fifo); f != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, %v", f, err)
	}
	fd, err := unix.Open(fifo, unix.O_WRONLY, 0) // waits for the one that opens
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	// A reader that stayed would let the pipe fill up.
	for b := make([]byte, 64); ; time.Sleep(time.Millisecond) {
		switch _, err := unix.Write(fd, b); {
		case errors.Is(err, unix.EPIPE):
			return
		case err != nil:
			t.Fatalf("still open for reading: %v", err)
		}
	}
}
