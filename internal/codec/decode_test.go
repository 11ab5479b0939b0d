package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// storedBlock is a block as mksquashfs wrote it.
type storedBlock struct {
	name      string
	algorithm Algorithm
	stored    []byte
}

// storedBlocks are those of testdata/blocks, which all expand to blockContent.
func storedBlocks(t testing.TB) []storedBlock {
	t.Helper()
	names, err := filepath.Glob("testdata/blocks/*.block")
	if err != nil || len(names) < 6 {
		t.Fatalf("%q, %v", names, err)
	}
	var blocks []storedBlock
	for _, name := range names {
		b := readFile(t, name)
		name = strings.TrimSuffix(filepath.Base(name), ".block")
		algorithm, _, _ := strings.Cut(name, "-")
		blocks = append(blocks, storedBlock{name, Algorithm(algorithm), b})
	}
	return blocks
}

// blockContent is the start of what "seq 1 5000" prints.
func blockContent() []byte {
	var b bytes.Buffer
	for i := 1; b.Len() < 20_000; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.Bytes()[:20_000]
}

// TestDecode: each decoder gives a block's content and no more, many times over,
// also after errors.
func TestDecode(t *testing.T) {
	want := blockContent()
	for _, block := range storedBlocks(t) {
		dec, err := NewDecoder(block.algorithm)
		if err != nil {
			t.Fatal(err)
		}
		for round := range 3 {
			checkDecode(t, fmt.Sprintf("%s, round %d", block.name, round), dec, block.stored, want)
		}
	}
}

func checkDecode(t *testing.T, name string, dec Decoder, stored, want []byte) {
	t.Helper()
	guard := bytes.Repeat([]byte{0xa5}, len(want)+100)
	for _, room := range []int{len(want), len(want) + 50} {
		dst := bytes.Clone(guard)
		n, err := dec.Decode(dst[:room:room], stored)
		if err != nil || !bytes.Equal(dst[:n], want) {
			t.Errorf("%s: %d bytes in room for %d, %v", name, n, room, err)
		}
		if !bytes.Equal(dst[room:], guard[room:]) {
			t.Errorf("%s: wrote beyond its end", name)
		}
	}
	for _, room := range []int{0, 1, len(want) / 2, len(want) - 1} {
		dst := bytes.Clone(guard)
		if n, err := dec.Decode(dst[:room:room], stored); err == nil {
			t.Errorf("%s: %d bytes in room for %d without an error", name, n, room)
		}
		if !bytes.Equal(dst[room:], guard[room:]) {
			t.Errorf("%s: wrote beyond its end", name)
		}
	}
	for _, cut := range []int{0, 1, 5, 12, 13, 30, len(stored) / 2, len(stored) - 1} {
		n, err := dec.Decode(make([]byte, len(want)), stored[:cut])
		if err == nil && n == len(want) {
			t.Errorf("%s: cut off after %d bytes, yet whole", name, cut)
		}
	}
}

// TestDecodeFilters: .xz streams with each of squashfs's filters, of this test's
// own program and of the decoders' own noise.
func TestDecodeFilters(t *testing.T) {
	testenv.NeedTool(t, "xz")
	program := ownProgram(t)
	dec, err := NewDecoder(XZ)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"--check=none", "--check=crc32", "--check=crc64", "--check=sha256",
		"--x86", "--powerpc", "--ia64", "--arm", "--armthumb", "--sparc", "--arm64",
		"--arm64 --check=none", "--arm64 --check=crc64", "--arm64=start=4096", "--delta=dist=4", "--x86 --arm",
		"--arm64 --delta=dist=4",
	} {
		for name, want := range map[string][]byte{"program": program, "ARM64": arm64Code(), "short": program[:5]} {
			file := filepath.Join(t.TempDir(), "in")
			if err := os.WriteFile(file, want, 0o600); err != nil {
				t.Fatal(err)
			}
			full := append([]string{"-c", "--threads=1", "--check=crc32"}, strings.Fields(args)...)
			stored, err := exec.Command("xz", append(full, "--lzma2=dict=1MiB", file)...).Output()
			if err != nil {
				t.Fatalf("%s: %v", args, err)
			}
			if name == "short" {
				dst := make([]byte, 10)
				if n, err := dec.Decode(dst, stored); err != nil || !bytes.Equal(dst[:n], want) {
					t.Errorf("%s: %s: %x, %v", args, name, dst[:n], err)
				}
				continue
			}
			checkDecode(t, args+": "+name, dec, stored, want)
		}
	}
}

// ownProgram is part of the running test's code.
func ownProgram(t testing.TB) []byte {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return readFile(t, name)[1<<20:][:60_001]
}

// arm64Code has all sorts of BL and ADRP instructions among others.
func arm64Code() []byte {
	var b []byte
	random := inputs()["random"]
	for i := 0; i+4 <= len(random)/20; i += 4 {
		word := random[i : i+4]
		switch i / 4 % 3 {
		case 0:
			word[3] = 0x94 | word[3]&3
		case 1:
			word[3] = 0x90 | word[3]&0x60
			if i%2 == 0 { // a short distance, either way
				word[2] = byte(int8(word[2]) >> 7)
			}
		}
		b = append(b, word...)
	}
	return append(b, 0x94, 0x94, 0x94)
}

// TestDecodeUnsupported: streams that are in order, but not for us.
func TestDecodeUnsupported(t *testing.T) {
	testenv.NeedTool(t, "xz")
	dec, err := NewDecoder(XZ)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, blockContent(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"--lzma2=dict=2MiB", "--lzma2=dict=1GiB", "--arm64 --lzma2=dict=2MiB", "--arm64 --check=sha256 --lzma2=dict=1MiB"} {
		stored, err := exec.Command("xz", append([]string{"-c", file, "--threads=1"}, strings.Fields(args)...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dec.Decode(make([]byte, 20_000), stored); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", args, err)
		}
	}
	if _, err := NewDecoder("rar"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("rar: %v", err)
	}
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestDecodeAllocations: once warm, decoders allocate next to nothing; the
// library behind LZMA cannot be reset.
func TestDecodeAllocations(t *testing.T) {
	// Under the race detector, a sync.Pool drops some of what zstd's decoder puts there.
	limits := map[Algorithm]uint64{LZMA: 150_000, Zstd: 20_000}
	for _, block := range storedBlocks(t) {
		dec, err := NewDecoder(block.algorithm)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 20_000)
		decode := func() {
			if _, err := dec.Decode(dst, block.stored); err != nil {
				t.Error(err)
			}
		}
		decode()
		const rounds = 100
		n := allocated(func() {
			for range rounds {
				decode()
			}
		}) / rounds
		t.Logf("%s: %d bytes a block", block.name, n)
		if n > max(2000, limits[block.algorithm]) {
			t.Errorf("%s: %d bytes allocated for a block", block.name, n)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, block := range storedBlocks(b) {
		b.Run(block.name, func(b *testing.B) {
			dec, err := NewDecoder(block.algorithm)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 20_000)
			b.SetBytes(int64(len(dst)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := dec.Decode(dst, block.stored); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// riscvCode has all sorts of JAL instructions and AUIPC pairs among others.
func riscvCode() []byte {
	random := inputs()["random"]
	le := binary.LittleEndian
	var b []byte
	for i := 0; len(b) < 12_000; i += 16 {
		word, next := le.Uint32(random[i:]), le.Uint32(random[i+4:])
		switch random[i+8] % 6 {
		case 0: // JAL, mostly to x1 or x5
			b = le.AppendUint32(b, word&^0xfff|0xef|word>>3&4<<8|word&0x100)
		case 1, 2: // a pair
			rd := word >> 7 & 31
			b = le.AppendUint32(b, word&^0x7f|0x17)
			b = le.AppendUint32(b, next&^0xf8003|rd<<15|3)
		case 3: // one that looks like the filter's
			b = le.AppendUint32(b, word&^0xfff|0x3117)
			b = le.AppendUint32(b, next)
		case 4: // AUIPC alone
			b = le.AppendUint32(b, word&^0x7f|0x17)
			b = le.AppendUint16(b, uint16(next))
		default:
			b = le.AppendUint16(b, uint16(word))
		}
	}
	return b[:12_000]
}

// TestDecodeRISCV: no xz here has this filter yet, so the block was made with
// what testdata/blocks/make-blocks.sh says.
func TestDecodeRISCV(t *testing.T) {
	for _, name := range []string{"riscv", "riscv-start"} {
		stored := readFile(t, "testdata/blocks/"+name+".xz")
		dec, err := NewDecoder(XZ)
		if err != nil {
			t.Fatal(err)
		}
		checkDecode(t, name, dec, stored, riscvCode())
	}
}
