package codec

import "encoding/binary"

// xzUndo has the filters that the library lacks, by their number in .xz streams.
// They turn absolute addresses in a program's instructions back into ones
// relative to the instruction; start is the address of b.
var xzUndo = map[uint64]func(b []byte, start uint32){
	0x0a: undoARM64,
	0x0b: undoRISCV,
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

// Registers of RISC-V, and masks of its instructions.
const (
	riscvJAL         = 0xef // with the lowest bit of rd, which is x1 or x5
	riscvJALRegister = 0x0d // of the second byte: 0 if rd is x1 or x5
	riscvAUIPC       = 0x17
	riscvOpcode      = 0x7f
	riscvSP          = 2 // rd of a pair that the filter has changed
)

// undoRISCV changes JAL, a call, and pairs of AUIPC with an instruction that
// takes the register it sets: calls, loads, stores and address calculations.
// The filter marks its pairs by an AUIPC to x2, and disguises what looked like
// such marks before.
func undoRISCV(b []byte, start uint32) {
	le := binary.LittleEndian
	for i := 0; i+8 <= len(b); {
		switch first := b[i]; {
		case first == riscvJAL:
			if b[i+1]&riscvJALRegister != 0 {
				i += 2
				continue
			}
			undoJAL(b[i:], start+uint32(i))
			i += 4
		case first&riscvOpcode == riscvAUIPC:
			auipc, next := le.Uint32(b[i:]), le.Uint32(b[i+4:])
			rd, rs := auipc>>7&31, auipc>>27
			switch {
			case rd != 0 && rd != riscvSP: // a disguise, if next takes rd and is no short instruction
				if next>>15&31 != rd || next&3 != 3 {
					i += 6
					continue
				}
				auipc, next = riscvAUIPC|riscvSP<<7|next<<12, auipc&0xfffff000+next>>20
			case rd != riscvSP || auipc>>12&3 != 3 || rs == 0 || rs == riscvSP:
				i += 4
				continue
			default: // the register moved up, the next one's low bits in between
				address := binary.BigEndian.Uint32(b[i+4:]) - start - uint32(i)
				auipc, next = riscvAUIPC|rs<<7|(address+0x800)&0xfffff000, auipc>>12|address<<20
			}
			le.PutUint32(b[i:], auipc)
			le.PutUint32(b[i+4:], next)
			i += 8
		default:
			i += 2
		}
	}
}

// undoJAL changes the JAL at the start of b, which is at pc. The filter has put
// bits 20 to 1 of the address in order, highest first, into the upper half of
// the second byte and the next two.
func undoJAL(b []byte, pc uint32) {
	b1, b2, b3 := uint32(b[1]), uint32(b[2]), uint32(b[3])
	address := b1&0xf0<<13 | b2<<9 | b3<<1
	address -= pc
	b[1] = byte(b1&0x0f | address>>8&0xf0)                            // bits 15 to 12
	b[2] = byte(address>>16&0x0f | address>>7&0x10 | address<<4&0xe0) // 3 to 1, 11, 19 to 16
	b[3] = byte(address>>4&0x7f | address>>13&0x80)                   // 20, 10 to 4
}
