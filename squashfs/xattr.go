package squashfs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// xattrTable collects the sets of extended attributes; equal sets are one.
type xattrTable struct {
	ids  map[string]uint32 // encoded set -> id
	sets []xattrSet
}

type xattrSet struct {
	encoded []byte // struct squashfs_xattr_entry and _val, one after the other
	count   uint32
}

// add returns the id of a set, and the names that the format cannot hold.
func (t *xattrTable) add(attrs map[string][]byte) (id uint32, left []string, err error) {
	var set xattrSet
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		prefix, short, ok := splitXattr(name)
		if !ok {
			left = append(left, name)
			continue
		}
		if len(short) > math.MaxUint16 || int64(len(attrs[name])) > math.MaxUint32 {
			return 0, nil, fmt.Errorf("%w: xattr %s", ErrTooLarge, name)
		}
		le := binary.LittleEndian
		b := set.encoded
		b = le.AppendUint16(b, prefix)                   // type
		b = le.AppendUint16(b, uint16(len(short)))       // size
		b = append(b, short...)                          // data
		b = le.AppendUint32(b, uint32(len(attrs[name]))) // vsize
		set.encoded = append(b, attrs[name]...)          // value
		set.count++
	}
	if set.count == 0 {
		return invalidXattr, left, nil
	}
	if id, ok := t.ids[string(set.encoded)]; ok {
		return id, left, nil
	}
	if t.ids == nil {
		t.ids = map[string]uint32{}
	}
	id = uint32(len(t.sets))
	t.ids[string(set.encoded)] = id
	t.sets = append(t.sets, set)
	return id, left, nil
}

// splitXattr finds the namespace's number and the name without it.
func splitXattr(name string) (prefix uint16, short string, ok bool) {
	for i, p := range xattrPrefixes {
		if short, ok := strings.CutPrefix(name, p); ok && short != "" {
			return uint16(i), short, true
		}
	}
	return 0, "", false
}

// write appends the table as it lies in the image (fs/squashfs/xattr_id.c):
// the sets, the ids, then struct squashfs_xattr_id_table, whose position it returns.
func (t *xattrTable) write(e *tableWriter) (start uint64, err error) {
	if len(t.sets) == 0 {
		return invalidBlock, nil
	}
	le := binary.LittleEndian
	values, kvStart := e.metadata(), e.pos
	var ids []byte
	for _, s := range t.sets {
		ref, err := values.ref()
		if err != nil {
			return 0, fmt.Errorf("squashfs: xattrs: %w", err)
		}
		ids = le.AppendUint64(ids, uint64(ref))            // xattr
		ids = le.AppendUint32(ids, s.count)                // count
		ids = le.AppendUint32(ids, uint32(len(s.encoded))) // size
		if err := values.write(s.encoded); err != nil {
			return 0, err
		}
	}
	if err := e.flush(values); err != nil {
		return 0, err
	}
	index, err := e.blocks(ids)
	if err != nil {
		return 0, err
	}
	start = e.pos
	head := le.AppendUint64(nil, kvStart)             // xattr_table_start
	head = le.AppendUint32(head, uint32(len(t.sets))) // xattr_ids
	head = le.AppendUint32(head, 0)                   // unused
	return start, e.raw(append(head, index...))
}
