package iso

import (
	"hash/crc32"
	"unicode/utf16"
)

// UEFI 2.10, 5.2 and 5.3: the protective master boot record and the GUID partition table. A block is
// 512 bytes.
const (
	gptEntries    = 128
	gptEntrySize  = 128
	gptTable      = gptEntries * gptEntrySize
	gptSize       = gptTable + blockSize // entries and header
	gptHeader     = 92
	gptFirstBlock = 2 + gptTable/blockSize // the first behind the primary table

	mbrSignature = 440 // behind the boot code

	// Nobody is to write to a partition, show it, or mount it unasked: bits 60, 62 and 63 as Windows
	// has them for basic data (PARTITION_INFORMATION_GPT) and systemd's discoverable partitions too.
	gptAttributes = 1<<60 | 1<<62 | 1<<63
)

// partition is an entry of the table, in bytes.
type partition struct {
	kind       guid
	id         guid
	name       string
	start, end int64
}

// encodeGPT encodes the primary table, from block 1 on, and the backup, which ends the disk.
func encodeGPT(disk guid, size int64, parts []partition) (primary, backup []byte) {
	entries := make([]byte, gptTable)
	for i, p := range parts {
		p.encode(entries[i*gptEntrySize:])
	}
	last := size/blockSize - 1
	tail := last - gptTable/blockSize // the backup's entries
	primary = append(gptHeaderBlock(disk, 1, last, 2, tail-1, entries), entries...)
	backup = append(append([]byte{}, entries...), gptHeaderBlock(disk, last, 1, tail, tail-1, entries)...)
	return primary, backup
}

func gptHeaderBlock(disk guid, own, other, table, lastUsable int64, entries []byte) []byte {
	b := make([]byte, blockSize)
	copy(b, "EFI PART")                      // Signature
	le.PutUint32(b[8:], 0x00010000)          // Revision
	le.PutUint32(b[12:], gptHeader)          // HeaderSize
	le.PutUint64(b[24:], uint64(own))        // MyLBA
	le.PutUint64(b[32:], uint64(other))      // AlternateLBA
	le.PutUint64(b[40:], gptFirstBlock)      // FirstUsableLBA
	le.PutUint64(b[48:], uint64(lastUsable)) // LastUsableLBA
	copy(b[56:], disk[:])                    // DiskGUID
	le.PutUint64(b[72:], uint64(table))      // PartitionEntryLBA
	le.PutUint32(b[80:], gptEntries)         // NumberOfPartitionEntries
	le.PutUint32(b[84:], gptEntrySize)       // SizeOfPartitionEntry
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeader]))
	return b
}

func (p partition) encode(b []byte) {
	copy(b, p.kind[:])                                  // PartitionTypeGUID
	copy(b[16:], p.id[:])                               // UniquePartitionGUID
	le.PutUint64(b[32:], uint64(p.start/blockSize))     // StartingLBA
	le.PutUint64(b[40:], uint64(p.end/blockSize-1))     // EndingLBA
	le.PutUint64(b[48:], gptAttributes)                 // Attributes
	for i, unit := range utf16.Encode([]rune(p.name)) { // PartitionName
		le.PutUint16(b[56+2*i:], unit)
	}
}

// encodeMBR encodes the master boot record: the boot code, the protective entry, and an active entry that
// covers nothing, since some BIOSes boot no disk without one, and some no disk whose 0xEE entry it is.
func encodeMBR(code []byte, signature uint32, size int64) []byte {
	b := make([]byte, blockSize)
	copy(b[:mbrSignature], code)
	le.PutUint32(b[mbrSignature:], signature)                             // UniqueMBRDiskSignature
	copy(b[446:], []byte{0, 0x00, 0x02, 0x00, 0xEE, 0xFF, 0xFF, 0xFF})    // BootIndicator, StartingCHS, OSType, EndingCHS
	le.PutUint32(b[454:], 1)                                              // StartingLBA
	le.PutUint32(b[458:], u32(min(size/blockSize-1, 0xFFFFFFFF)))         // SizeInLBA
	copy(b[462:], []byte{0x80, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00}) // the same of the active one
	le.PutUint32(b[474:], 1)                                              // SizeInLBA
	b[510], b[511] = 0x55, 0xAA
	return b
}
