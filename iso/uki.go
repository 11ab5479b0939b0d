package iso

import (
	"bytes"
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
	peDirectories    = 108 // in the optional header: how many data directories follow, then these
	peCertificates   = 4   // the data directory of the signatures
	peMaxSections    = 96  // that loaders take

	maxStub       = 32 << 20
	maxStubMemory = 64 << 20
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
	optional := int64(le.Uint16(image[p.coff+16:])) // SizeOfOptionalHeader
	p.table = p.optional + optional
	if optional < peMinOptional || p.headers() > int64(len(image)) || p.table+p.sections*peSectionSize > p.headers() {
		return p, errors.New("PE headers are cut off")
	}
	return p, nil
}

// headers is SizeOfHeaders.
func (p peFile) headers() int64 { return int64(le.Uint32(p.image[p.optional+60:])) }

// ends returns where the sections' data end in the file, and where the image ends in memory.
func (p peFile) ends() (file, memory int64) {
	file, memory = p.headers(), p.headers()
	for i := range p.sections {
		h := p.image[p.table+i*peSectionSize:]
		raw := int64(le.Uint32(h[16:]))
		memory = max(memory, int64(le.Uint32(h[12:]))+max(int64(le.Uint32(h[8:])), raw))
		if raw > 0 {
			file = max(file, int64(le.Uint32(h[20:]))+raw)
		}
	}
	return file, memory
}

// room returns where the section table must end: with the headers, ahead of the sections' data.
func (p peFile) room() int64 {
	end := p.headers()
	for i := range p.sections {
		h := p.image[p.table+i*peSectionSize:]
		if le.Uint32(h[16:]) > 0 {
			end = min(end, int64(le.Uint32(h[20:])))
		}
	}
	return end
}

// checkStub reports what a stub cannot be.
func (p peFile) checkStub() error {
	file, memory := p.ends()
	align := le.Uint32(p.image[p.optional+32:]) // SectionAlignment
	switch {
	case len(p.image) > maxStub:
		return fmt.Errorf("%d bytes: no stub is that large", len(p.image))
	case file > int64(len(p.image)):
		return errors.New("is cut off")
	case memory > maxStubMemory:
		return fmt.Errorf("takes %d bytes of memory: no stub is that large", memory)
	case p.sections > peMaxSections:
		return fmt.Errorf("%d sections, at most %d load", p.sections, peMaxSections)
	case align > peVirtualAlign:
		return fmt.Errorf("its sections are aligned to %d bytes, must be %d or less", align, peVirtualAlign)
	}
	for i := range p.sections {
		name := string(bytes.TrimRight(p.image[p.table+i*peSectionSize:][:8], "\x00"))
		if name == ".cmdline" || name == ".initrd" || name == ".linux" {
			return fmt.Errorf("has a section %s: give a stub alone, and no unified kernel image", name)
		}
	}
	return nil
}

// forget takes out where signatures and symbols are. They lie behind the sections and are not kept;
// what lies there then is none, and firmware that measures the file would leave it out.
func (p peFile) forget() {
	clear(p.image[p.coff+8 : p.coff+16]) // PointerToSymbolTable, NumberOfSymbols
	at := p.optional + peDirectories + 4 + 8*peCertificates
	if le.Uint32(p.image[p.optional+peDirectories:]) > peCertificates && at+8 <= p.table {
		clear(p.image[at : at+8])
	}
}

// newUKI makes the head of a unified kernel image, with room for the sections that finish adds.
func newUKI(b *Boot) (uki, error) {
	stub := b.EFIStub
	if stub == nil {
		stub = uefiStub
	}
	p, err := parsePE(stub)
	if err == nil {
		err = p.checkStub()
	}
	if err != nil {
		return uki{}, fmt.Errorf("iso: EFI stub: %w", err)
	}
	file, memory := p.ends()
	var u uki
	u.head = padded(append([]byte{}, stub[:file]...), sectorSize)
	u.cmdline = int64(len(u.head))
	u.head = append(u.head, padded(append([]byte(b.Cmdline), 0), sectorSize)...)
	p.image = u.head
	p.forget()
	sections := int64(1) // .linux
	if b.Initrd != "" {
		sections++
	}
	a := appender{peFile: p, memory: memory}
	if b.Cmdline != "" { // firmware may refuse an empty section
		a.section(".cmdline", u.cmdline, int64(len(b.Cmdline)))
	}
	if a.table+(a.sections+sections)*peSectionSize > a.room() {
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
	if at+peSectionSize > a.room() {
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
