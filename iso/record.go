package iso

// ECMA-119 9.1.6
const (
	flagDirectory   = 0x02
	flagMultiExtent = 0x80 // not the file's last extent
)

// maxExtent is the most that one record's 32-bit length takes in whole sectors.
const maxExtent = 0xFFFFF800

// record is a directory record (ECMA-119 9.1).
type record struct {
	ident string
	pos   int64
	size  int64
	flags byte
	stamp [7]byte
	su    []byte // system use area
}

const (
	recordHead = 33
	maxRecord  = 254 // the length is a byte, and even
)

// suStart is where a record's system use area begins: at an even position.
func suStart(ident string) int {
	return (recordHead + len(ident) + 1) &^ 1
}

func (r record) encode() []byte {
	b := make([]byte, suStart(r.ident), maxRecord)
	putBoth32(b[2:], sector(r.pos)) // location of extent
	putBoth32(b[10:], r.size)       // data length
	copy(b[18:], r.stamp[:])        // recording date and time
	b[25] = r.flags                 // file flags
	putBoth16(b[28:], 1)            // volume sequence number
	b[32] = u8(len(r.ident))        // length of file identifier
	copy(b[33:], r.ident)           // file identifier
	b = padded(append(b, r.su...), 2)
	b[0] = u8(len(b)) // length of directory record
	return b
}

// directory encodes a directory: its records, and the Rock Ridge entries that do not fit them.
func (h *hierarchy) directory(d *directory) (records, more []byte) {
	susp := newSUSP(h, d)
	var b sectors
	b.add(record{ident: "\x00", pos: d.pos, size: d.size, flags: flagDirectory, stamp: h.stamp, su: susp.self()}.encode())
	p := d.parent
	b.add(record{ident: "\x01", pos: p.pos, size: p.size, flags: flagDirectory, stamp: h.stamp, su: susp.parent()}.encode())
	for _, e := range d.entries {
		r := record{ident: e.ident, stamp: h.stamp, su: susp.entry(e)}
		if e.dir != nil {
			r.pos, r.size, r.flags = e.dir.pos, e.dir.size, flagDirectory
			b.add(r.encode())
			continue
		}
		addFile(&b, r, e.node.file)
	}
	return padded(b, sectorSize), padded(susp.more, sectorSize)
}

// addFile adds a file's records, one an extent.
func addFile(b *sectors, r record, f *content) {
	extents := f.extents()
	for i, e := range extents {
		r.pos, r.size, r.flags = e.pos, e.size, flagMultiExtent
		if i == len(extents)-1 {
			r.flags = 0
		}
		b.add(r.encode())
	}
}

// extents are where a file lies, in parts that a record holds.
func (c *content) extents() []piece {
	pieces := c.pieces
	if pieces == nil {
		pieces = []piece{{c.pos, c.size}}
	}
	var extents []piece
	for _, p := range pieces {
		for ; p.size > maxExtent; p.size -= maxExtent {
			extents = append(extents, piece{p.pos, maxExtent})
			p.pos += maxExtent
		}
		extents = append(extents, p)
	}
	return extents
}

// sectors are bytes of which no added part crosses a sector's end (ECMA-119 6.8.1.1).
type sectors []byte

func (s *sectors) add(part []byte) (at int) {
	if len(*s)%sectorSize+len(part) > sectorSize {
		*s = padded(*s, sectorSize)
	}
	at = len(*s)
	*s = append(*s, part...)
	return at
}
