// Package guesttest has the kernel's own driver read what the tests write: it boots a kernel under QEMU
// with an initramfs of nothing but testdata/guest and the modules it needs, hands it the image and a
// listing of what should be in it, and returns the guest's verdict. A reader of one's own would share
// the writer's misunderstandings.
package guesttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/initrd"
	"github.com/isopress/isopress/internal/qemu"
	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/internal/treelist"
)

// timeout is for a guest in an emulated processor that shares its machine with other tests.
const timeout = 15 * time.Minute

// sector is what a disk's size must be a multiple of.
const sector = 512

// Machine is what a guest runs on.
type Machine struct {
	Kernel  string // kernel image
	Modules string // its lib/modules/<release>
	Guest   string // the program of testdata/guest, built static
	Memory  int64  // bytes; default as of the qemu package
}

// verdict is the guest's last line.
var verdict = regexp.MustCompile(`^GUEST-CHECK (OK|FAILED) (.*)$`)

// CheckSquashfs boots a guest whose kernel mounts the squashfs image and compares what it reads with
// the expected listing (package treelist). An error has the guest's reason and what it said before.
func (m Machine) CheckSquashfs(ctx context.Context, image string, want io.Reader) error {
	dir, err := os.MkdirTemp("", "isopress-guest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pack := filepath.Join(dir, "initrd")
	if err := m.packInitrd(ctx, pack); err != nil {
		return err
	}
	list, err := ListDisk(filepath.Join(dir, "list"), want)
	if err != nil {
		return err
	}
	if image, err = wholeSectors(filepath.Join(dir, "image"), image); err != nil {
		return err
	}
	return Verdict(qemu.Run(ctx, qemu.Config{
		// On a busy host the emulated timer can fail the kernel's check of it.
		Kernel: m.Kernel, Initrd: pack, Append: "console=ttyS0 quiet panic=-1 no_timer_check check.list=/dev/vda check.image=/dev/vdb",
		Disks: []string{list, image}, Memory: m.Memory, Expect: verdict,
	}))
}

// Verdict turns the end of a run that expected Expected into an error, nil when all was as it should be.
func Verdict(r qemu.Result, err error) error {
	if err != nil {
		return fmt.Errorf("%w; the console ends with:\n%s", err, r.Tail)
	}
	m := verdict.FindStringSubmatch(r.Line)
	if m == nil || m[1] != "OK" {
		return fmt.Errorf("guest: %s; the console ends with:\n%s", r.Line, r.Tail)
	}
	return nil
}

// Expected matches the guest's last line, good or bad.
func Expected() *regexp.Regexp { return verdict }

// packInitrd packs the guest program as /init with the modules that it wants, uncompressed: the
// emulated processor would spend more time on expanding it than the host saves.
func (m Machine) packInitrd(ctx context.Context, path string) error {
	var a initrd.Archive
	if err := a.AddInit(m.Guest); err != nil {
		return err
	}
	mods, err := a.AddModules(m.Modules, []string{"virtio_pci", "virtio_blk", "squashfs"})
	if err != nil {
		return err
	}
	if len(mods.Missing) > 0 {
		return fmt.Errorf("guesttest: %s has no modules %v", m.Modules, mods.Missing)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = a.Write(ctx, f, initrd.Options{Compression: "none"})
	return errors.Join(err, f.Close())
}

// ListDisk writes a listing as the raw disk that the guest's check.list= names, and returns its path.
func ListDisk(path string, list io.Reader) (string, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	n, err := io.Copy(f, list)
	if err == nil {
		// At least one NUL byte ends the listing.
		err = f.Truncate((n/sector + 1) * sector)
	}
	return path, errors.Join(err, f.Close())
}

// wholeSectors returns the image, or a copy at path when it is not of whole sectors: QEMU would show
// the guest a disk that lacks its end.
func wholeSectors(path, image string) (string, error) {
	fi, err := os.Stat(image)
	if err != nil {
		return "", err
	}
	if fi.Size()%sector == 0 {
		return image, nil
	}
	in, err := os.Open(image)
	if err != nil {
		return "", err
	}
	defer in.Close()
	return ListDisk(path, in)
}

// CheckSquashfs is [Machine.CheckSquashfs] with the test closure's kernel. It fails the test when the
// guest does not find what the listing says, and skips it where QEMU or the closure is missing.
func CheckSquashfs(t testing.TB, image string, want io.Reader) {
	t.Helper()
	m := ForTest(t)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := m.CheckSquashfs(ctx, image, want); err != nil {
		t.Errorf("%s, read by the kernel: %v", image, err)
	}
}

// CheckSquashfsTree compares the image with a tree on this machine.
func CheckSquashfsTree(t testing.TB, image, root string, o treelist.Options) {
	t.Helper()
	testenv.NeedTool(t, "qemu-system-x86_64")
	var list bytes.Buffer
	if err := treelist.Write(&list, root, o); err != nil {
		t.Fatal(err)
	}
	CheckSquashfs(t, image, &list)
}

// ForTest returns a machine with the test closure's kernel, or skips the test.
func ForTest(t testing.TB) Machine {
	t.Helper()
	testenv.NeedTool(t, "qemu-system-x86_64")
	closure := testenv.Closure(t)
	guest := filepath.Join(t.TempDir(), "guest")
	if err := BuildGuest(guest); err != nil {
		t.Fatal(err)
	}
	return Machine{Kernel: closure.Kernel, Modules: closure.Modules, Guest: guest}
}

// BuildGuest builds testdata/guest, static, at path. Go's cache makes all but the first time quick.
func BuildGuest(path string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "github.com/isopress/isopress/testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("guesttest: go build testdata/guest: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
