package codec

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func inputs() map[string][]byte {
	random := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	mixed := append(bytes.Repeat([]byte("all work and no play "), 20_000), random[:400_000]...)
	return map[string][]byte{"random": random, "mixed": mixed, "zero": make([]byte, 1<<20), "one": {1}, "short": []byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")}
}

// What a block compressor writes, the decoder reads back, and nothing of the
// size of its input or more comes out.
func TestBlocks(t *testing.T) {
	for _, spec := range []string{"zstd:1", "zstd:3", "zstd:19", "zstd:22", "gzip:1", "gzip:9", "lz4", "lz4:hc", "lz4:hc:1", "xz", "xz:0", "xz:9:bcj=none", "xz:6:bcj=x86+arm+powerpc", "none"} {
		s, err := Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		block, err := NewBlock(s, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 0, Bound(1<<20))
		for name, in := range inputs() {
			out, err := block.Compress(buf, in)
			if err != nil {
				t.Fatalf("%s, %s: %v", spec, name, err)
			}
			if out == nil {
				if s.Algorithm != None && (name == "zero" || name == "mixed") {
					t.Errorf("%s, %s: does not compress", spec, name)
				}
				continue
			}
			if len(out) >= len(in) || &out[:1][0] != &buf[:1][0] {
				t.Errorf("%s, %s: %d bytes to %d, or in other memory", spec, name, len(in), len(out))
			}
			expand(t, s.Algorithm, spec+", "+name, out, in)
		}
		block.Close()
	}
}

func expand(t *testing.T, a Algorithm, name string, out, in []byte) {
	t.Helper()
	dec, err := NewDecoder(a)
	if err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(in))
	if n, err := dec.Decode(back, out); err != nil || n != len(in) || !bytes.Equal(back, in) {
		t.Errorf("%s: %d bytes back of %d, %v", name, n, len(in), err)
	}
	if _, err := dec.Decode(back[:len(in)-1], out); err == nil {
		t.Errorf("%s: expands to more than there is room for, without an error", name)
	}
	if _, err := dec.Decode(back, out[:len(out)-1]); err == nil {
		t.Errorf("%s: cut short, without an error", name)
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{"zstd": "zstd:19", "zstd:22": "zstd:22", "gzip": "gzip:9", "none": "none",
		"xz": "xz:6", "xz:0": "xz:0", "xz:9:bcj=x86": "xz:9", "xz:bcj=none": "xz:6:bcj=none", "xz:6:dict=524288:bcj=arm64+x86": "xz:6:bcj=x86+arm64:dict=512K",
		"xz:dict=96K": "xz:6:dict=96K", "lz4": "lz4", "lz4:hc": "lz4:hc", "lz4:hc:12": "lz4:hc", "lz4:hc:3": "lz4:hc:3"} {
		if s, err := Parse(in); err != nil || s.String() != want {
			t.Errorf("%s: %s, %v", in, s, err)
		}
	}
	for _, in := range []string{"", "zstd:0", "zstd:23", "gzip:10", "gzip:x", "none:1", "zstd:", "none:", "zstd:3:3", "lzma", "lzo",
		"xz:10", "xz:-1", "xz:6:6", "xz:bcj=", "xz:bcj=mips", "xz:bcj=x86+", "xz:dict=4K", "xz:dict=2M", "xz:dict=80K", "xz:dict=99999999999", "xz:dict=0",
		"zstd:3:bcj=x86", "gzip:dict=64K", "lz4:9", "lz4:hc:0", "lz4:hc:13", "lz4:hc:hc", "lz4:hc:9:9", "lz4:"} {
		if s, err := Parse(in); err == nil {
			t.Errorf("%q: %s", in, s)
		}
	}
}
