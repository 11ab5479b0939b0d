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
		{"AArch64", func(b []byte) []byte { copy(b[0x38:], "ARM\x64"); return b }, "AArch64"},
		{"zeros", func(b []byte) []byte { clear(b); return b }, "no Linux kernel"},
		{"no boot flag", func(b []byte) []byte { b[0], b[setupBootFlag] = 0, 0; return b }, "no Linux kernel"},
		{"old", func(b []byte) []byte { b[setupVersion] = 0x0B; return b }, "boot protocol 2.11"},
		{"zImage", func(b []byte) []byte { b[setupLoadFlags] = 0; return b }, "zImage"},
		{"32 bits", func(b []byte) []byte { b[setupXLoadFlags] = 0; return b }, "32-bit"},
		{"xz", func(b []byte) []byte { return append([]byte("\xFD7zXZ\x00"), b[6:]...) }, "xz file"},
		{"zstd", func(b []byte) []byte { return append([]byte("\x28\xB5\x2F\xFD"), b[4:]...) }, "zstd file"},
		{"EFI zboot", func(b []byte) []byte { copy(b[2:], "\x00\x00zimg"); return b }, "zboot"},
		{"RISC-V", func(b []byte) []byte { copy(b[0x38:], "RSC\x05"); return b }, "RISC-V"},
		{"UKI", func(b []byte) []byte { copy(b[setupHeader:], "    "); return b }, "unified kernel image"},
		{"setup too large", func(b []byte) []byte { b[setupSects] = 65; return b }, "setup_sects is 65"},
		{"nothing but setup", func(b []byte) []byte { return b[:4*blockSize] }, "setup_sects is 3"},
		{"setup of 4 sectors by default", func(b []byte) []byte { b[setupSects] = 0; return b }, ""},
		{"whole", func(b []byte) []byte { le.PutUint32(b[setupSysSize:], (8192-4*blockSize)/16); return b }, ""},
		{"whole, rounded up", func(b []byte) []byte { le.PutUint32(b[setupSysSize:], (8192-4*blockSize)/16); return b[:8192-15] }, ""},
		{"cut off", func(b []byte) []byte { le.PutUint32(b[setupSysSize:], (8192-4*blockSize)/16); return b[:8192-16] }, "8176 bytes of 8192"},
		{"syssize cannot be", func(b []byte) []byte { le.PutUint32(b[setupSysSize:], 1<<32-1); return b }, "cut off"},
		{"the largest", func(b []byte) []byte { return append(b, make([]byte, 64<<20-len(b))...) }, ""},
		{"too large", func(b []byte) []byte { return append(b, make([]byte, 64<<20-len(b)+1)...) }, "at most 67108864"},
		{"short command line", func(b []byte) []byte { le.PutUint32(b[setupCmdlineSize:], 255); return b }, "255 bytes"},
		{"no init_size", func(b []byte) []byte { clear(b[setupInitSize : setupInitSize+4]); return b }, "init_size"},
		{"init_size of 4 GiB", func(b []byte) []byte { le.PutUint32(b[setupInitSize:], 1<<32-1); return b }, "init_size"},
		{"alignment of 3", func(b []byte) []byte {
			b[setupRelocatable] = 1
			le.PutUint32(b[setupAlignment:], 3<<20)
			return b
		}, "kernel_alignment"},
		{"above 4 GiB", func(b []byte) []byte { b[setupPrefAddress+4] = 1; return b }, "pref_address"},
		{"no MZ", func(b []byte) []byte { b[0] = 0; return b }, "no EFI stub"},
		{"no PE", func(b []byte) []byte { b[0x300] = 0; return b }, "no EFI stub"},
		{"PE header beyond the end", func(b []byte) []byte { le.PutUint32(b[peHeaderOffset:], 1<<30); return b }, "PE header lies at 1073741824"},
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

func TestMaxInitrd(t *testing.T) {
	for _, tt := range []struct {
		addressMax, initSize uint32
		address              uint64
		relocatable          byte
		want                 int64
	}{
		{0x7FFFFFFF, 32 << 20, 16 << 20, 1, 2000 << 20}, // above the kernel
		{0xFFFFFFFF, 32<<20 + 1, 16 << 20, 1, 4048<<20 - 4096},
		{0x37FFFFFF, 32 << 20, 800 << 20, 1, 799 << 20},     // below it
		{0x37FFFFFF, 32 << 20, 800 << 20, 0, 64 << 20},      // where it lies from 1 MiB on
		{0x03FFFFFF + 100, 32 << 20, 48 << 20, 1, 47 << 20}, // limit within it
		{0x01FFFFFF, 32 << 20, 48 << 20, 1, 31 << 20},       // ahead of it
		{0, 32 << 20, 16 << 20, 1, 0},
	} {
		b := fakeKernel(4096)
		le.PutUint32(b[setupInitrdMax:], tt.addressMax)
		le.PutUint32(b[setupInitSize:], tt.initSize)
		le.PutUint64(b[setupPrefAddress:], tt.address)
		b[setupRelocatable] = tt.relocatable
		if got, err := MaxInitrd(bytes.NewReader(b)); err != nil || got != tt.want {
			t.Errorf("%+v: got %d, %v", tt, got, err)
		}
	}
	broken := errors.New("broken")
	if _, err := MaxInitrd(failingAt{broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failingAt struct{ err error }

func (f failingAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// Whatever the bytes are, there is an answer, and a kernel that passes is one that stage 2 takes.
func FuzzCheckKernel(f *testing.F) {
	f.Add(fakeKernel(4096))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if CheckKernel(bytes.NewReader(b), int64(len(b))) != nil {
			return
		}
		if sects := b[setupSects]; sects > setupMaxSects || (max(int(sects), 1)+1)*blockSize >= len(b) {
			t.Errorf("%d sectors of setup in %d bytes", sects, len(b))
		}
		if end := le.Uint64(b[setupPrefAddress:]) + uint64(le.Uint32(b[setupInitSize:])); end > 1<<32 {
			t.Errorf("ends at %#x", end)
		}
	})
}

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
