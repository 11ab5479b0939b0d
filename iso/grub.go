package iso

import (
	"bytes"
	"errors"
	"fmt"
)

// What grub-mkimage's images are told of where they lie; the names are those of xorriso's options.
const (
	grubMBRLoader   = 0x1B0 // --grub2-mbr: in boot_hybrid.img, the loader's first 512-byte block behind cdboot.img
	grubMBRSkip     = 4     // cdboot.img's blocks
	grubBootInfo    = 2548  // --grub2-boot-info: in the El Torito image, where diskboot.img goes on
	grubBootSkip    = 5     // cdboot.img's blocks and diskboot.img's
	bootInfoTable   = 8     // -boot-info-table
	bootInfoSum     = 64    // what its checksum covers begins here
	grubMinElTorito = grubBootInfo + 8
	maxGRUB         = 32 << 20
)

// mbr returns the boot code that loads the El Torito image at pos.
func (g *GRUB) mbr(pos int64) []byte {
	b := bytes.Clone(g.MBR)
	le.PutUint64(b[grubMBRLoader:], uint64(pos/blockSize+grubMBRSkip))
	return b
}

// elTorito returns the El Torito image for pos. The checksum covers what is patched, so it comes last.
func (g *GRUB) elTorito(pos int64) []byte {
	b := bytes.Clone(g.ElTorito)
	le.PutUint64(b[grubBootInfo:], uint64(pos/blockSize+grubBootSkip))
	clear(b[bootInfoTable:bootInfoSum])
	le.PutUint32(b[bootInfoTable:], systemArea/sectorSize)     // bi_pvd
	le.PutUint32(b[bootInfoTable+4:], u32(sector(pos)))        // bi_file
	le.PutUint32(b[bootInfoTable+8:], u32(int64(len(b))))      // bi_length
	le.PutUint32(b[bootInfoTable+12:], sum32(b[bootInfoSum:])) // bi_csum
	return b
}

// sum32 adds up the words of b, which is as if it were padded with zeros.
func sum32(b []byte) (sum uint32) {
	for b = padded(bytes.Clone(b), 4); len(b) > 0; b = b[4:] {
		sum += le.Uint32(b)
	}
	return sum
}

// checkGRUB reports what of a GRUB cannot be.
func (o *Boot) checkGRUB() error {
	g := o.GRUB
	switch {
	case o.Kernel != "" || o.Initrd != "" || o.Cmdline != "" || o.EFIStub != nil:
		return errors.New("iso: GRUB's menu names kernel, initrd and command line: Boot must not")
	case len(g.MBR) != blockSize || !bytes.HasSuffix(g.MBR, []byte{0x55, 0xAA}):
		return fmt.Errorf("iso: GRUB's boot_hybrid.img has %d bytes, or no boot signature", len(g.MBR))
	case len(g.ElTorito) < grubMinElTorito || len(g.ElTorito) > maxGRUB:
		return fmt.Errorf("iso: GRUB's El Torito image has %d bytes", len(g.ElTorito))
	case len(g.EFI) > maxGRUB:
		return fmt.Errorf("iso: GRUB's EFI image has %d bytes", len(g.EFI))
	}
	if _, err := parsePE(g.EFI); err != nil {
		return fmt.Errorf("iso: GRUB's EFI image: %w", err)
	}
	return nil
}
