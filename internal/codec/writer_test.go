package codec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// The formats' own tools read the streams.
func TestWriter(t *testing.T) {
	tools := map[string][]string{"xz": {"xz", "-dc"}, "gzip": {"gzip", "-dc"}, "zstd": {"zstd", "-dcq"}, "lz4": {"lz4", "-dcq"}, "none": {"cat"}}
	for _, spec := range []string{"xz", "xz:0", "xz:9", "xz:2:dict=64K", "gzip", "zstd:3", "lz4", "lz4:hc", "none"} {
		s, err := Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		tool := tools[string(s.Algorithm)]
		testenv.NeedTool(t, tool[0])
		for name, in := range inputs() {
			var out bytes.Buffer
			w, err := NewWriter(&out, s)
			if err != nil {
				t.Fatal(err)
			}
			for chunk := range slices.Chunk(in, 100_001) {
				if n, err := w.Write(chunk); n != len(chunk) || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			checkHead(t, s.Algorithm, out.Bytes())
			file := filepath.Join(t.TempDir(), "stream")
			if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			back, err := exec.Command(tool[0], append(tool[1:], file)...).Output()
			if err != nil || !bytes.Equal(back, in) {
				t.Errorf("%s, %s: %s gives %d bytes of %d, %v", spec, name, tool[0], len(back), len(in), err)
			}
		}
	}
}

// checkHead looks for what Linux's unpackers want beyond what the tools do.
func checkHead(t *testing.T, a Algorithm, out []byte) {
	t.Helper()
	want := map[Algorithm]string{
		XZ:  "\xfd7zXZ\x00\x00\x01", // with a CRC32
		LZ4: "\x02\x21\x4c\x18",     // the legacy frame
	}
	if !strings.HasPrefix(string(out), want[a]) {
		t.Errorf("%s: the stream starts with %x", a, out[:8])
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWriterFails(t *testing.T) {
	noise := inputs()["random"]
	for _, spec := range []string{"xz", "gzip", "zstd", "lz4", "none"} {
		s, err := Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		w, err := NewWriter(failing{}, s)
		if err != nil {
			continue // the header is written at once
		}
		_, err = w.Write(noise)
		if closed := w.Close(); err == nil && closed == nil {
			t.Errorf("%s: no error from a destination that takes nothing", spec)
		}
	}
}

// Which filters are tried goes by what the calls of a block lead to.
func TestAttempts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	code := func(operand func(at int) uint32) []byte {
		b := make([]byte, 200_000)
		for i := range b {
			b[i] = byte(random.IntN(0xe8))
		}
		for i := 0; i+5 < len(b); i += 20 + random.IntN(30) {
			b[i] = 0xe8
			binary.LittleEndian.PutUint32(b[i+1:], operand(i))
		}
		return b
	}
	linked := code(func(at int) uint32 { return uint32(random.IntN(50)*4000 - at - 5) })
	object := code(func(int) uint32 { return uint32(random.IntN(3)) })
	neither := code(func(int) uint32 { return uint32(random.IntN(1 << 24)) })
	text := []byte(strings.Repeat("a line of text\n", 1000))

	for _, c := range []struct {
		name    string
		in      []byte
		filters Filters
		want    []Filters
	}{
		{"linked", linked, X86, []Filters{X86}},
		{"linked", linked, 0, []Filters{0}},
		{"linked", linked, X86 | ARM64, []Filters{0, X86, ARM64}},
		{"object", object, X86, []Filters{0}},
		{"object", object, X86 | SPARC, []Filters{0, SPARC}},
		{"neither", neither, X86, []Filters{0, 0, 0, X86}}, // other parameters, too
		{"text", text, X86, []Filters{0}},
		{"empty", nil, X86, []Filters{0}},
	} {
		var got []Filters
		for _, a := range attempts(c.filters, &callTable{}, c.in) {
			got = append(got, a.filter)
			if a.lc+a.lp > 4 || a.pb > 4 {
				t.Errorf("%s: %+v is more than LZMA2 takes", c.name, a)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s with %s: tries %v, want %v", c.name, c.filters, got, c.want)
		}
	}
}

// A block's result must not depend on the blocks before it: blocks go to
// whichever worker is free.
func TestBlocksAreIndependent(t *testing.T) {
	for _, spec := range []string{"xz:4:bcj=x86+arm", "gzip:9", "lz4", "lz4:hc", "zstd:5"} {
		s, err := Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		compress := func(b Block, in []byte) []byte {
			out, err := b.Compress(nil, in)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Clone(out)
		}
		used, err := NewBlock(s, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for name, in := range inputs() {
				fresh, err := NewBlock(s, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(compress(used, in), compress(fresh, in)) {
					t.Errorf("%s: %s gives other bytes after other blocks", spec, name)
				}
				fresh.Close()
			}
		}
		used.Close()
	}
}

// What is compressed already is stored without the slow engine's time; what only
// looks so, because all bytes are as frequent, is not.
func TestDense(t *testing.T) {
	noise := inputs()["random"]
	repeated := append(bytes.Clone(noise[:1<<19]), noise[:1<<19]...)
	cut := append(bytes.Clone(noise[:1<<20-4096]), make([]byte, 4096)...) // saves 0.4 %
	for _, spec := range []string{"zstd:19", "xz"} {
		s, err := Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewBlock(s, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b.(*denseBlock).Block = tattling{b.(*denseBlock).Block}
		for name, c := range map[string]struct {
			in    []byte
			dense bool
		}{"noise": {noise, true}, "short noise": {noise[:minDense], true}, "too short to look at": {noise[:minDense-1], false}, "repeated": {repeated, false}, "cut": {cut, false}} {
			_, err := b.Compress(nil, c.in)
			if dense := err == nil; dense != c.dense {
				t.Errorf("%s, %s: stored at once %v, want %v", spec, name, dense, c.dense)
			}
		}
		b.Close()
	}
}

// tattling says that the engine was asked.
type tattling struct{ Block }

func (tattling) Compress(_, _ []byte) ([]byte, error) { return nil, os.ErrInvalid }
