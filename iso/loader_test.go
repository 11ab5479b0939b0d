package iso

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// From the first sector, and from the boot catalog, one finds stage 2, and from there the files.
func TestBIOSChain(t *testing.T) {
	for _, initrd := range []bool{true, false} {
		opts, c := sample()
		if !initrd {
			opts.Boot.Initrd = ""
		}
		dst := &memory{}
		w, err := NewWriter(dst, opts)
		if err != nil {
			t.Fatal(err)
		}
		write(t, w, c)
		image := dst.b
		at := func(sector uint32, size int) []byte { return image[int64(sector)*sectorSize:][:size] }

		if !bytes.Equal(image[:mbrStage2], mbrCode[:mbrStage2]) || image[510] != 0x55 || image[511] != 0xAA {
			t.Error("no boot code in the first sector")
		}
		catalog := at(le.Uint32(at(17, sectorSize)[71:]), sectorSize)
		sum := uint16(0)
		for i := 0; i < 32; i += 2 {
			sum += le.Uint16(catalog[i:])
		}
		if sum != 0 {
			t.Errorf("the catalog's checksum is off by %#x", sum)
		}
		stage2 := le.Uint32(catalog[32+8:])
		if block := le.Uint64(image[mbrStage2:]); block != uint64(stage2)*4 {
			t.Errorf("block %d for disks, sector %d for CDs", block, stage2)
		}
		p := at(stage2, stage2Size)
		if !bytes.Equal(p[:stage2Parameters], stage2Code[:stage2Parameters]) || !bytes.Equal(p[stage2Parameters+20:], stage2Code[stage2Parameters+20:]) {
			t.Error("stage 2 is not the assembled one")
		}
		p = p[stage2Parameters:]
		if !bytes.Equal(at(le.Uint32(p), int(le.Uint32(p[4:]))), c["boot/kernel"]) {
			t.Error("stage 2 does not find the kernel")
		}
		if size := int(le.Uint32(p[12:])); initrd != (size > 0) || initrd && !bytes.Equal(at(le.Uint32(p[8:]), size), c["boot/initrd"]) {
			t.Error("stage 2 does not find the initrd")
		}
		if want := opts.Boot.Cmdline + "\x00"; string(at(le.Uint32(p[16:]), len(want))) != want {
			t.Error("stage 2 does not find the command line")
		}
	}
}

// The loaders in the repository are what their sources assemble to.
func TestAssembly(t *testing.T) {
	testenv.NeedTool(t, "nasm")
	for _, tt := range []struct {
		source string
		want   []byte
		size   int
	}{
		{"mbr.asm", mbrCode, 440},
		{"stage2.asm", stage2Code, stage2Size},
		{"uefi.asm", uefiStub, len(uefiStub)},
	} {
		out := filepath.Join(t.TempDir(), "out")
		run(t, "nasm", "-Werror", "-f", "bin", "-o", out, tt.source)
		got, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, tt.want) || len(got) != tt.size {
			t.Errorf("%s: the committed binary is another one: run go generate", tt.source)
		}
	}
}
