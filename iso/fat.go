package iso

import (
	"fmt"
	"time"
)

// The EFI system partition is a FAT16 file system (Microsoft's FAT 1.03) of which only the head is
// written: boot sector, two FATs, root directory, the directories EFI and EFI/BOOT. Its one file,
// BOOTX64.EFI, is the sectors behind the head, whatever lies in them.

const (
	fatRootEntries = 512
	fatRootBlocks  = fatRootEntries * fatEntrySize / blockSize
	fatEntrySize   = 32

	// The number of clusters alone makes a file system FAT16: 4085-65524. Keep off the edges, which
	// drivers put differently.
	fatMinClusters = 4096
	fatMaxClusters = 65500

	fatMaxClusterBlocks = 64 // 32 KiB, the most that everything reads
	maxUKI              = (fatMaxClusters - espDirectories) * fatMaxClusterBlocks * blockSize

	fatBad = 0xFFF7
	fatEnd = 0xFFFF

	espDirectories = 2 // EFI and EFI/BOOT, a cluster each
	espFirst       = 2 // the first cluster's number
	espUKI         = espFirst + espDirectories
)

// esp is the layout of the EFI system partition, in 512-byte blocks and clusters.
type esp struct {
	ukiSize       int64
	clusterBlocks int64
	clusters      int64
	used          int64 // clusters
	fatBlocks     int64
	reserved      int64
}

// newESP lays out a partition for a unified kernel image of a size. It takes clusters of 2 KiB, ISO's
// sector, unless that makes them too few or too many for FAT16.
func newESP(ukiSize int64) (esp, error) {
	if ukiSize > maxUKI {
		return esp{}, fmt.Errorf("iso: kernel and initrd take %d bytes, the EFI system partition holds %d", ukiSize, int64(maxUKI))
	}
	e := esp{ukiSize: ukiSize, clusterBlocks: sectorSize / blockSize}
	for e.count() > fatMaxClusters {
		e.clusterBlocks *= 2
	}
	for e.count() < fatMinClusters && e.clusterBlocks > 1 {
		e.clusterBlocks /= 2
	}
	e.used = e.count()
	e.clusters = max(e.used, fatMinClusters)
	e.fatBlocks = roundUp((espFirst+e.clusters)*2, blockSize) / blockSize
	e.reserved = 1
	for e.headSize()%sectorSize != 0 {
		e.reserved++
	}
	return e, nil
}

// count is the number of clusters that the directories and the file take.
func (e esp) count() int64 {
	cluster := e.clusterBlocks * blockSize
	return espDirectories + roundUp(e.ukiSize, cluster)/cluster
}

// dataStart is the first cluster's block.
func (e esp) dataStart() int64 { return e.reserved + 2*e.fatBlocks + fatRootBlocks }

// headSize is what is written; the unified kernel image follows.
func (e esp) headSize() int64 {
	return (e.dataStart() + espDirectories*e.clusterBlocks) * blockSize
}

// size is the partition's, in bytes.
func (e esp) size() int64 { return (e.dataStart() + e.clusters*e.clusterBlocks) * blockSize }

func (e esp) head(serial uint32, t time.Time) []byte {
	b := make([]byte, e.headSize())
	e.bootSector(b, serial)
	fat := e.table()
	copy(b[e.reserved*blockSize:], fat)
	copy(b[(e.reserved+e.fatBlocks)*blockSize:], fat)

	d := dosDate(t)
	root := b[(e.reserved+2*e.fatBlocks)*blockSize:]
	d.entry(root, "ESP        ", attrVolume, 0, 0)
	d.entry(root[fatEntrySize:], "EFI        ", attrDirectory, espFirst, 0)
	efi := b[e.dataStart()*blockSize:]
	d.entry(efi, ".          ", attrDirectory, espFirst, 0)
	d.entry(efi[fatEntrySize:], "..         ", attrDirectory, 0, 0)
	d.entry(efi[2*fatEntrySize:], "BOOT       ", attrDirectory, espFirst+1, 0)
	boot := efi[e.clusterBlocks*blockSize:]
	d.entry(boot, ".          ", attrDirectory, espFirst+1, 0)
	d.entry(boot[fatEntrySize:], "..         ", attrDirectory, espFirst, 0)
	d.entry(boot[2*fatEntrySize:], "BOOTX64 EFI", attrArchive, espUKI, e.ukiSize)
	return b
}

func (e esp) bootSector(b []byte, serial uint32) {
	blocks := e.size() / blockSize
	copy(b, "\xEB\x3C\x90ISOPRESS")       // BS_jmpBoot, BS_OEMName
	le.PutUint16(b[11:], blockSize)       // BPB_BytsPerSec
	b[13] = u8(int(e.clusterBlocks))      // BPB_SecPerClus
	le.PutUint16(b[14:], u16(e.reserved)) // BPB_RsvdSecCnt
	b[16] = 2                             // BPB_NumFATs
	le.PutUint16(b[17:], fatRootEntries)  // BPB_RootEntCnt
	if blocks <= 0xFFFF {
		le.PutUint16(b[19:], u16(blocks)) // BPB_TotSec16
	} else {
		le.PutUint32(b[32:], u32(blocks)) // BPB_TotSec32
	}
	b[21] = 0xF8                           // BPB_Media
	le.PutUint16(b[22:], u16(e.fatBlocks)) // BPB_FATSz16
	le.PutUint16(b[24:], 63)               // BPB_SecPerTrk
	le.PutUint16(b[26:], 255)              // BPB_NumHeads
	b[36] = 0x80                           // BS_DrvNum
	b[38] = 0x29                           // BS_BootSig: the next three are there
	le.PutUint32(b[39:], serial)           // BS_VolID
	copy(b[43:], "ESP        FAT16   ")    // BS_VolLab, BS_FilSysType
	copy(b[62:], "\xCD\x18\xEB\xFE")       // no boot code here: tell the BIOS to try the next disk
	b[510], b[511] = 0x55, 0xAA
}

// table encodes the FAT. Clusters that are not the partition's own are bad, so that no one allocates
// them.
func (e esp) table() []byte {
	b := make([]byte, e.fatBlocks*blockSize)
	put := func(cluster, next int64) { le.PutUint16(b[2*cluster:], u16(next)) }
	put(0, 0xFFF8) // the media byte
	put(1, fatEnd) // clean
	put(espFirst, fatEnd)
	put(espFirst+1, fatEnd)
	last := espFirst + e.used - 1
	for c := int64(espUKI); c < last; c++ {
		put(c, c+1)
	}
	put(last, fatEnd)
	for c := last + 1; c < espFirst+e.clusters; c++ {
		put(c, fatBad)
	}
	return b
}

const (
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
)

// dosTime is a date and time of FAT's directory entries.
type dosTime struct{ date, time uint16 }

// dosDate returns FAT's form of t, 1980 for what lies before.
func dosDate(t time.Time) dosTime {
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return dosTime{
		date: u16(int64(t.Year()-1980)<<9 | int64(t.Month())<<5 | int64(t.Day())),
		time: u16(int64(t.Hour())<<11 | int64(t.Minute())<<5 | int64(t.Second()/2)),
	}
}

func (d dosTime) entry(b []byte, name string, attr byte, cluster, size int64) {
	copy(b, name)                      // DIR_Name
	b[11] = attr                       // DIR_Attr
	le.PutUint16(b[14:], d.time)       // DIR_CrtTime
	le.PutUint16(b[16:], d.date)       // DIR_CrtDate
	le.PutUint16(b[18:], d.date)       // DIR_LstAccDate
	le.PutUint16(b[22:], d.time)       // DIR_WrtTime
	le.PutUint16(b[24:], d.date)       // DIR_WrtDate
	le.PutUint16(b[26:], u16(cluster)) // DIR_FstClusLO
	le.PutUint32(b[28:], u32(size))    // DIR_FileSize
}
