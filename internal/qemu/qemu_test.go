package qemu

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/testenv"
)

// fakeQEMU is a shell script in the emulator's place.
func fakeQEMU(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeConfig boots an empty image in the script.
func fakeConfig(t *testing.T, script, expect string) Config {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 512), 0o444); err != nil {
		t.Fatal(err)
	}
	c := Config{Image: image, QEMU: fakeQEMU(t, script), TempDir: t.TempDir()}
	if expect != "" {
		c.Expect = regexp.MustCompile(expect)
	}
	return c
}

func TestRunVerdicts(t *testing.T) {
	const panicLine = "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs"
	for _, tt := range []struct {
		name, script, expect string
		want                 error
		line                 string
	}{
		{"line", `echo one; echo two; sleep 100`, "^two$", nil, "two"},
		{"whole line though it comes in pieces", `printf hel; sleep 0.05; echo lo; sleep 100`, "hel", nil, "hello"},
		{"prompt without a newline", `printf 'a\r\nlogin: '; sleep 100`, "login: $", nil, "login: "},
		{"escapes", `printf 'a\n\033[1;32mwel\033[0mcome\033(B\n'; sleep 100`, "^welcome$", nil, "welcome"},
		{"last line of a guest that ends", `printf done`, "done", nil, "done"},
		{"guest ends", `echo one`, "two", ErrEnded, ""},
		{"guest ends, nothing expected", `echo one`, "", nil, ""},
		{"panic", `echo '` + panicLine + `'; sleep 100`, "two", ErrPanic, ""},
		{"stop", `echo 'isopress: THE BOOT STOPS HERE: no medium'; sleep 100`, "two", ErrStopped, ""},
		{"panic, nothing expected", `echo '` + panicLine + `'; sleep 100`, "", ErrPanic, ""},
		{"panic expected", `echo '` + panicLine + `'; sleep 100`, "panic", nil, panicLine},
		{"timeout", `echo one; sleep 100`, "two", ErrTimeout, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := fakeConfig(t, tt.script, tt.expect) // before any other test forks: an open script is busy
			t.Parallel()
			limit := 20 * time.Second
			if tt.want == ErrTimeout {
				limit = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			got, err := Run(ctx, c)
			if !errors.Is(err, tt.want) || got.Line != tt.line {
				t.Errorf("Run = %+v, %v; want line %q and error %v", got, err, tt.line, tt.want)
			}
			if left, _ := os.ReadDir(c.TempDir); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

func TestRunErrors(t *testing.T) {
	t.Run("the emulator's own", func(t *testing.T) {
		_, err := Run(t.Context(), fakeConfig(t, `echo 'no such machine' >&2; exit 1`, "x"))
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Stderr != "no such machine" {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("not installed", func(t *testing.T) {
		c := fakeConfig(t, "", "")
		c.QEMU = "qemu-system-none"
		_, err := Run(t.Context(), c)
		var missing *NotFoundError
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt install qemu-system-x86") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("no firmware", func(t *testing.T) {
		c := fakeConfig(t, "", "")
		c.Firmware, c.OVMF = UEFI, t.TempDir()
		_, err := Run(t.Context(), c)
		var missing *NotFoundError
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt install ovmf") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("no image", func(t *testing.T) {
		c := fakeConfig(t, "", "")
		c.Image += "x"
		if _, err := Run(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("unknown words", func(t *testing.T) {
		for _, c := range []Config{{Image: "x", Attach: "floppy"}, {Image: "x", Firmware: "u-boot"}, {}} {
			if _, err := Run(t.Context(), c); err == nil {
				t.Errorf("%+v: no error", c)
			}
		}
	})
}

func TestRunCancelled(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "alive")
	c := fakeConfig(t, `(while :; do echo x > `+mark+`; sleep 0.05; done) & echo up; wait`, "never")
	ctx, cancel := context.WithCancel(t.Context())
	c.Console = writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	os.Remove(mark)
	time.Sleep(200 * time.Millisecond)
	if _, err := os.Stat(mark); err == nil {
		t.Error("a child of the emulator is still running")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestStdinReachesTheGuest(t *testing.T) {
	c := fakeConfig(t, `read x; echo "got $x"`, "got hello")
	c.Stdin = strings.NewReader("hello\n")
	if got, err := Run(t.Context(), c); err != nil {
		t.Errorf("Run = %+v, %v", got, err)
	}
}

func TestArgs(t *testing.T) {
	base := Config{Image: "/tmp/a,b.iso", Accel: TCG}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"cdrom", func(c *Config) {}, []string{"-machine pc", "readonly=on,media=cdrom", "file=/tmp/a,,b.iso", "ide-cd,drive=boot", "-m 1024M"}},
		{"ahci", func(c *Config) { c.Attach = AHCI }, []string{"-machine q35", "ide-cd,drive=boot"}},
		{"usb", func(c *Config) { c.Attach = USB }, []string{"qemu-xhci", "usb-storage,drive=boot", "readonly=on"}},
		{"ide", func(c *Config) { c.Attach = IDE }, []string{"ide-hd,drive=boot", "snapshot=on"}},
		{"virtio", func(c *Config) { c.Attach = Virtio }, []string{"virtio-blk-pci,drive=boot", "readonly=on"}},
		{"nvme", func(c *Config) { c.Attach = NVMe }, []string{"nvme,serial=isopress,drive=boot", "snapshot=on"}},
		{"kvm", func(c *Config) { c.Accel = KVM }, []string{"-accel kvm -accel tcg -cpu max"}},
		{"disks", func(c *Config) { c.Disks = []string{"/x"} }, []string{"file=/x", "virtio-blk-pci,drive=disk0"}},
		{"kernel", func(c *Config) { c.Kernel, c.Initrd, c.Append = "/k", "/i", "a b" }, []string{"-kernel /k", "-initrd /i", "-append a b"}},
		{"size", func(c *Config) { c.Memory, c.CPUs = 192<<20, 2 }, []string{"-m 192M -smp 2"}},
		{"screenshot", func(c *Config) { c.ScreenshotPath = "x.png" }, []string{"-no-shutdown"}},
	} {
		c := base
		tt.change(&c)
		c, err := c.withDefaults()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := strings.Join(c.args(firmwareFiles{}), " ")
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %s", tt.name, want, got)
			}
		}
	}
}

func TestFindOVMF(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"FV/OVMF_CODE.fd", "FV/OVMF_VARS.fd"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	for _, where := range []string{dir, dir + "/FV", dir + "/FV/OVMF_CODE.fd"} {
		got, err := findOVMF(where, "/usr/bin/qemu")
		if err != nil || got.code != dir+"/FV/OVMF_CODE.fd" || got.vars != dir+"/FV/OVMF_VARS.fd" {
			t.Errorf("findOVMF(%s) = %v, %v", where, got, err)
		}
	}
}

func TestConsoleIsBounded(t *testing.T) {
	c := console{expect: regexp.MustCompile("needle")}
	for range 1000 {
		if c.write(bytes.Repeat([]byte{'x'}, 1000)) {
			t.Fatal("matched nothing")
		}
	}
	if cap(c.line) > 4*maxLine || cap(c.tail) > 8*maxTail {
		t.Errorf("%d and %d bytes kept", cap(c.line), cap(c.tail))
	}
	if !c.write([]byte("needle\n")) {
		t.Error("no match at the end of a long line")
	}
}

func TestStripper(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[2J\x1b[01;01Hb":        "ab",
		"\x1b]0;title\x07x":           "x",
		"\x1b]0;title\x1b\\x":         "x",
		"\x1bcx\x1b=y\x1b>\x1b7":      "xy",
		"\x1b[?7l\x1b[?3hok\a\b\x00":  "ok",
		"tab\there \x1b(Bü":           "tab\there ü",
		"\x1b\x1b[31mred":             "red",
		"\x1bPq#0;2;0\x1b\\after dcs": "after dcs",
	} {
		var s stripper
		var got []byte
		for _, b := range []byte(in) {
			if b, ok := s.next(b); ok {
				got = append(got, b)
			}
		}
		if string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("a\x1b[1mb\r\nc"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := console{expect: regexp.MustCompile("x$")}
		c.write(in)
		c.look()
		_ = c.text()
	})
}

// bootSector writes text to the first serial port and then does what end says.
func bootSector(t *testing.T, text string, end ...byte) string {
	t.Helper()
	code := []byte{
		0xfa,       // cli
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xbe, 0, 0, // mov si, text
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz end
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp next
	}
	code = append(code, end...)
	at := 0x7c00 + len(code)
	code[9], code[10] = byte(at), byte(at>>8)
	sector := append(append(code, text...), 0)
	image := make([]byte, 1<<20)
	copy(image, sector)
	image[510], image[511] = 0x55, 0xaa
	path := filepath.Join(t.TempDir(), "disk, with a comma.img")
	if err := os.WriteFile(path, image, 0o444); err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	endHalt = []byte{0xf4, 0xeb, 0xfd}                      // hlt; jmp $-1
	endOff  = []byte{0xba, 0x04, 0x06, 0xb8, 0, 0x20, 0xef} // mov dx, 0x604; mov ax, 0x2000; out dx, ax: q35: ACPI's power off
)

func TestRealBoot(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	image := bootSector(t, "boot sector\r\nlogin: ", endHalt...)
	for _, attach := range []Attach{Virtio, IDE, USB, NVMe} {
		t.Run(string(attach), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var console bytes.Buffer
			shot := filepath.Join(t.TempDir(), "screen.png")
			got, err := Run(ctx, Config{
				Image: image, Attach: attach, Memory: 64 << 20, Console: &console, ScreenshotPath: shot,
				Expect: regexp.MustCompile("^login: $"), TempDir: t.TempDir(),
			})
			if err != nil || got.Line != "login: " || !strings.Contains(got.Tail, "boot sector") {
				t.Fatalf("Run = %+v, %v", got, err)
			}
			if !strings.Contains(console.String(), "boot sector\r\n") {
				t.Errorf("console: %q", console.String())
			}
			checkPNG(t, shot)
		})
	}
}

func checkPNG(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c, err := png.DecodeConfig(f); err != nil || c.Width < 320 || c.Height < 200 {
		t.Errorf("screenshot: %+v, %v", c, err)
	}
}

func TestRealPowerOff(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	// The q35 machine boots the CD; the sector is on the further disk, which is next in line.
	cd := filepath.Join(t.TempDir(), "empty.iso")
	if err := os.WriteFile(cd, make([]byte, 1<<16), 0o444); err != nil {
		t.Fatal(err)
	}
	disk := bootSector(t, "going down\n", endOff...)
	for _, shot := range []string{"", filepath.Join(t.TempDir(), "screen.png")} {
		for _, expect := range []*regexp.Regexp{nil, regexp.MustCompile("never")} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			got, err := Run(ctx, Config{
				Image: cd, Attach: AHCI, Disks: []string{disk}, Memory: 64 << 20, Expect: expect,
				ScreenshotPath: shot, Stdin: io.LimitReader(strings.NewReader(""), 0),
			})
			cancel()
			if expect == nil && err != nil || expect != nil && !errors.Is(err, ErrEnded) {
				t.Errorf("expect %v, screenshot %q: %v", expect, shot, err)
			}
			if got.Shutdown != "guest-shutdown" || !slices.Contains(strings.Split(got.Tail, "\n"), "going down") {
				t.Errorf("expect %v, screenshot %q: %+v", expect, shot, got)
			}
			if shot != "" {
				checkPNG(t, shot)
			}
		}
	}
}

func TestRealUEFI(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	if testing.Short() {
		t.Skip("OVMF takes its time")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	image := bootSector(t, "", endHalt...)
	got, err := Run(ctx, Config{Image: image, Firmware: UEFI, Attach: Virtio, Memory: 128 << 20, Expect: regexp.MustCompile("^BdsDxe: ")})
	if errors.As(err, new(*NotFoundError)) {
		testenv.Missing(t, "%v", err)
	}
	if err != nil {
		t.Errorf("Run = %+v, %v", got, err)
	}
}

func TestRealFailure(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	image := bootSector(t, "", endHalt...)
	_, err := Run(t.Context(), Config{Image: image, Extra: []string{"-device", "no-such-device"}})
	var exit *ExitError
	if !errors.As(err, &exit) || !strings.Contains(exit.Stderr, "no-such-device") {
		t.Errorf("err = %v", err)
	}
}
