// Command guest compares a mounted tree with a listing of what it should be, from inside a virtual
// machine, where the kernel's own driver reads the file system. It runs as PID 1: as the init of a test
// closure (init=), or as the /init of an initramfs that holds nothing but it and kernel modules.
//
// The kernel command line says what to do:
//
//	check.list=/dev/vdX   raw disk with the expected listing (internal/treelist), padded with NUL
//	check.image=/dev/vdY  raw disk that is a squashfs image, to be mounted here; or
//	check.dir=DIR         a directory that is mounted already
//	check.iso=1           also list /iso, for the eye
//
// The last line is "GUEST-CHECK OK <n> entries" or "GUEST-CHECK FAILED <reason>"; then the machine is
// powered off.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isopress/isopress/internal/treelist"
)

const (
	modulesPath = "/etc/isopress/modules" // as initrd.ModulesPath
	mountPoint  = "/guest-check"
	maxShown    = 20
	deviceWait  = 30 * time.Second
)

func main() {
	verdict := "GUEST-CHECK FAILED panic"
	defer func() {
		if r := recover(); r != nil {
			verdict = fmt.Sprintf("GUEST-CHECK FAILED panic: %v", r)
		}
		fmt.Println(verdict)
		powerOff()
	}()
	n, err := run()
	verdict = fmt.Sprintf("GUEST-CHECK OK %d entries", n)
	if err != nil {
		verdict = "GUEST-CHECK FAILED " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
}

// powerOff does not return. What is on the console is flushed by closing the machine in order.
func powerOff() {
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("guest: power off:", err)
	for {
		time.Sleep(time.Hour) // PID 1 must not end: the kernel would panic
	}
}

func run() (int, error) {
	if err := setUp(); err != nil {
		return 0, err
	}
	args, err := readCommandLine()
	if err != nil {
		return 0, err
	}
	if args["check.iso"] == "1" {
		if err := treelist.Write(os.Stdout, "/iso", treelist.Options{}); err != nil {
			return 0, err
		}
	}
	dir := args["check.dir"]
	if image := args["check.image"]; image != "" {
		if dir, err = mountImage(image); err != nil {
			return 0, err
		}
	}
	if dir == "" || args["check.list"] == "" {
		return 0, errors.New("check.list= and one of check.image= and check.dir= are wanted on the command line")
	}
	return compare(args["check.list"], dir)
}

// setUp makes a bare initramfs fit to live in. Under an init that has done so it does nothing.
func setUp() error {
	for _, m := range []struct{ kind, dir, mark string }{
		{"proc", "/proc", "/proc/cmdline"},
		{"sysfs", "/sys", "/sys/class"},
		{"devtmpfs", "/dev", "/dev/kmsg"},
	} {
		if _, err := os.Stat(m.mark); err == nil {
			continue
		}
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	return loadModules()
}

// loadModules loads the modules that the initramfs lists, in its order: a path a line, and after it
// the names of those it depends on, which stand before.
func loadModules() error {
	list, err := os.ReadFile(modulesPath)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := loadModule(words[0]); err != nil {
			return fmt.Errorf("module %s: %w", words[0], err)
		}
	}
	return nil
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

func readCommandLine() (map[string]string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	args := make(map[string]string)
	for _, word := range strings.Fields(string(line)) {
		k, v, _ := strings.Cut(word, "=")
		args[k] = v
	}
	return args, nil
}

// mountImage has the kernel mount a squashfs that is a whole disk.
func mountImage(device string) (string, error) {
	if err := waitFor(device); err != nil {
		return "", err
	}
	if err := os.MkdirAll(mountPoint, 0o755); err != nil {
		return "", err
	}
	if err := unix.Mount(device, mountPoint, "squashfs", unix.MS_RDONLY, ""); err != nil {
		return "", fmt.Errorf("mount %s: %w", device, err)
	}
	return mountPoint, nil
}

// waitFor waits till a device is there: drivers find theirs in their own time.
func waitFor(device string) error {
	for end := time.Now().Add(deviceWait); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(device)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// compare lists dir as the expected listing was made, and returns its number of entries.
func compare(device, dir string) (int, error) {
	if err := waitFor(device); err != nil {
		return 0, err
	}
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	want := bufio.NewReaderSize(&untilNUL{r: f}, 64<<10)
	header, err := want.Peek(want.Size()) // a whole listing may be shorter
	if len(header) == 0 {
		return 0, fmt.Errorf("%s: no listing: %w", device, err)
	}
	first, _, _ := strings.Cut(string(header), "\n")
	options, err := treelist.ParseHeader(first)
	if err != nil {
		return 0, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(treelist.Write(w, dir, options)) }()
	differences, total, n, err := treelist.Diff(want, r, maxShown)
	r.Close() // ends the writer, if it is still there
	for _, d := range differences {
		fmt.Println("guest:", d)
	}
	if err == nil && total > 0 {
		err = fmt.Errorf("%d differences in %d entries", total, n)
	}
	return n, err
}

// untilNUL reads up to the first NUL byte: a disk is longer than what is written to it.
type untilNUL struct {
	r     io.Reader
	ended bool
}

func (u *untilNUL) Read(p []byte) (int, error) {
	if u.ended {
		return 0, io.EOF
	}
	n, err := u.r.Read(p)
	if i := bytes.IndexByte(p[:n], 0); i >= 0 {
		u.ended = true
		return i, io.EOF
	}
	return n, err
}
