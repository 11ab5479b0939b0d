package iso

import (
	"errors"
	"fmt"
)

// A unified kernel image is a PE file with kernel, initrd and command line as sections (uapi-group.org,
// "Unified Kernel Image"). Only its head is written here: the sections' data are the ISO's own files,
// so their positions in the PE file are those in the image.

const (
	peMachineX64     = 0x8664
	peOptional64     = 0x20B
	peSectionSize    = 40
	peSectionData    = 0x40000040 // initialized data, readable
	peFileAlignment  = 512
	peVirtualAlign   = 4096
	peMinOptional    = 112 // PE32+, without data directories
	peOptionalOffset = 24  // from the signature
)

// uki is the head of a unified kernel image: all of it but kernel and initrd.
type uki struct {
	head    []byte // headers, the stub's sections, the command line; whole sectors
	cmdline int64  // position of the command line in it, NUL-terminated in its own sector
	base    peFile // the stub
	memory  int64  // where the stub and the command line end in memory
}

// peFile is a PE file and where its parts are.
type peFile struct {
	image    []byte
	coff     int64
	optional int64
	table    int64 // section table
	sections int64
}

func parsePE(image []byte) (peFile, error) {
	p := peFile{image: image}
	if len(image) < 64 || image[0] != 'M' || image[1] != 'Z' {
		return p, errors.New("no PE file")
	}
	header := int64(le.Uint32(image[0x3C:])) // e_lfanew
	p.coff, p.optional = header+4, header+peOptionalOffset
	if p.optional+peMinOptional > int64(len(image)) || string(image[header:p.coff]) != "PE\x00\x00" {
		return p, errors.New("no PE header")
	}
	if m := le.Uint16(image[p.coff:]); m != peMachineX64 {
		return p, fmt.Errorf("PE machine %#04x is not x86-64's", m)
	}
	if le.Uint16(image[p.optional:]) != peOptional64 {
		return p, errors.New("no PE32+ file")
	}
	p.sections = int64(le.Uint16(image[p.coff+2:]))
	p.table = p.optional + int64(le.Uint16(image[p.coff+16:]))
	if p.headers() > int64(len(image)) || p.table+p.sections*peSectionSize > p.headers() {
		return p, errors.New("PE headers are cut off")
	}
	return p, nil
}

// headers is SizeOfHeaders.
func (p peFile) headers() int64 { return int64(le.Uint32(p.image[p.optional+60:])) }

// ends returns where the sections' data end in the file, and where the image ends in memory.
func (p peFile) ends() (file, memory int64) {
	file = p.headers()
	for i := range p.sections {
		h := p.image[p.table+i*peSectionSize:]
		memory = max(memory, int64(le.Uint32(h[12:]))+int64(le.Uint32(h[8:])))
		file = max(file, int64(le.Uint32(h[20:]))+int64(le.Uint32(h[16:])))
	}
	return file, memory
}

// newUKI makes the head of a unified kernel image, with room for the sections that finish adds.
func newUKI(b *Boot) (uki, error) {
	stub := b.EFIStub
	if stub == nil {
		stub = uefiStub
	}
	p, err := parsePE(stub)
	if err != nil {
		return uki{}, fmt.Errorf("iso: EFI stub: %w", err)
	}
	file, memory := p.ends()
	if file > int64(len(stub)) {
		return uki{}, errors.New("iso: EFI stub: is cut off")
	}
	var u uki
	u.head = padded(append([]byte{}, stub[:file]...), sectorSize)
	u.cmdline = int64(len(u.head))
	u.head = append(u.head, padded(append([]byte(b.Cmdline), 0), sectorSize)...)
	p.image = u.head
	sections := int64(1) // .linux
	if b.Initrd != "" {
		sections++
	}
	a := appender{peFile: p, memory: memory}
	if b.Cmdline != "" { // firmware may refuse an empty section
		a.section(".cmdline", u.cmdline, int64(len(b.Cmdline)))
	}
	if a.table+(a.sections+sections)*peSectionSize > a.headers() {
		a.err = errNoRoom
	}
	u.base, u.memory = a.peFile, a.memory
	return u, a.err
}

// finish adds the sections of kernel and initrd, which follow the head in the file, each from a
// multiple of unit on.
func (u *uki) finish(initrd, kernel *content, unit int64) {
	a := appender{peFile: u.base, memory: u.memory}
	pos := roundUp(int64(len(u.head)), unit)
	if initrd != nil {
		a.section(".initrd", pos, initrd.size)
		pos += roundUp(initrd.size, unit)
	}
	a.section(".linux", pos, kernel.size)
	a.finish()
}

var errNoRoom = errors.New("iso: EFI stub: its headers have no room for another section")

// appender adds sections to a PE file's headers.
type appender struct {
	peFile
	memory int64 // end of the last section in memory
	err    error
}

func (a *appender) section(name string, pos, size int64) {
	at := a.table + a.sections*peSectionSize
	if at+peSectionSize > a.headers() {
		a.err = errNoRoom
		return
	}
	a.memory = roundUp(a.memory, peVirtualAlign)
	h := a.image[at : at+peSectionSize]
	clear(h)
	copy(h, name)
	le.PutUint32(h[8:], u32(size))                            // VirtualSize
	le.PutUint32(h[12:], u32(a.memory))                       // VirtualAddress
	le.PutUint32(h[16:], u32(roundUp(size, peFileAlignment))) // SizeOfRawData
	le.PutUint32(h[20:], u32(pos))                            // PointerToRawData
	le.PutUint32(h[36:], peSectionData)                       // Characteristics
	a.memory += size
	a.sections++
}

func (a *appender) finish() {
	le.PutUint16(a.image[a.coff+2:], u16(a.sections))                             // NumberOfSections
	le.PutUint32(a.image[a.optional+56:], u32(roundUp(a.memory, peVirtualAlign))) // SizeOfImage
	le.PutUint32(a.image[a.optional+64:], 0)                                      // CheckSum: firmware does not ask
}
