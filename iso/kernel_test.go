package iso

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

func TestCheckKernel(t *testing.T) {
	tests := []struct {
		name   string
		change func(b []byte) []byte
		want   string // "": it is a kernel
	}{
		{"bzImage", func(b []byte) []byte { return b }, ""},
		{"empty", func(b []byte) []byte { return nil }, "too short"},
		{"short", func(b []byte) []byte { return b[:setupEnd-1] }, "too short"},
		{"ELF", func(b []byte) []byte { return append([]byte("\x7FELF"), b[4:]...) }, "vmlinux"},
		{"gzip", func(b []byte) []byte { return append([]byte("\x1F\x8B"), b[2:]...) }, "gzip"},
		{"AArch64", func(b []byte) []byte { copy(b[arm64ImageMagic:], "ARM\x64"); return b }, "AArch64"},
		{"zeros", func(b []byte) []byte { clear(b); return b }, "no Linux kernel"},
		{"no boot flag", func(b []byte) []byte { b[setupBootFlag] = 0; return b }, "no Linux kernel"},
		{"old", func(b []byte) []byte { b[setupVersion] = 0x0B; return b }, "boot protocol 2.11"},
		{"zImage", func(b []byte) []byte { b[setupLoadFlags] = 0; return b }, "zImage"},
		{"32 bits", func(b []byte) []byte { b[setupXLoadFlags] = 0; return b }, "32-bit"},
		{"setup too large", func(b []byte) []byte { b[setupSects] = 65; return b }, "setup_sects is 65"},
		{"nothing but setup", func(b []byte) []byte { return b[:4*blockSize] }, "setup_sects is 3"},
		{"short command line", func(b []byte) []byte { le.PutUint32(b[setupCmdlineSize:], 255); return b }, "255 bytes"},
		{"no init_size", func(b []byte) []byte { clear(b[setupInitSize : setupInitSize+4]); return b }, "init_size"},
		{"above 4 GiB", func(b []byte) []byte { b[setupPrefAddress+4] = 1; return b }, "pref_address"},
		{"no MZ", func(b []byte) []byte { b[0] = 0; return b }, "no EFI stub"},
		{"no PE", func(b []byte) []byte { b[0x300] = 0; return b }, "no EFI stub"},
		{"PE header beyond the end", func(b []byte) []byte { le.PutUint32(b[peHeaderOffset:], 1<<30); return b }, "no EFI stub"},
		{"32-bit PE", func(b []byte) []byte { le.PutUint16(b[0x304:], 0x14C); return b }, "0x014c"},
	}
	for _, tt := range tests {
		b := tt.change(fakeKernel(8192))
		err := CheckKernel(bytes.NewReader(b), int64(len(b)))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestCheckKernelReadError(t *testing.T) {
	broken := errors.New("broken")
	if err := CheckKernel(failingAt{broken}, 1<<20); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failingAt struct{ err error }

func (f failingAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestCheckRealKernel(t *testing.T) {
	f, err := os.Open(testenv.Closure(t).Kernel)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckKernel(f, st.Size()); err != nil {
		t.Error(err)
	}
}
