package iso

import (
	"bytes"
	"fmt"
)

const (
	espAlign = 4096 // of the file in it: pages of flash, sectors of large disks
	bootEFI  = "EFI/BOOT/BOOTX64.EFI"

	// The BIOS loader has a name only so that programs that read El Torito know its size.
	biosLoader = "boot/bios.bin"
)

// bootArea is where the parts of a bootable image lie.
type bootArea struct {
	catalog int64
	bios    int64 // the BIOS loader: stage 2, or GRUB's El Torito image
	pos     int64 // of the EFI system partition
	esp     esp
	efi     *content // its one file, as the ISO has it
	loader  *content // the BIOS loader, as the ISO has it

	uki    uki      // of our own stubs
	kernel *content // of our own stubs
	initrd *content // may be nil
	holder *content // the file that kernel, initrd or both lie within; may be nil

	grub *GRUB // in place of the stubs
}

// newBootArea finds the files that boot, and lays the EFI system partition out over them.
func (w *Writer) newBootArea(o *Boot) (*bootArea, error) {
	b := &bootArea{grub: o.GRUB, efi: &content{File: File{Path: bootEFI}, placed: true}}
	b.loader = &content{File: File{Path: biosLoader}, placed: true, size: b.biosSize()}
	if b.grub != nil {
		if err := o.checkGRUB(); err != nil {
			return nil, err
		}
		return b, b.lay(o)
	}
	if err := checkCmdline(o.Cmdline); err != nil {
		return nil, err
	}
	if err := w.findBootFiles(b, o); err != nil {
		return nil, err
	}
	var err error
	if b.uki, err = newUKI(o); err != nil {
		return nil, err
	}
	return b, b.lay(o)
}

func (w *Writer) findBootFiles(b *bootArea, o *Boot) (err error) {
	if b.kernel, err = w.bootFile("kernel", o.Kernel); err != nil {
		return err
	}
	if o.Initrd != "" {
		if b.initrd, err = w.bootFile("initrd", o.Initrd); err != nil {
			return err
		}
	}
	if b.kernel == b.initrd {
		return fmt.Errorf("iso: %s: is kernel and initrd", o.Kernel)
	}
	size := int64(0)
	for _, c := range b.files() {
		if size += c.size; size > maxUKI {
			return fmt.Errorf("iso: kernel and initrd: %d bytes, the EFI system partition holds %d", size, int64(maxUKI))
		}
		if c.holder == nil {
			c.placed = true
			continue
		}
		if b.holder != nil && b.holder != c.holder {
			return fmt.Errorf("iso: kernel and initrd lie within two files: %s and %s", b.kernel.Within, b.initrd.Within)
		}
		b.holder = c.holder
	}
	return nil
}

func (w *Writer) bootFile(what, path string) (*content, error) {
	c := w.byPath[path]
	switch {
	case c == nil:
		return nil, fmt.Errorf("iso: %s %q: is none of the image's files", what, path)
	case c.Grow:
		return nil, fmt.Errorf("iso: %s %s: its size must be known", what, path)
	case c.size == 0:
		return nil, fmt.Errorf("iso: %s %s: is empty", what, path)
	case c.size > maxUKI:
		return nil, fmt.Errorf("iso: %s %s: %d bytes, the EFI system partition holds %d", what, path, c.size, int64(maxUKI))
	}
	return c, nil
}

// files are initrd and kernel, in the order of the unified kernel image.
func (b *bootArea) files() []*content {
	var files []*content
	for _, c := range []*content{b.initrd, b.kernel} {
		if c != nil {
			files = append(files, c)
		}
	}
	return files
}

// ClusterSize returns the unit in which an image's EFI system partition maps a kernel and an initrd of
// size bytes together: where they lie within another file, it is at multiples of it.
func ClusterSize(size int64, fat32 bool) int64 {
	const stubAndGaps = 4 << 20
	fits := func(cluster int64) bool { return clusterFits((size+stubAndGaps)/cluster, fat32) }
	return max(chooseCluster(fat32, fits), sectorSize)
}

// lay lays out the EFI system partition, relative to where its file begins.
func (b *bootArea) lay(o *Boot) error {
	cluster := chooseCluster(o.FAT32, func(cluster int64) bool {
		pieces, err := b.arrange(cluster)
		if err != nil {
			return !o.FAT32 // which may do with the smaller one; FAT16 needs this one
		}
		return clusterFits(newESP(pieces, cluster, o.FAT32).used, o.FAT32)
	})
	pieces, err := b.arrange(cluster)
	if err != nil {
		return err
	}
	b.esp = newESP(pieces, cluster, o.FAT32)
	if b.esp.used*cluster > fatMaxClusters*fatMaxCluster {
		return fmt.Errorf("iso: kernel and initrd reach over %d bytes, the EFI system partition holds %d", b.esp.used*cluster, int64(maxUKI))
	}
	b.efi.pieces, b.efi.size = pieces, b.esp.fileSize
	return nil
}

// arrange places the pieces of the EFI system partition's file, relative to where it begins: first its
// own, then files of the image.
func (b *bootArea) arrange(cluster int64) ([]piece, error) {
	if b.grub != nil {
		return []piece{{0, int64(len(b.grub.EFI))}}, nil
	}
	unit := max(cluster, sectorSize)
	pos := int64(len(b.uki.head))
	pieces := []piece{{0, roundUp(pos, unit)}}
	for _, c := range b.files() {
		if c.holder == nil {
			c.pos = roundUp(pos, max(c.Align, unit))
			pos = c.pos + c.size
		}
	}
	if b.holder != nil {
		b.holder.pos = roundUp(pos, max(b.holder.Align, unit))
	}
	for _, c := range b.files() {
		if c.holder != nil {
			c.pos = c.holder.pos + c.Offset
		}
		if c.pos%unit != 0 {
			return nil, fmt.Errorf("iso: %s: lies at %d of %s, no multiple of the EFI system partition's clusters of %d bytes", c.Path, c.Offset, c.Within, unit)
		}
		pieces = append(pieces, piece{c.pos, roundUp(c.size, unit)})
	}
	if b.initrd != nil && b.initrd.pos < b.kernel.pos+b.kernel.size && b.kernel.pos < b.initrd.pos+b.initrd.size {
		return nil, fmt.Errorf("iso: %s and %s have bytes in common", b.kernel.Path, b.initrd.Path)
	}
	b.uki.finish(b.initrd, b.kernel, unit)
	return pieces, nil
}

// place puts the BIOS loader at pos and the EFI system partition behind it, so that the file in it is
// aligned as the most demanding of its parts. It returns where the files behind it may lie: the
// partition's further clusters are none that anyone may write to.
func (b *bootArea) place(pos int64) int64 {
	b.bios, b.loader.pos = pos, pos
	align := max(espAlign, b.esp.clusterBlocks*blockSize)
	files := b.files()
	if b.holder != nil {
		files = append(files, b.holder)
	}
	for _, c := range files {
		align = max(align, c.Align)
	}
	start := roundUp(pos+roundUp(b.biosSize(), sectorSize)+b.esp.headSize(), align)
	b.pos = start - b.esp.headSize()
	b.efi.pos = start
	for i := range b.efi.pieces {
		b.efi.pieces[i].pos += start
	}
	b.efi.pieces = merged(b.efi.pieces)
	end := start + b.efi.pieces[0].size
	for _, c := range files {
		c.pos += start
		c.placed = true
		if c.holder == nil && c != b.holder {
			end = max(end, c.pos+c.size)
		}
	}
	return end
}

// end is the first byte behind the EFI system partition.
func (b *bootArea) end() int64 { return b.pos + b.esp.size() }

func (b *bootArea) biosSize() int64 {
	if b.grub != nil {
		return int64(len(b.grub.ElTorito))
	}
	return stage2Size
}

// chunks encodes what makes the volume boot.
func (b *bootArea) chunks(seed [32]byte, v volume) []chunk {
	primary, backup := encodeGPT(deriveGUID(seed, "disk"), v.size, b.partitions(seed, v))
	mbr, bios, efi := b.loaders()
	return []chunk{
		data(0, encodeMBR(mbr, deriveID(seed, "disk signature"), v.size)),
		data(blockSize, primary),
		data(b.catalog, bootCatalog(b.bios, b.pos, b.esp.size())),
		data(b.bios, bios),
		data(b.pos, b.esp.head(b.pos, deriveID(seed, "FAT serial number"), v.modTime)),
		data(b.efi.pos, efi),
		data(v.size-gptSize, backup),
	}
}

// loaders are what the firmware starts: from a disk's first sector, from a CD, and as a UEFI.
func (b *bootArea) loaders() (mbr, bios, efi []byte) {
	if b.grub != nil {
		return b.grub.mbr(b.bios), b.grub.elTorito(b.bios), b.grub.EFI
	}
	mbr = bytes.Clone(mbrCode)
	le.PutUint64(mbr[mbrStage2:], uint64(b.bios/blockSize))
	return mbr, stage2(b.kernel, b.initrd, b.efi.pos+b.uki.cmdline), b.uki.head
}

// partitions are the EFI system partition and what lies around it, so that no space looks free.
func (b *bootArea) partitions(seed [32]byte, v volume) []partition {
	var parts []partition
	for _, p := range []partition{
		{kind: typeBasicData, name: "ISO head", start: systemArea, end: b.pos},
		{kind: typeESP, name: "EFI system partition", start: b.pos, end: b.end()},
		{kind: typeBasicData, name: "ISO data", start: b.end(), end: v.size - gptSize},
	} {
		if p.start < p.end {
			p.id = deriveGUID(seed, "partition "+p.name)
			parts = append(parts, p)
		}
	}
	return parts
}
