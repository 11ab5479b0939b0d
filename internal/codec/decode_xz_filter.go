package codec

import "encoding/binary"

// xzUndo has the filters that the library lacks, by their number in .xz streams.
// They turn absolute addresses in a program's instructions back into ones
// relative to the instruction; start is the address of b.
var xzUndo = map[uint64]func(b []byte, start uint32){
	0x0a: undoARM64,
}

// undoARM64 changes BL, a call, and ADRP, which loads the address of a page.
func undoARM64(b []byte, start uint32) {
	const (
		blMask, bl           = 0xfc000000, 0x94000000
		adrpMask, adrp       = 0x9f000000, 0x90000000
		adrpRegister         = 0x1f
		adrpSign, adrpRange  = 0x00020000, 0x001c0000 // addresses within ±512 MiB only
		adrpPages, adrpSigns = 0x0003fffc, 0x00e00000
	)
	for i := 0; i+4 <= len(b); i += 4 {
		pc := start + uint32(i)
		v := binary.LittleEndian.Uint32(b[i:])
		switch {
		case v&blMask == bl:
			v = bl | (v-pc>>2)&^blMask
		case v&adrpMask == adrp:
			page := v>>29&3 | v>>3&0x001ffffc
			if (page+adrpSign)&adrpRange != 0 {
				continue
			}
			page -= pc >> 12
			v = adrp | v&adrpRegister | page&3<<29 | page&adrpPages<<3 | -(page&adrpSign)&adrpSigns
		default:
			continue
		}
		binary.LittleEndian.PutUint32(b[i:], v)
	}
}
