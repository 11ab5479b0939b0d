package iso

import "time"

// Rock Ridge 1.10: POSIX modes and names in the records' system use areas. 1.12 would add only the
// inode number, which readers derive from the record's place.

const (
	modeDirectory = 0040555
	modeFile      = 0100444
	rockRidgeID   = "RRIP_1991A"
)

const nmContinues = 0x01 // NM flag: the name goes on in the next NM

// susp builds the system use entries (SUSP) of one directory's records.
type susp struct {
	h    *hierarchy
	dir  *directory
	more sectors // the continuation areas
}

func newSUSP(h *hierarchy, d *directory) *susp { return &susp{h: h, dir: d} }

// self returns the entries of the record ".". The root's starts the protocol.
func (s *susp) self() []byte {
	if !s.h.rockRidge {
		return nil
	}
	if s.dir.number != 1 {
		return s.posix(modeDirectory, s.dir.links())
	}
	b := []byte{'S', 'P', 7, 1, 0xBE, 0xEF, 0} // check bytes, bytes skipped
	b = append(b, s.posix(modeDirectory, s.dir.links())...)
	// Lengths of the identifier, the description and the source, version of the extension
	b = append(b, 'E', 'R', u8(8+len(rockRidgeID)), 1, u8(len(rockRidgeID)), 0, 0, 1)
	return append(b, rockRidgeID...)
}

// parent returns the entries of the record "..".
func (s *susp) parent() []byte {
	if !s.h.rockRidge {
		return nil
	}
	return s.posix(modeDirectory, s.dir.parent.links())
}

// entry returns a file's or subdirectory's entries. A name that does not fit the record goes to the
// continuation area.
func (s *susp) entry(e entry) []byte {
	if !s.h.rockRidge {
		return nil
	}
	b := s.posix(modeFile, 1)
	if e.dir != nil {
		b = s.posix(modeDirectory, e.dir.links())
	}
	name := alternateName(e.node.name)
	if suStart(e.ident)+len(b)+len(name) <= maxRecord {
		return append(b, name...)
	}
	at := int64(s.more.add(name))
	ce := make([]byte, 28)
	copy(ce, "CE")
	ce[2] = 28 // length
	ce[3] = 1  // version
	putBoth32(ce[4:], sector(s.dir.more)+at/sectorSize)
	putBoth32(ce[12:], at%sectorSize)
	putBoth32(ce[20:], int64(len(name)))
	return append(b, ce...)
}

// links is a directory's POSIX link count: its name, its dot, its subdirectories' dots.
func (d *directory) links() int64 { return 2 + d.subdirs }

// posix encodes PX and TF: read-only, root's.
func (s *susp) posix(mode, links int64) []byte {
	b := make([]byte, 36)
	copy(b, "PX")
	b[2] = 36 // length
	b[3] = 1  // version
	putBoth32(b[4:], mode)
	putBoth32(b[12:], links)
	putBoth32(b[20:], 0)                           // user
	putBoth32(b[28:], 0)                           // group
	b = append(b, 'T', 'F', 26, 1, 1<<1|1<<2|1<<3) // modified, accessed, attributes changed
	for range 3 {
		b = append(b, s.h.stamp[:]...)
	}
	return b
}

// alternateName encodes NM, in pieces where one entry's byte of length is too short.
func alternateName(name string) []byte {
	const most = 250
	var b []byte
	for len(name) > most {
		b = append(b, 'N', 'M', 5+most, 1, nmContinues)
		b = append(b, name[:most]...)
		name = name[most:]
	}
	b = append(b, 'N', 'M', u8(5+len(name)), 1, 0)
	return append(b, name...)
}

// recordDate encodes the date of directory records (ECMA-119 9.1.5) and Rock Ridge's TF, UTC.
func recordDate(t time.Time) [7]byte {
	return [7]byte{u8(t.Year() - 1900), u8(int(t.Month())), u8(t.Day()), u8(t.Hour()), u8(t.Minute()), u8(t.Second()), 0}
}
