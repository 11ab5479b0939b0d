package iso

import (
	"slices"
	"time"
)

// The EFI system partition is a FAT file system (Microsoft's FAT 1.03), FAT16 or FAT32, of which only
// the head is written: boot sector, two FATs, and the directories, of which FAT16 has the root outside
// its clusters. Its one file, EFI/BOOT/BOOTX64.EFI, is a chain of clusters over the image behind the
// head, whatever lies there; it may leave out what is not its own.

const (
	fatRootEntries = 512
	fatRootBlocks  = fatRootEntries * fatEntrySize / blockSize
	fatEntrySize   = 32

	// The number of clusters alone makes a file system FAT16, 4085-65524, or FAT32. Keep off the edges,
	// which drivers put differently.
	fatMinClusters   = 4096
	fatMaxClusters   = 65500
	fat32MinClusters = 65600

	fatMaxCluster = 32 << 10 // bytes, the most that everything reads
	maxUKI        = (fatMaxClusters - 3) * fatMaxCluster

	fatEnd       = 0xFFFFFFF // FAT16 has the low 16 bits of these
	fatBad       = 0xFFFFFF7
	fatMedia     = 0xFFFFFF8
	fatFirst     = 2 // the first cluster's number
	fat32Info    = 1 // blocks of the partition's head
	fat32Backup  = 6
	fat32Reserve = 32
)

// esp is the layout of the EFI system partition, in 512-byte blocks and clusters.
type esp struct {
	fat32         bool
	fileSize      int64
	chain         []int64 // clusters of the file, as pairs of first and count
	clusterBlocks int64
	clusters      int64
	used          int64 // clusters up to the file's end
	fatBlocks     int64
	reserved      int64
}

// clusterFits tells whether a file system of so many clusters is what it is meant to be.
func clusterFits(clusters int64, fat32 bool) bool {
	if fat32 {
		return clusters >= fat32MinClusters
	}
	return clusters <= fatMaxClusters
}

// chooseCluster returns a size of cluster, in bytes. For FAT16 it is ISO's sector, unless that makes them
// too many; for FAT32 the largest that makes enough of them, since the FAT is the smaller then.
func chooseCluster(fat32 bool, fits func(cluster int64) bool) int64 {
	if fat32 {
		cluster := int64(blockSize)
		for cluster < fatMaxCluster && fits(2*cluster) {
			cluster *= 2
		}
		return cluster
	}
	cluster := int64(sectorSize)
	for cluster < fatMaxCluster && !fits(cluster) {
		cluster *= 2
	}
	return cluster
}

// newESP lays out a partition. Its file is pieces of the image, relative to where the first begins,
// right behind the directories.
func newESP(pieces []piece, cluster int64, fat32 bool) esp {
	e := esp{fat32: fat32, clusterBlocks: cluster / blockSize, reserved: 1}
	least := int64(fatMinClusters)
	if fat32 {
		e.reserved, least = fat32Reserve, fat32MinClusters
	}
	for _, p := range pieces {
		first := e.directories() + p.pos/cluster
		count := roundUp(p.size, cluster) / cluster
		e.chain = append(e.chain, fatFirst+first, count)
		e.used = max(e.used, first+count)
		e.fileSize += p.size
	}
	// Whole sectors of the ISO, whatever the size of cluster: the directories end with one.
	e.clusters = e.directories() + roundUp(max(e.used, least)-e.directories(), sectorSize/blockSize)
	e.fatBlocks = roundUp((fatFirst+e.clusters)*e.entrySize(), blockSize) / blockSize
	for e.headSize()%sectorSize != 0 {
		e.reserved++
	}
	return e
}

// directories are the clusters ahead of the file: EFI and EFI/BOOT, a cluster each, and FAT32's root.
func (e esp) directories() int64 {
	if e.fat32 {
		return 3
	}
	return 2
}

// entrySize is that of the FAT's.
func (e esp) entrySize() int64 {
	if e.fat32 {
		return 4
	}
	return 2
}

// dataStart is the first cluster's block.
func (e esp) dataStart() int64 {
	start := e.reserved + 2*e.fatBlocks
	if !e.fat32 {
		start += fatRootBlocks
	}
	return start
}

// headSize is what is written; the file follows.
func (e esp) headSize() int64 {
	return (e.dataStart() + e.directories()*e.clusterBlocks) * blockSize
}

// size is the partition's, in bytes.
func (e esp) size() int64 { return (e.dataStart() + e.clusters*e.clusterBlocks) * blockSize }

// head encodes what is written of a partition at pos of the image.
func (e esp) head(pos int64, serial uint32, t time.Time) []byte {
	b := make([]byte, e.headSize())
	e.bootSector(b, pos, serial)
	if e.fat32 {
		encodeInfo(b[fat32Info*blockSize:])
		copy(b[fat32Backup*blockSize:], b[:(fat32Info+1)*blockSize])
	}
	fat := e.table()
	copy(b[e.reserved*blockSize:], fat)
	copy(b[(e.reserved+e.fatBlocks)*blockSize:], fat)
	e.tree(b, dosDate(t))
	return b
}

// tree encodes the directories.
func (e esp) tree(b []byte, d dosTime) {
	cluster := func(n int64) []byte { return b[(e.dataStart()+(n-fatFirst)*e.clusterBlocks)*blockSize:] }
	root, efi := b[(e.reserved+2*e.fatBlocks)*blockSize:], fatFirst+e.directories()-2
	d.entry(root, "ESP        ", attrVolume, 0, 0)
	d.entry(root[fatEntrySize:], "EFI        ", attrDirectory, efi, 0)
	dir := cluster(efi)
	d.entry(dir, ".          ", attrDirectory, efi, 0)
	d.entry(dir[fatEntrySize:], "..         ", attrDirectory, 0, 0) // 0 is the root, for FAT32 too
	d.entry(dir[2*fatEntrySize:], "BOOT       ", attrDirectory, efi+1, 0)
	dir = cluster(efi + 1)
	d.entry(dir, ".          ", attrDirectory, efi+1, 0)
	d.entry(dir[fatEntrySize:], "..         ", attrDirectory, efi, 0)
	d.entry(dir[2*fatEntrySize:], "BOOTX64 EFI", attrArchive, e.chain[0], e.fileSize)
}

// bootSector encodes the fields that all FATs have, then each kind's own.
func (e esp) bootSector(b []byte, pos int64, serial uint32) {
	blocks := e.size() / blockSize
	copy(b, "\xEB\x3C\x90ISOPRESS")             // BS_jmpBoot, BS_OEMName
	le.PutUint16(b[11:], blockSize)             // BPB_BytsPerSec
	b[13] = u8(int(e.clusterBlocks))            // BPB_SecPerClus
	le.PutUint16(b[14:], u16(e.reserved))       // BPB_RsvdSecCnt
	b[16] = 2                                   // BPB_NumFATs
	b[21] = 0xF8                                // BPB_Media
	le.PutUint16(b[24:], 63)                    // BPB_SecPerTrk
	le.PutUint16(b[26:], 255)                   // BPB_NumHeads
	le.PutUint32(b[28:], uint32(pos/blockSize)) // BPB_HiddSec; what 32 bits do not hold nobody asks for
	if blocks <= 0xFFFF {
		le.PutUint16(b[19:], u16(blocks)) // BPB_TotSec16
	} else {
		le.PutUint32(b[32:], u32(blocks)) // BPB_TotSec32
	}
	tail := b[36:]
	if e.fat32 {
		b[1] = 0x58                            // BS_jmpBoot: over the longer header
		le.PutUint32(b[36:], u32(e.fatBlocks)) // BPB_FATSz32
		le.PutUint32(b[44:], fatFirst)         // BPB_RootClus
		le.PutUint16(b[48:], fat32Info)        // BPB_FSInfo
		le.PutUint16(b[50:], fat32Backup)      // BPB_BkBootSec
		tail = b[64:]
	} else {
		le.PutUint16(b[17:], fatRootEntries)   // BPB_RootEntCnt
		le.PutUint16(b[22:], u16(e.fatBlocks)) // BPB_FATSz16
	}
	tail[0] = 0x80                         // BS_DrvNum
	tail[2] = 0x29                         // BS_BootSig: the next three are there
	le.PutUint32(tail[3:], serial)         // BS_VolID
	copy(tail[7:], "ESP        "+e.name()) // BS_VolLab, BS_FilSysType
	copy(tail[26:], "\xCD\x18\xEB\xFE")    // no boot code here: tell the BIOS to try the next disk
	b[510], b[511] = 0x55, 0xAA
}

// name is BS_FilSysType.
func (e esp) name() string {
	if e.fat32 {
		return "FAT32   "
	}
	return "FAT16   "
}

// encodeInfo encodes FAT32's FSInfo: nothing is free.
func encodeInfo(b []byte) {
	le.PutUint32(b, 0x41615252)       // FSI_LeadSig
	le.PutUint32(b[484:], 0x61417272) // FSI_StrucSig
	le.PutUint32(b[488:], 0)          // FSI_Free_Count
	le.PutUint32(b[492:], 0xFFFFFFFF) // FSI_Nxt_Free: not known
	le.PutUint32(b[508:], 0xAA550000) // FSI_TrailSig
}

// table encodes the FAT. Clusters that are not the partition's own are bad, so that no one allocates
// them.
func (e esp) table() []byte {
	entries := slices.Repeat([]uint32{fatBad}, int(fatFirst+e.clusters))
	entries[0], entries[1] = fatMedia, fatEnd // the media byte; clean
	for c := range e.directories() {
		entries[fatFirst+c] = fatEnd
	}
	var last *uint32
	for i := 0; i < len(e.chain); i += 2 {
		for c := e.chain[i]; c < e.chain[i]+e.chain[i+1]; c++ {
			if last != nil {
				*last = u32(c)
			}
			last = &entries[c]
		}
	}
	*last = fatEnd
	b := make([]byte, e.fatBlocks*blockSize)
	for i, next := range entries {
		if e.fat32 {
			le.PutUint32(b[4*i:], next)
		} else {
			le.PutUint16(b[2*i:], uint16(next))
		}
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
	copy(b, name)                          // DIR_Name
	b[11] = attr                           // DIR_Attr
	le.PutUint16(b[14:], d.time)           // DIR_CrtTime
	le.PutUint16(b[16:], d.date)           // DIR_CrtDate
	le.PutUint16(b[18:], d.date)           // DIR_LstAccDate
	le.PutUint16(b[20:], u16(cluster>>16)) // DIR_FstClusHI
	le.PutUint16(b[22:], d.time)           // DIR_WrtTime
	le.PutUint16(b[24:], d.date)           // DIR_WrtDate
	le.PutUint16(b[26:], uint16(cluster))  // DIR_FstClusLO
	le.PutUint32(b[28:], u32(size))        // DIR_FileSize
}
