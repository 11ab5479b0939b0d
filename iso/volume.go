package iso

import (
	"strings"
	"time"
	"unicode/utf16"
)

// ECMA-119 8.1: the volume descriptors begin behind the system area. El Torito's must be the second.
const (
	systemArea        = 16 * sectorSize
	descriptorPrimary = 1
	descriptorJoliet  = 2
	descriptorEnd     = 255
)

// volume is what the primary and Joliet's volume descriptors say.
type volume struct {
	id      string
	size    int64 // bytes
	modTime time.Time
}

// descriptor encodes a primary (ECMA-119 8.4) or Joliet's supplementary (8.5) volume descriptor.
func (v volume) descriptor(h *hierarchy) []byte {
	b := make([]byte, sectorSize)
	text := putASCII
	b[0] = descriptorPrimary
	if !h.rockRidge {
		text = putUCS2
		b[0] = descriptorJoliet
		copy(b[88:], "%/E") // escape sequences: UCS-2 level 3
	}
	copy(b[1:], "CD001\x01")          // standard identifier, version
	text(b[8:40], "LINUX")            // system identifier
	text(b[40:72], v.id)              // volume identifier
	putBoth32(b[80:], sector(v.size)) // volume space size
	putBoth16(b[120:], 1)             // volume set size
	putBoth16(b[124:], 1)             // volume sequence number
	putBoth16(b[128:], sectorSize)
	putBoth32(b[132:], h.pathTableSize)
	le.PutUint32(b[140:], u32(sector(h.lTable)))
	be.PutUint32(b[148:], u32(sector(h.mTable)))
	root := h.dirs[0]
	copy(b[156:190], record{ident: root.ident, pos: root.pos, size: root.size, flags: flagDirectory, stamp: h.stamp}.encode())
	text(b[190:318], "")         // volume set identifier
	text(b[318:446], "")         // publisher identifier
	text(b[446:574], "ISOPRESS") // data preparer identifier
	text(b[574:702], "ISOPRESS") // application identifier
	text(b[702:739], "")         // copyright file identifier
	text(b[739:776], "")         // abstract file identifier
	text(b[776:813], "")         // bibliographic file identifier
	date := v.modTime.Format("20060102150405") + "00\x00"
	never := strings.Repeat("0", 16) + "\x00"
	copy(b[813:], date)  // creation
	copy(b[830:], date)  // modification
	copy(b[847:], never) // expiration
	copy(b[864:], never) // effective
	b[881] = 1           // file structure version
	return b
}

// descriptorSetEnd encodes the volume descriptor set terminator (ECMA-119 8.3).
func descriptorSetEnd() []byte {
	b := make([]byte, sectorSize)
	b[0] = descriptorEnd
	copy(b[1:], "CD001\x01")
	return b
}

func putASCII(b []byte, s string) {
	copy(b, s+strings.Repeat(" ", len(b)))
}

// putUCS2 puts what fits: Joliet's volume identifier has 16 characters for the primary one's 32.
func putUCS2(b []byte, s string) {
	units := utf16.Encode([]rune(s))
	for i := 0; i+1 < len(b); i += 2 {
		unit := uint16(' ')
		if i/2 < len(units) {
			unit = units[i/2]
		}
		be.PutUint16(b[i:], unit)
	}
}
