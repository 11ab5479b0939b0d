package iso

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
)

const (
	mbrTable      = 446 // behind the signature
	mbrEntrySize  = 16
	maxGPTEntries = 1 << 20 // bytes
	maxAPM        = 62
	maxHFS        = 4 // catalogs that are looked at
	apmCount      = 4 // of the map's entries

	// How far into the image a second volume may begin, xorriso's -partition_offset: 16 sectors in practice.
	maxVolumeOffset = 1 << 20
)

// diskLayout is what the system area says about the image as a disk.
type diskLayout struct {
	raw    []byte
	code   bootCode
	loader *bootImage // that the code names
	parts  []*diskPartition
	gpt    *gptRead
	apm    int64 // its block size, or 0
}

// diskPartition is an entry of one of the tables, in bytes.
type diskPartition struct {
	table      string // MBR, GPT or APM
	number     int
	at         int64 // of the entry in its table
	start, end int64
	protective bool // the MBR's entry for the GPT
	fs         bool // it holds a file system of its own, so that its bytes must stay together
}

func (p *diskPartition) String() string { return fmt.Sprintf("%s partition %d", p.table, p.number) }

// gptRead is a GUID partition table as it was read.
type gptRead struct {
	header    []byte
	entries   []byte
	pos       int64 // of the entries
	entrySize int64

	// The backup, where it is sound.
	backup    []byte
	backupPos int64
	tablePos  int64
}

// readSystemArea reads the partition tables.
func (im *Image) readSystemArea() error {
	if im.size < systemArea+sectorSize {
		return fmt.Errorf("%w: %d bytes", ErrNotISO, im.size)
	}
	raw, err := im.bytesAt("system area", 0, systemArea)
	if err != nil {
		return err
	}
	im.system.raw = raw
	im.checkOtherMachines()
	im.readMBR()
	if err := im.readGPT(); err != nil {
		return err
	}
	im.readAPM()
	if string(raw[1024:1026]) == "BD" && im.system.apm == 0 {
		im.refuse("it is an HFS volume, too, whose catalog says where its files lie")
	}
	return im.lookIntoPartitions()
}

// checkOtherMachines refuses disk labels that hold block numbers of other kinds.
func (im *Image) checkOtherMachines() {
	raw := im.system.raw
	for _, m := range []struct {
		name  string
		at    int
		magic string
	}{
		{"SPARC", 508, "\xDA\xBE"}, {"MIPS", 0, "\x0B\xE5\xA9\x41"}, {"MIPS (DECstation)", 8, "\x7A\x75\x02\x00"},
		{"HP-PA", 0, "PALO"}, {"HP-PA", 0, "\x80\x00"}, {"Alpha", 0, "Linux/Alpha"},
	} {
		if bytes.HasPrefix(raw[m.at:], []byte(m.magic)) {
			im.refuse("it boots on %s", m.name)
		}
	}
}

func (im *Image) readMBR() {
	s := &im.system
	if s.raw[510] != 0x55 || s.raw[511] != 0xAA {
		return
	}
	for i := range 4 {
		at := int64(mbrTable + i*mbrEntrySize)
		start, blocks := int64(le.Uint32(s.raw[at+8:])), int64(le.Uint32(s.raw[at+12:]))
		if blocks == 0 {
			continue
		}
		kind := s.raw[at+4]
		if kind == 0x05 || kind == 0x0F || kind == 0x85 {
			im.refuse("MBR partition %d is an extended one", i+1)
		}
		if end := (start + blocks) * blockSize; end > im.size+maxUnit && kind != 0xEE {
			im.refuse("MBR partition %d ends at %d, beyond its %d bytes", i+1, end, im.size)
		}
		s.parts = append(s.parts, &diskPartition{table: "MBR", number: i + 1, at: at, start: start * blockSize, end: (start + blocks) * blockSize, protective: kind == 0xEE})
	}
}

// gptHeaderAt reads a header of the GUID partition table, or nil where there is none.
func (im *Image) gptHeaderAt(pos int64) ([]byte, error) {
	if pos < 0 || pos+blockSize > im.size {
		return nil, nil
	}
	b, err := im.bytesAt("GPT", pos, blockSize)
	if err != nil {
		return nil, err
	}
	n := int64(le.Uint32(b[12:]))
	if string(b[:8]) != "EFI PART" || n < gptHeader || n > blockSize {
		return nil, nil
	}
	sum := le.Uint32(b[16:])
	if sealGPT(b); le.Uint32(b[16:]) != sum || le.Uint64(b[24:]) != uint64(pos/blockSize) {
		return nil, nil
	}
	return b, nil
}

// sealGPT sets a header's checksum.
func sealGPT(b []byte) {
	le.PutUint32(b[16:], 0)
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:le.Uint32(b[12:])]))
}

func (im *Image) readGPT() error {
	header, err := im.gptHeaderAt(blockSize)
	if err != nil {
		return err
	}
	if header == nil {
		if bytes.HasPrefix(im.system.raw[blockSize:], []byte("EFI PART")) {
			im.refuse("its GPT has a wrong checksum")
		}
		return nil
	}
	g := &gptRead{header: header, entrySize: int64(le.Uint32(header[84:]))}
	count := int64(le.Uint32(header[80:]))
	first := le.Uint64(header[72:])
	if g.entrySize < gptEntrySize || g.entrySize > 4096 || count > maxGPTEntries/g.entrySize || first > uint64(im.size/blockSize) {
		return damaged("the GPT's table of %d entries at block %d", count, first)
	}
	g.pos = int64(first) * blockSize
	if g.pos < 2*blockSize || g.pos+count*g.entrySize > systemArea {
		im.refuse("its GPT's entries lie at %d, not in the system area", g.pos)
	}
	if g.entries, err = im.bytesAt("GPT", g.pos, count*g.entrySize); err != nil {
		return err
	}
	if crc32.ChecksumIEEE(g.entries) != le.Uint32(header[88:]) {
		im.refuse("its GPT's entries have a wrong checksum")
	}
	im.system.gpt = g
	if err := im.readGPTEntries(g); err != nil {
		return err
	}
	return im.readBackupGPT(g)
}

func (im *Image) readGPTEntries(g *gptRead) error {
	for at := int64(0); at < int64(len(g.entries)); at += g.entrySize {
		e := g.entries[at:]
		if guid(e[:16]) == (guid{}) {
			continue
		}
		number := int(at/g.entrySize) + 1
		start, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if start > maxImage/blockSize || last > maxImage/blockSize {
			return damaged("GPT partition %d: blocks %d to %d", number, start, last)
		}
		p := &diskPartition{table: "GPT", number: number, at: at, start: int64(start) * blockSize, end: int64(last+1) * blockSize}
		if p.start > p.end {
			return damaged("GPT partition %d: blocks %d to %d", number, start, last)
		}
		im.system.parts = append(im.system.parts, p)
	}
	return nil
}

func (im *Image) readBackupGPT(g *gptRead) (err error) {
	at := le.Uint64(g.header[32:])
	if at > uint64(im.size/blockSize) {
		return nil
	}
	g.backupPos = int64(at) * blockSize
	if g.backup, err = im.gptHeaderAt(g.backupPos); err != nil || g.backup == nil {
		return err
	}
	table := le.Uint64(g.backup[72:])
	if table > uint64(im.size/blockSize) || int64(table)*blockSize+int64(len(g.entries)) > im.size || !bytes.Equal(g.backup[80:92], g.header[80:92]) {
		g.backup = nil
		return nil
	}
	g.tablePos = int64(table) * blockSize
	return nil
}

// readAPM reads an Apple partition map. Its entries are as far apart as its blocks.
func (im *Image) readAPM() {
	s := &im.system
	for _, block := range []int64{blockSize, sectorSize} {
		if string(s.raw[block:][:2]) != "PM" {
			continue
		}
		s.apm = block
		count := int64(be.Uint32(s.raw[block+apmCount:]))
		for i := int64(1); i <= min(count, maxAPM) && (i+1)*block <= systemArea; i++ {
			e := s.raw[i*block:]
			if string(e[:2]) != "PM" {
				break
			}
			start := int64(be.Uint32(e[8:])) * block
			s.parts = append(s.parts, &diskPartition{table: "APM", number: int(i), at: i * block, start: start, end: start + int64(be.Uint32(e[12:]))*block})
		}
		return
	}
}

// lookIntoPartitions finds those with a file system of their own.
func (im *Image) lookIntoPartitions() error {
	tried := make(map[piece]bool)
	for _, p := range im.system.parts {
		const n = 1026
		if p.start == 0 || p.start+n > im.size || p.end-p.start < n {
			continue
		}
		b, err := im.bytesAt(p.String(), p.start, n)
		if err != nil {
			return err
		}
		fat := b[510] == 0x55 && b[511] == 0xAA && (b[0] == 0xEB || b[0] == 0xE9)
		hfs := string(b[1024:]) == "H+" || string(b[1024:]) == "HX" || string(b[1024:]) == "BD"
		p.fs = fat || hfs
		if at := (piece{p.start, p.end - p.start}); hfs && im.hfs == nil && !tried[at] && len(tried) < maxHFS {
			tried[at] = true
			if im.hfs, err = im.readHFS(p); err != nil {
				return err
			}
		}
		if im.hfs != nil && im.hfs.start == p.start && im.hfs.end == p.end {
			p.fs = false // it is made of the image's files
		}
	}
	return nil
}

// offsets are where further volumes begin, xorriso's -partition_offset: a partition shows the same files.
func (im *Image) offsets() ([]int64, error) {
	var list []int64
	for _, p := range im.system.parts {
		if p.start == 0 || p.start > maxVolumeOffset || p.start%sectorSize != 0 || p.start+systemArea+sectorSize > im.size || slices.Contains(list, p.start) {
			continue
		}
		b, err := im.bytesAt(p.String(), p.start+systemArea, 8)
		if err != nil {
			return nil, err
		}
		if string(b[:6]) == "\x01CD001" {
			list = append(list, p.start)
		}
	}
	return list, nil
}

// startsAt tells whether a partition begins there.
func (s *diskLayout) startsAt(pos int64) bool {
	return slices.ContainsFunc(s.parts, func(p *diskPartition) bool { return p.start == pos })
}
