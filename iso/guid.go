package iso

import "crypto/sha256"

// guid is a GUID as GPT and UEFI store it: the first three fields little-endian (UEFI 2.10, appendix A).
type guid [16]byte

// Partition types.
var (
	typeESP       = guid{0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B}
	typeBasicData = guid{0xA2, 0xA0, 0xD0, 0xEB, 0xE5, 0xB9, 0x33, 0x44, 0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99, 0xC7}
)

// derive returns 16 bytes that depend on nothing but the seed and the purpose.
func derive(seed [32]byte, purpose string) (id [16]byte) {
	sum := sha256.Sum256(append(seed[:], "isopress "+purpose...))
	copy(id[:], sum[:])
	return id
}

// deriveGUID returns a GUID of version 8 (RFC 9562: made as its maker likes).
func deriveGUID(seed [32]byte, purpose string) guid {
	g := guid(derive(seed, purpose))
	g[7] = g[7]&0x0F | 0x80 // version, in the high byte of the third field
	g[8] = g[8]&0x3F | 0x80 // variant
	return g
}

// deriveID returns a 32-bit serial number, not 0.
func deriveID(seed [32]byte, purpose string) uint32 {
	id := derive(seed, purpose)
	return le.Uint32(id[:]) | 1
}
