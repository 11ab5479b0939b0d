package bootmenu

import (
	"encoding/binary"
	"io"
	"path"
	"slices"
	"strings"
)

const (
	maxPrograms = 1000 // that are looked into
	maxSections = 96
)

// unified finds unified kernel images: PE programs with a section .linux.
func (t *tree) unified() (list []string, err error) {
	looked := 0
	for name := range t.sizes {
		if strings.EqualFold(path.Ext(name), ".efi") {
			if looked++; looked > maxPrograms {
				break
			}
			is, err := t.isUnified(name)
			if err != nil {
				return nil, err
			}
			if is {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return list, nil
}

func (t *tree) isUnified(name string) (bool, error) {
	f, err := t.fsys.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close() // read only: nothing is lost with its error
	r, ok := f.(io.ReaderAt)
	return ok && hasLinux(r), nil
}

// hasLinux reads the names of a PE's sections. What cannot be read is none.
func hasLinux(r io.ReaderAt) bool {
	le := binary.LittleEndian
	var dos [64]byte
	if _, err := r.ReadAt(dos[:], 0); err != nil || string(dos[:2]) != "MZ" {
		return false
	}
	at := int64(le.Uint32(dos[60:])) // e_lfanew
	var coff [24]byte
	if _, err := r.ReadAt(coff[:], at); err != nil || string(coff[:4]) != "PE\x00\x00" {
		return false
	}
	at += 24 + int64(le.Uint16(coff[20:])) // SizeOfOptionalHeader
	for range min(le.Uint16(coff[6:]), maxSections) {
		var section [40]byte
		if _, err := r.ReadAt(section[:], at); err != nil {
			return false
		}
		if string(section[:8]) == ".linux\x00\x00" {
			return true
		}
		at += 40
	}
	return false
}
