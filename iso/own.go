package iso

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// What a Writer made is made anew rather than rewritten, since its files lie within one another. What else it was
// given than files is read here.

// OwnStub returns, of an image that a Writer made with its own stubs or with [Boot.EFIStub], the command line, and the
// stub without the sections that were added to it and without what the Writer leaves out: Boot.EFIStub that gives
// the same image. The error wraps ErrDamaged where the image holds none.
func (im *Image) OwnStub() (stub []byte, cmdline string, err error) {
	b, err := im.head(bootEFI, maxStub)
	if err == nil {
		stub, cmdline, err = splitUKI(b)
	}
	if err != nil {
		return nil, "", fmt.Errorf("iso: /%s: %w", bootEFI, err)
	}
	return stub, cmdline, nil
}

// splitUKI takes the head of a unified kernel image apart, as newUKI has put it together. The stub is what is left of b.
func splitUKI(b []byte) (stub []byte, cmdline string, err error) {
	p, err := parsePE(b)
	if err != nil {
		return nil, "", damaged("%w", err)
	}
	for _, name := range []string{".linux", ".initrd", ".cmdline"} {
		at := p.table + (p.sections-1)*peSectionSize
		if p.sections == 0 || string(bytes.TrimRight(p.image[at:at+8], "\x00")) != name {
			if name == ".linux" {
				return nil, "", damaged("no unified kernel image: its last section is not .linux")
			}
			continue
		}
		if name == ".cmdline" {
			pos, size := int64(le.Uint32(p.image[at+20:])), int64(le.Uint32(p.image[at+8:]))
			if size > maxCmdline || pos+size > int64(len(p.image)) {
				return nil, "", damaged("a command line of %d bytes at %d", size, pos)
			}
			cmdline = string(p.image[pos : pos+size])
		}
		clear(p.image[at : at+peSectionSize])
		p.sections--
	}
	le.PutUint16(p.image[p.coff+2:], u16(p.sections)) // NumberOfSections
	end, _ := p.ends()
	if end > int64(len(p.image)) {
		return nil, "", damaged("the stub has %d bytes, at most %d are expected", end, len(p.image))
	}
	return p.image[:end], cmdline, nil
}

// OwnGRUB returns, of an image that a Writer made with [Boot.GRUB], GRUB's images. Where these are told of their places
// they are again as GRUB's sources have them: boot/i386/pc/boot.S the first block of what it loads as 1, and nothing
// of partitions; diskboot.S its own as 2; cdboot.S no boot information table.
func (im *Image) OwnGRUB() (*GRUB, error) {
	mbr, err := im.bytesAt("master boot record", 0, blockSize)
	if err != nil {
		return nil, fmt.Errorf("iso: %w", err)
	}
	clear(mbr[mbrSignature : blockSize-2])
	le.PutUint64(mbr[grubMBRLoader:], 1)
	g := &GRUB{MBR: mbr}
	if g.ElTorito, err = im.head(biosLoader, maxGRUB); err != nil {
		return nil, fmt.Errorf("iso: /%s: %w", biosLoader, err)
	}
	if len(g.ElTorito) < grubMinElTorito {
		return nil, fmt.Errorf("iso: /%s: %w", biosLoader, damaged("%d bytes, which no El Torito image of GRUB's has", len(g.ElTorito)))
	}
	clear(g.ElTorito[bootInfoTable:bootInfoSum])
	le.PutUint64(g.ElTorito[grubBootInfo:], 2)
	if g.EFI, err = im.head(bootEFI, maxGRUB); err != nil {
		return nil, fmt.Errorf("iso: /%s: %w", bootEFI, err)
	}
	return g, nil
}

// head reads the first n bytes of a file, or all of a smaller one.
func (im *Image) head(name string, n int64) ([]byte, error) {
	node, err := im.lookup("open", name, false)
	if err != nil {
		return nil, err
	}
	if node.file == nil || !node.mode.IsRegular() {
		return nil, damaged("not a file, or an empty one")
	}
	b := make([]byte, min(node.file.size, n))
	_, err = io.ReadFull(im.content(node.file), b)
	return b, err
}

// OwnLoaders are the paths that a Writer gives what boots an image, beside its Options' Files.
func OwnLoaders() []string { return []string{bootEFI, biosLoader} }

// CheckOwn says what of the volume descriptors is not as a Writer leaves it: its error wraps ErrUnsupported, or for an image
// that is cut off ErrDamaged. The tree is the caller's to check.
func (im *Image) CheckOwn(joliet bool) error {
	primary := im.descriptors[0].raw
	size := int64(le.Uint32(primary[80:])) * sectorSize
	trees := 1
	if joliet {
		trees = 2
	}
	other := ""
	switch {
	case size > im.size:
		return fmt.Errorf("iso: %w", damaged("%d bytes of the volume's %d", im.size, size))
	case size < im.size:
		other = fmt.Sprintf("%d bytes behind the volume's end", im.size-size)
	case trimmed(primary[446:574]) != "ISOPRESS" || !im.view.rockRidge:
		other = "another program has written its volume descriptor"
	case len(im.descriptors) != trees || im.descriptors[trees-1].joliet != joliet:
		other = "a volume descriptor more or less"
	}
	if other != "" {
		return fmt.Errorf("iso: image %w: it was changed after it was made: %s", ErrUnsupported, other)
	}
	return nil
}

// RenewMediaSum gives an image of size bytes that was made anew the checksum that isomd5sum had implanted into the old one,
// if it had.
func (im *Image) RenewMediaSum(ctx context.Context, dst Output, size int64) (bool, error) {
	w := newRewriter(ctx, im, dst)
	w.changes, w.m.newSize = true, size
	if err := w.renewMediaSum(); err != nil {
		return false, fmt.Errorf("iso: %w", err)
	}
	return w.result.MediaSum, nil
}
