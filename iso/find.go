package iso

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Bounds of what Find believes.
const (
	maxRootDirectory = 16 << 20
	maxExtents       = 4096
)

// ErrNotISO is wrapped by [Find]'s error for what is no ISO 9660 image.
var ErrNotISO = errors.New("not an ISO 9660 image")

// Find returns where a file of the root directory lies in an ISO 9660 image, which need not be trusted:
// by its Rock Ridge name, or else by its ISO 9660 name without the version. A file in several extents must lie in
// one piece, as Writer's do.
func Find(r io.ReaderAt, size int64, name string) (Extent, error) {
	e := Extent{Path: name}
	pvd := make([]byte, sectorSize)
	if size < systemArea+sectorSize {
		return e, fmt.Errorf("iso: %w: %d bytes", ErrNotISO, size)
	}
	if _, err := r.ReadAt(pvd, systemArea); err != nil {
		return e, fmt.Errorf("iso: %w", err)
	}
	if string(pvd[1:6]) != "CD001" || pvd[0] != descriptorPrimary {
		return e, fmt.Errorf("iso: %w", ErrNotISO)
	}
	root := pvd[156:190]
	pos, length := int64(le.Uint32(root[2:]))*sectorSize, int64(le.Uint32(root[10:]))
	if length > maxRootDirectory || pos+length > size {
		return e, fmt.Errorf("iso: the root directory, of %d bytes at %d, is not in the image", length, pos)
	}
	dir := make([]byte, length)
	if _, err := r.ReadAt(dir, pos); err != nil {
		return e, fmt.Errorf("iso: %w", err)
	}
	return findIn(dir, name, size)
}

// findIn looks for a file in a directory's records.
func findIn(dir []byte, name string, size int64) (Extent, error) {
	e := Extent{Path: name}
	found, more := 0, false
	for at := 0; at < len(dir); {
		n := int(dir[at])
		if n == 0 { // the rest of the sector is empty
			at = int(roundUp(int64(at+1), sectorSize))
			continue
		}
		if n < recordHead+1 || at+n > len(dir) || recordHead+int(dir[at+32]) > n {
			return e, fmt.Errorf("iso: the root directory is damaged at %d", at)
		}
		rec := dir[at : at+n]
		at += n
		if !more && (rec[25]&flagDirectory != 0 || recordName(rec) != name) {
			continue
		}
		pos, length := int64(le.Uint32(rec[2:]))*sectorSize, int64(le.Uint32(rec[10:]))
		if found == 0 {
			e.Offset = pos
		}
		if found++; pos != e.Offset+e.Size || found > maxExtents || pos+length > size {
			return e, fmt.Errorf("iso: %s: lies in pieces, or not in the image", name)
		}
		e.Size += length
		if more = rec[25]&flagMultiExtent != 0; !more {
			return e, nil
		}
	}
	return e, fmt.Errorf("iso: %s: %w in the image", name, fs.ErrNotExist)
}

// recordName is a record's Rock Ridge name, or its ISO 9660 name in lower case, without a version.
func recordName(rec []byte) string {
	ident := string(rec[recordHead:][:rec[32]])
	name := ""
	for su := rec[min(suStart(ident), len(rec)):]; len(su) >= 5; {
		n := int(su[2])
		if n < 5 || n > len(su) {
			break
		}
		if string(su[:2]) == "NM" {
			name += string(su[5:n])
		}
		su = su[n:]
	}
	if name != "" {
		return name
	}
	ident, _, _ = strings.Cut(ident, ";")
	return strings.ToLower(ident)
}
