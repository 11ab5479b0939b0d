package squashfs

import (
	"encoding/binary"
	"fmt"
)

// readerXattrs is where the extended attributes are: a table of their sets, and
// the metadata blocks with names and values.
type readerXattrs struct {
	readerTable
	start uint64 // of the names and values
}

// What one set of extended attributes may have. Names and values are Linux's
// XATTR_NAME_MAX and XATTR_SIZE_MAX at most; the total, with a little for each,
// keeps values stored once, and referred to many times, from growing out of hand.
const (
	readerMaxXattrName = 255
	readerMaxXattr     = 1 << 16
	readerMaxXattrs    = 4 << 20
	readerXattrCost    = 64
)

// openXattrs reads struct squashfs_xattr_id_table. It returns where the id table
// must have ended.
func (r *Reader) openXattrs() (uint64, error) {
	at := r.sb.xattrTable
	r.xattrs.name = "xattr table"
	if at == invalidBlock {
		return r.sb.bytesUsed, nil
	}
	var b [16]byte
	if at+uint64(len(b)) > r.sb.bytesUsed {
		return 0, fmt.Errorf("%w: xattr table at %d", ErrCorrupt, at)
	}
	if err := r.readAt(b[:], at); err != nil {
		return 0, err
	}
	start := binary.LittleEndian.Uint64(b[:])          // xattr_table_start
	count := uint64(binary.LittleEndian.Uint32(b[8:])) // xattr_ids
	list := readerTable{r, r.xattrs.name, at + uint64(len(b)), count, xattrIDSize, r.sb.bytesUsed}
	if start > at || start < r.sb.dirTable {
		return 0, fmt.Errorf("%w: xattrs at %d", ErrCorrupt, start)
	}
	r.xattrs = readerXattrs{list, start}
	r.info.XattrIDs = int64(count)
	return start, list.check()
}

// Xattrs returns the extended attributes of the named file by their full names,
// or an empty map. Those of a namespace that squashfs 4.0 does not know are left
// out, as Linux does. It does not follow a symbolic link at the path's end.
func (r *Reader) Xattrs(name string) (map[string][]byte, error) {
	n, err := r.resolve(name, false)
	if err != nil {
		return nil, readerError("xattrs", name, err)
	}
	m, err := r.readXattrs(n.xattr)
	return m, readerError("xattrs", name, err)
}

// readXattrs reads a set by its number.
func (r *Reader) readXattrs(id uint32) (map[string][]byte, error) {
	set := map[string][]byte{}
	if id == invalidXattr {
		return set, nil
	}
	var e [xattrIDSize]byte
	if err := r.xattrs.entry(id, e[:]); err != nil {
		return nil, fmt.Errorf("xattrs: %w", err)
	}
	c, err := r.xattrs.cursor(binary.LittleEndian.Uint64(e[:])) // xattr
	if err != nil {
		return nil, err
	}
	count := binary.LittleEndian.Uint32(e[8:]) // count
	for total := 0; count > 0; count-- {
		name, value, err := r.xattrs.next(&c)
		if err != nil {
			return nil, fmt.Errorf("xattrs: %w", err)
		}
		if total += len(name) + len(value) + readerXattrCost; total > readerMaxXattrs {
			return nil, fmt.Errorf("%w: xattrs of over %d bytes", ErrCorrupt, readerMaxXattrs)
		}
		if name == "" {
			continue
		}
		if _, ok := set[name]; ok {
			return nil, fmt.Errorf("%w: xattr %q twice", ErrCorrupt, name)
		}
		set[name] = value
	}
	return set, nil
}

// cursor goes to a reference to an entry or a value, made as one to an inode is.
func (x *readerXattrs) cursor(ref uint64) (readerCursor, error) {
	at := inodeRef(ref)
	if at.block() >= x.readerTable.start-x.start || at.offset() >= metadataSize {
		return readerCursor{}, fmt.Errorf("%w: xattr reference %#x", ErrCorrupt, ref)
	}
	return readerCursor{r: x.r, pos: x.start + at.block(), end: x.readerTable.start, off: int(at.offset())}, nil
}

// next reads a struct squashfs_xattr_entry and its value. Of an unknown type the
// name is "" (fs/squashfs/xattr.c, squashfs_xattr_handler).
func (x *readerXattrs) next(c *readerCursor) (string, []byte, error) {
	var b [4]byte
	if err := c.read(b[:]); err != nil {
		return "", nil, err
	}
	typ := binary.LittleEndian.Uint16(b[:]) // type
	space := int(typ &^ xattrOutOfLine)
	size := binary.LittleEndian.Uint16(b[2:]) // size
	if size > readerMaxXattrName {
		return "", nil, fmt.Errorf("%w: xattr name of %d bytes", ErrCorrupt, size)
	}
	name := make([]byte, size)
	if err := c.read(name); err != nil {
		return "", nil, err
	}
	value, err := x.value(c)
	if space >= len(xattrPrefixes) {
		return "", value, err
	}
	if err == nil && typ&xattrOutOfLine != 0 {
		value, err = x.outOfLine(value)
	}
	return xattrPrefixes[space] + string(name), value, err
}

// value reads a struct squashfs_xattr_val.
func (x *readerXattrs) value(c *readerCursor) ([]byte, error) {
	var b [4]byte
	if err := c.read(b[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(b[:]) // vsize
	if size > readerMaxXattr {
		return nil, fmt.Errorf("%w: xattr value of %d bytes", ErrCorrupt, size)
	}
	value := make([]byte, size)
	return value, c.read(value)
}

// outOfLine reads the value that ref refers to.
func (x *readerXattrs) outOfLine(ref []byte) ([]byte, error) {
	if len(ref) != 8 {
		return nil, fmt.Errorf("%w: xattr reference of %d bytes", ErrCorrupt, len(ref))
	}
	c, err := x.cursor(binary.LittleEndian.Uint64(ref))
	if err != nil {
		return nil, err
	}
	return x.value(&c)
}
