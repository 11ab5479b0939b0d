package iso

// El Torito 1.0, "Bootable CD-ROM Format": a record among the volume descriptors points to a catalog
// of boot images, one for the BIOS and one for UEFI.

const (
	platformBIOS = 0x00
	platformEFI  = 0xEF
	bootable     = 0x88
)

// bootRecord encodes the boot record volume descriptor (figure 7).
func bootRecord(catalog int64) []byte {
	b := make([]byte, sectorSize)
	copy(b[1:], "CD001\x01") // boot record indicator 0, standard identifier, version
	copy(b[7:], "EL TORITO SPECIFICATION")
	le.PutUint32(b[71:], u32(sector(catalog)))
	return b
}

// bootCatalog encodes the catalog (figures 2-5): stage 2 as the default, the EFI system partition in a
// section of its own.
func bootCatalog(stage2, esp, espSize int64) []byte {
	b := make([]byte, sectorSize)
	b[0] = 1 // validation entry: header
	b[1] = platformBIOS
	copy(b[4:28], "ISOPRESS")
	b[30], b[31] = 0x55, 0xAA
	le.PutUint16(b[28:], catalogChecksum(b[:32]))
	bootEntry(b[32:], stage2, stage2Size)
	b[64] = 0x91 // section header: the last one
	b[65] = platformEFI
	le.PutUint16(b[66:], 1) // entries
	bootEntry(b[96:], esp, espSize)
	return b
}

// bootEntry encodes an entry without emulation. A size that its 16 bits cannot hold is written as 0,
// which firmware takes as "to the end of the medium".
func bootEntry(b []byte, pos, size int64) {
	b[0] = bootable
	if blocks := size / blockSize; blocks <= 0xFFFF {
		le.PutUint16(b[6:], u16(blocks)) // sector count, of 512 bytes
	}
	le.PutUint32(b[8:], u32(sector(pos))) // load RBA
}

// catalogChecksum makes the words of the validation entry add up to 0.
func catalogChecksum(b []byte) uint16 {
	var sum uint16
	for i := 0; i < len(b); i += 2 {
		sum -= le.Uint16(b[i:])
	}
	return sum
}
