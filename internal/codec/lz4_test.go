package codec

import (
	"bytes"
	"os"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// Without liblz4, the image has the same bytes.
func TestLZ4EnginesAgree(t *testing.T) {
	if _, err := liblz4(); err != nil {
		t.Skip(err)
	}
	lib, pure := newLZ4Block(0), &lz4Block{compress: new(lz4.CompressorCCompat).CompressBlock}
	all := inputs()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if all["program"], err = os.ReadFile(program); err != nil {
		t.Fatal(err)
	}
	for name, src := range all {
		a, err := lib.Compress(nil, src)
		if err != nil {
			t.Fatal(err)
		}
		b, err := pure.Compress(nil, src)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s: %d bytes by liblz4, %d by the pure Go engine", name, len(a), len(b))
		}
	}
}
