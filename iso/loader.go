package iso

import _ "embed"

// The loaders are assembled by nasm from the sources beside them; a test compares.
//
//go:generate nasm -Werror -f bin -o mbr.bin mbr.asm
//go:generate nasm -Werror -f bin -o stage2.bin stage2.asm
//go:generate nasm -Werror -f bin -o uefi.efi uefi.asm
var (
	//go:embed mbr.bin
	mbrCode []byte
	//go:embed stage2.bin
	stage2Code []byte
	//go:embed uefi.efi
	uefiStub []byte
)

const (
	mbrStage2        = 432 // lba in mbr.asm
	stage2Size       = sectorSize
	stage2Parameters = 64 // the parameter block in stage2.asm
)

// stage2 returns the BIOS loader with what it loads written into it. Sizes fit: the three are parts
// of a unified kernel image.
func stage2(kernel, initrd *content, cmdline int64) []byte {
	b := append([]byte{}, stage2Code...)
	p := b[stage2Parameters:]
	le.PutUint32(p, u32(sector(kernel.pos))) // kernel_sector
	le.PutUint32(p[4:], u32(kernel.size))    // kernel_size
	if initrd != nil {
		le.PutUint32(p[8:], u32(sector(initrd.pos))) // initrd_sector
		le.PutUint32(p[12:], u32(initrd.size))       // initrd_size
	}
	le.PutUint32(p[16:], u32(sector(cmdline))) // cmdline_sector
	return b
}
