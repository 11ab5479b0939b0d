package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/isopress/isopress/internal/patherror"
)

// grubPrefix is where an image looks for its first configuration: in itself, as
// the parser for what is embedded without a file system knows no if.
const grubPrefix = "(memdisk)/boot/grub"

// Bounds of what is read: GRUB's largest image here is under 2 MiB.
const (
	maxGRUBFile   = 16 << 20
	maxGRUBOutput = 64 << 10
)

// image has grub-mkimage make the half's image, with a first configuration. It
// holds neither dates nor names of the host.
func (h *grubHalf) image(ctx context.Context, config []byte) ([]byte, error) {
	temp, err := os.MkdirTemp("", "isopress-grub-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	memdisk, out := filepath.Join(temp, "memdisk.tar"), filepath.Join(temp, "image")
	if err := os.WriteFile(memdisk, grubMemdisk(config), 0o600); err != nil {
		return nil, err
	}
	args := []string{"--directory=" + h.dir, "--format=" + h.format, "--output=" + out, "--prefix=" + grubPrefix, "--memdisk=" + memdisk}
	args = append(append(args, grubModules...), h.modules...)
	if _, err := h.run(ctx, args...); err != nil {
		return nil, err
	}
	return readGRUBFile(out)
}

// version is what grub-mkimage calls itself.
func (h *grubHalf) version(ctx context.Context) (string, error) {
	out, err := h.run(ctx, "--version")
	_, version, _ := strings.Cut(strings.TrimSpace(out), "(GRUB) ")
	return version, err
}

// run starts grub-mkimage, and returns what it says on stdout.
func (h *grubHalf) run(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr boundedBuffer
	cmd := exec.CommandContext(ctx, h.mkimage, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		if said := strings.TrimSpace(stderr.String()); said != "" {
			return "", fmt.Errorf("%s: %w: %s", h.mkimage, err, said)
		}
		return "", fmt.Errorf("%s: %w", h.mkimage, patherror.Bare(err))
	}
	return stdout.String(), nil
}

// boundedBuffer keeps the beginning of what is written to it.
type boundedBuffer struct{ bytes.Buffer }

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), maxGRUBOutput-b.Len())])
	return len(p), nil
}

// grubMemdisk is the archive that grubPrefix names.
func grubMemdisk(config []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	name := strings.TrimPrefix(grubPrefix, "(memdisk)/") + "/grub.cfg"
	// Neither of them fails: all is in memory, and the header is a plain one.
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(config)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR})
	_, _ = w.Write(config)
	_ = w.Close()
	return b.Bytes()
}

func readGRUBFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only: nothing is lost with its error
	b, err := io.ReadAll(io.LimitReader(f, maxGRUBFile+1))
	if err == nil && len(b) > maxGRUBFile {
		err = fmt.Errorf("%s: over %d bytes, which no part of GRUB has", name, maxGRUBFile)
	}
	return b, err
}
