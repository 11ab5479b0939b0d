package iso

import (
	"bytes"
	"debug/pe"
	"strings"
	"testing"
)

// signedStub is our stub with symbols and a signature behind its sections, as a linker and sbsign leave
// them.
func signedStub() []byte {
	b := append(bytes.Clone(uefiStub), pattern("symbols and certificates", 4096)...)
	p, err := parsePE(b)
	if err != nil {
		panic(err)
	}
	le.PutUint32(b[p.coff+8:], u32(int64(len(uefiStub))))
	le.PutUint32(b[p.coff+12:], 50)
	at := p.optional + peMinOptional + 8*pe.IMAGE_DIRECTORY_ENTRY_SECURITY
	le.PutUint32(b[at:], u32(int64(len(uefiStub)+1024)))
	le.PutUint32(b[at+4:], 3072)
	return b
}

// What lies behind a stub's sections is not in the unified kernel image, so its headers do not speak of
// it: kernel and initrd would be taken for it.
func TestSignedStub(t *testing.T) {
	opts, c := sample()
	opts.Boot.EFIStub = signedStub()
	path, r := makeImage(t, opts, c)
	efi := cut(t, path, r.EFI...)
	f, err := pe.Open(efi)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := f.OptionalHeader.(*pe.OptionalHeader64)
	if d := h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]; d.VirtualAddress != 0 || d.Size != 0 {
		t.Errorf("the signature lies at %#x, %d bytes", d.VirtualAddress, d.Size)
	}
	if d := h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_BASERELOC]; d.Size == 0 {
		t.Error("the relocations are gone")
	}
	if f.PointerToSymbolTable != 0 || f.NumberOfSymbols != 0 {
		t.Errorf("%d symbols at %#x", f.NumberOfSymbols, f.PointerToSymbolTable)
	}
	checkSections(t, efi, c)
	signed := readPieces(t, path, r.EFI)
	opts.Boot.EFIStub = nil
	path, r = makeImage(t, opts, c)
	if !bytes.Equal(signed, readPieces(t, path, r.EFI)) {
		t.Error("another image than with the stub alone")
	}
}

// A stub is anyone's file.
func TestHostileStubs(t *testing.T) {
	section := func(i int) int64 { // of our stub, which has three
		p, err := parsePE(uefiStub)
		if err != nil {
			t.Fatal(err)
		}
		return p.table + int64(i)*peSectionSize
	}
	p, err := parsePE(uefiStub)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"memory": {func(b []byte) []byte {
			le.PutUint32(b[section(1)+12:], 0xFFFFF000)
			return b
		}, "bytes of memory"},
		"file": {func(b []byte) []byte {
			le.PutUint32(b[section(1)+20:], 0xFFFFF000)
			return b
		}, "cut off"},
		"sections": {func(b []byte) []byte {
			n := 65535
			b = append(b, make([]byte, n*peSectionSize+4096)...)
			copy(b[p.table:], make([]byte, int64(len(b))-p.table))
			le.PutUint16(b[p.coff+2:], uint16(n))
			le.PutUint32(b[p.optional+60:], u32(int64(len(b))))
			return b
		}, "65535 sections"},
		"headers over data": {func(b []byte) []byte {
			le.PutUint32(b[section(0)+20:], u32(section(3)))
			return b
		}, "no room"},
		"table in the optional header": {func(b []byte) []byte {
			le.PutUint16(b[p.coff+16:], 0)
			return b
		}, "cut off"},
		"alignment": {func(b []byte) []byte {
			le.PutUint32(b[p.optional+32:], 1<<21)
			return b
		}, "aligned to 2097152"},
		"large": {func(b []byte) []byte { return append(b, make([]byte, 33<<20)...) }, "no stub is that large"},
		"a unified kernel image": {func(b []byte) []byte {
			copy(b[section(1):], ".linux\x00\x00")
			return b
		}, "has a section .linux: give a stub alone"},
	} {
		t.Run(name, func(t *testing.T) {
			opts, _ := sample()
			opts.Boot.EFIStub = tt.change(bytes.Clone(uefiStub))
			_, err := NewWriter(nil, opts)
			if err == nil || !strings.Contains(err.Error(), "EFI stub: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
