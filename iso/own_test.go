package iso

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
)

// openMade opens an image that makeImage makes.
func openMade(t *testing.T, opts Options, c contents) (*Image, []byte) {
	t.Helper()
	path, _ := makeImage(t, opts, c)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	im, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return im, b
}

// The stub that is found in an image gives the same image again.
func TestOwnStub(t *testing.T) {
	for name, change := range map[string]func(b *Boot){
		"ours":            func(*Boot) {},
		"signed":          func(b *Boot) { b.EFIStub = signedStub() },
		"no command line": func(b *Boot) { b.Cmdline = "" },
		"no initrd":       func(b *Boot) { b.Initrd = "" },
		"kernel alone":    func(b *Boot) { b.Initrd, b.Cmdline = "", "" },
		"longest":         func(b *Boot) { b.Cmdline = strings.Repeat("x", maxCmdline) },
		"FAT32":           func(b *Boot) { b.FAT32 = true },
	} {
		t.Run(name, func(t *testing.T) {
			opts, c := sample()
			change(opts.Boot)
			im, first := openMade(t, opts, c)
			stub, cmdline, err := im.OwnStub()
			if err != nil {
				t.Fatal(err)
			}
			if cmdline != opts.Boot.Cmdline {
				t.Errorf("command line %q, it was %q", cmdline, opts.Boot.Cmdline)
			}
			opts.Boot.EFIStub = stub
			if _, second := openMade(t, opts, c); !bytes.Equal(first, second) {
				t.Error("the stub gives another image")
			}
		})
	}
}

// GRUB's images that are found in an image give the same image again.
func TestOwnGRUB(t *testing.T) {
	opts, c := sample()
	mbr := append(pattern("boot_hybrid.img", blockSize-2), 0x55, 0xAA)
	opts.Boot = &Boot{GRUB: &GRUB{MBR: mbr, ElTorito: pattern("El Torito", 50_001), EFI: bytes.Clone(uefiStub)}}
	im, first := openMade(t, opts, c)
	given := opts.Boot.GRUB
	clear(mbr[mbrSignature : blockSize-2])
	le.PutUint64(mbr[grubMBRLoader:], 1)
	clear(given.ElTorito[bootInfoTable:bootInfoSum])
	le.PutUint64(given.ElTorito[grubBootInfo:], 2)
	var err error
	if opts.Boot.GRUB, err = im.OwnGRUB(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(opts.Boot.GRUB, given) {
		t.Error("GRUB is not as it was given")
	}
	if _, second := openMade(t, opts, c); !bytes.Equal(first, second) {
		t.Error("GRUB gives another image")
	}
	im, _ = openMade(t, Options{VolumeID: "PLAIN"}, contents{})
	if _, err := im.OwnGRUB(); err == nil {
		t.Error("GRUB of an image that does not boot")
	}
	if _, _, err := im.OwnStub(); err == nil {
		t.Error("a stub of an image that does not boot")
	}
}

// An image that changed after it was made is not one of a Writer's any more.
func TestCheckOwn(t *testing.T) {
	opts, c := sample()
	delete(c, longName)
	opts.Files = c.files()
	for _, joliet := range []bool{false, true} {
		opts.Joliet = joliet
		im, b := openMade(t, opts, c)
		if err := im.CheckOwn(joliet); err != nil {
			t.Error(err)
		}
		if err := im.CheckOwn(!joliet); !errors.Is(err, ErrUnsupported) {
			t.Errorf("Joliet or none: %v", err)
		}
		im.size += sectorSize
		if err := im.CheckOwn(joliet); !errors.Is(err, ErrUnsupported) {
			t.Errorf("more behind its end: %v", err)
		}
		im.size -= 2 * sectorSize
		if err := im.CheckOwn(joliet); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut off: %v", err)
		}
		copy(b[systemArea+446:], "XORRISO ")
		im, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := im.CheckOwn(joliet); !errors.Is(err, ErrUnsupported) {
			t.Errorf("another program's: %v", err)
		}
	}
}

// A unified kernel image need not be trusted; what is taken off it is a PE file still.
func FuzzSplitUKI(f *testing.F) {
	u, err := newUKI(&Boot{Initrd: "i", Cmdline: "quiet"})
	if err != nil {
		f.Fatal(err)
	}
	u.finish(&content{size: 5000}, &content{size: 7000}, sectorSize)
	f.Add(u.head)
	f.Add(signedStub())
	f.Fuzz(func(t *testing.T, b []byte) {
		stub, cmdline, err := splitUKI(bytes.Clone(b))
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v", err)
			}
			return
		}
		if len(stub) > len(b) || len(cmdline) > maxCmdline {
			t.Errorf("%d bytes and %d of %d", len(stub), len(cmdline), len(b))
		}
		if _, err := parsePE(stub); err != nil {
			t.Errorf("the stub: %v", err)
		}
	})
}
