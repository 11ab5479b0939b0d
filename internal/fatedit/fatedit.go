// Package fatedit reads a FAT file system (FAT12, 16 or 32, by Microsoft's FAT 1.03) and gives files in it other
// contents. What does not have to change stays as it is, dates included; the outcome is a list of patches.
package fatedit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// ErrDamaged is wrapped by errors about a file system that contradicts itself.
var ErrDamaged = errors.New("damaged FAT")

// ErrFull reports that there are not enough free clusters.
var ErrFull = errors.New("not enough free space in the FAT")

const (
	maxTable       = 64 << 20 // bytes of a FAT
	maxDirectories = 16 << 20 // bytes of all directories together
	maxDepth       = 64
	entrySize      = 32
	firstCluster   = 2
)

var le = binary.LittleEndian

// FS is a file system. It is an [fs.FS]; a file that is opened is an [io.ReaderAt], too.
type FS struct {
	r    io.ReaderAt
	bits int // of an entry of the FAT: 12, 16 or 32

	cluster   int64 // bytes
	clusters  uint32
	fatPos    []int64 // of the copies in use
	root      int64   // of FAT12's and 16's root directory
	rootSize  int64
	rootFirst uint32 // FAT32's root directory
	data      int64  // of the first cluster
	info      int64  // FSInfo, or 0

	fat, old []byte
	tree     *node
	dirBytes int64
	seen     map[uint32]bool // directories
	patches  map[int64][]byte
}

// Open reads the file system that begins at r's offset 0 and has no more than size bytes. It need not be trusted.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	f := &FS{r: r, seen: make(map[uint32]bool), patches: make(map[int64][]byte)}
	for _, step := range []func(int64) error{f.readBootSector, f.readTable, f.readTree} {
		if err := step(size); err != nil {
			return nil, fmt.Errorf("fat: %w", err)
		}
	}
	return f, nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// IsFAT tells whether a first sector looks like a FAT's.
func IsFAT(b []byte) bool {
	if len(b) < 512 || b[510] != 0x55 || b[511] != 0xAA || b[0] != 0xEB && b[0] != 0xE9 {
		return false
	}
	sector := int(le.Uint16(b[11:]))
	return sector >= 512 && sector <= 4096 && sector&(sector-1) == 0 && // BPB_BytsPerSec
		b[13] != 0 && b[13]&(b[13]-1) == 0 && // BPB_SecPerClus
		le.Uint16(b[14:]) != 0 && b[16] != 0 && b[16] <= 4 && b[21] >= 0xF0 // BPB_RsvdSecCnt, BPB_NumFATs, BPB_Media
}

func (f *FS) readBootSector(size int64) error {
	b := make([]byte, 512)
	if err := f.read(b, 0); err != nil {
		return err
	}
	if !IsFAT(b) {
		return damaged("no boot sector")
	}
	sector := int64(le.Uint16(b[11:]))
	f.cluster = sector * int64(b[13])
	reserved, copies := int64(le.Uint16(b[14:])), int64(b[16])
	f.rootSize = int64(le.Uint16(b[17:])) * entrySize // BPB_RootEntCnt
	total := int64(le.Uint16(b[19:]))                 // BPB_TotSec16
	if total == 0 {
		total = int64(le.Uint32(b[32:])) // BPB_TotSec32
	}
	length := int64(le.Uint16(b[22:])) // BPB_FATSz16
	fat32 := length == 0
	if fat32 {
		length = int64(le.Uint32(b[36:])) // BPB_FATSz32
		f.rootFirst, f.rootSize = le.Uint32(b[44:]), 0
	}
	f.root = (reserved + copies*length) * sector
	f.data = (f.root + f.rootSize + sector - 1) / sector * sector
	if total*sector > size || f.data >= total*sector {
		return damaged("%d sectors of %d bytes, of which %d bytes are no clusters, in %d bytes", total, sector, f.data, size)
	}
	clusters := (total*sector - f.data) / f.cluster
	f.setKind(clusters, fat32)
	if need := (clusters + firstCluster) * int64(f.bits); need > length*sector*8 || need > maxTable*8 || clusters >= 0x0FFFFFF5 {
		return damaged("%d clusters, the FAT has %d bytes", clusters, length*sector)
	}
	f.clusters = uint32(clusters)
	f.setCopies(b, reserved*sector, copies, length*sector)
	if info := int64(le.Uint16(b[48:])); fat32 && info > 0 && info < reserved { // BPB_FSInfo
		f.info = info * sector
	}
	return nil
}

// setKind finds the kind as Linux does: by the place of the FAT's size, then by the number of clusters.
func (f *FS) setKind(clusters int64, fat32 bool) {
	switch {
	case fat32:
		f.bits = 32
	case clusters > 4084:
		f.bits = 16
	default:
		f.bits = 12
	}
}

// setCopies finds the copies of the FAT that are kept: all, or the one that BPB_ExtFlags names.
func (f *FS) setCopies(b []byte, pos, copies, length int64) {
	for i := range copies {
		f.fatPos = append(f.fatPos, pos+i*length)
	}
	if flags := le.Uint16(b[40:]); f.bits == 32 && flags&0x80 != 0 && int64(flags&0xF) < copies {
		active := f.fatPos[flags&0xF]
		f.fatPos = []int64{active}
	}
}

func (f *FS) readTable(int64) error {
	f.fat = make([]byte, ((int64(f.clusters)+firstCluster)*int64(f.bits)+7)/8)
	err := f.read(f.fat, f.fatPos[0])
	f.old = slices.Clone(f.fat)
	return err
}

func (f *FS) read(b []byte, pos int64) error {
	if n, err := f.r.ReadAt(b, pos); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// next is a cluster's entry in the FAT.
func (f *FS) next(c uint32) uint32 {
	switch f.bits {
	case 12:
		v := uint32(le.Uint16(f.fat[c+c/2:]))
		return v >> (c % 2 * 4) & 0xFFF
	case 16:
		return uint32(le.Uint16(f.fat[2*c:]))
	}
	return le.Uint32(f.fat[4*c:]) & 0x0FFFFFFF
}

// setNext leaves the bits as they are that are not the entry's.
func (f *FS) setNext(c, v uint32) {
	switch f.bits {
	case 12:
		b := f.fat[c+c/2:]
		shift := c % 2 * 4
		le.PutUint16(b, le.Uint16(b)&^(0xFFF<<shift)|uint16(v&0xFFF<<shift))
	case 16:
		le.PutUint16(f.fat[2*c:], uint16(v))
	default:
		le.PutUint32(f.fat[4*c:], le.Uint32(f.fat[4*c:])&0xF0000000|v&0x0FFFFFFF)
	}
}

// isEnd tells whether an entry ends a chain.
func (f *FS) isEnd(v uint32) bool { return v >= 0x0FFFFFF8&(1<<min(f.bits, 28)-1) }

// chain lists the clusters from the first to the last, which may have so many bytes.
func (f *FS) chain(first uint32, limit int64) ([]uint32, error) {
	var list []uint32
	for c := first; !f.isEnd(c); c = f.next(c) {
		if !f.valid(c) {
			return nil, damaged("a chain leads to cluster %d of %d", c, f.clusters)
		}
		if int64(len(list))*f.cluster >= limit {
			return nil, damaged("a chain from cluster %d of more than %d bytes", first, limit)
		}
		list = append(list, c)
	}
	return list, nil
}

func (f *FS) valid(c uint32) bool { return c >= firstCluster && c < firstCluster+f.clusters }

// pos is where a cluster lies.
func (f *FS) pos(c uint32) int64 { return f.data + int64(c-firstCluster)*f.cluster }

// Replace gives a regular file, which must not be empty before or after, another content. It takes what clusters it
// needs beyond its own from the free ones behind them.
func (f *FS) Replace(name string, content []byte) error {
	n, err := f.lookup("replace", name)
	if err == nil && n.mode.IsDir() {
		err = &fs.PathError{Op: "replace", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return err
	}
	if len(content) == 0 || n.size == 0 || int64(len(content)) > 1<<32-1 {
		return fmt.Errorf("fat: %s: %d bytes in the place of %d", name, len(content), n.size)
	}
	if err := f.replace(n, content); err != nil {
		return fmt.Errorf("fat: %s: %w", name, err)
	}
	return nil
}

func (f *FS) replace(n *node, content []byte) error {
	chain, err := f.owned(n)
	if err != nil {
		return err
	}
	if err := f.sameTables(); err != nil {
		return err
	}
	had, size := len(chain), uint32(len(content))
	if chain, err = f.resize(chain, (len(content)+int(f.cluster)-1)/int(f.cluster)); err != nil {
		return err
	}
	for i, c := range chain {
		part := content[:min(int64(len(content)), f.cluster)]
		content = content[len(part):]
		if i >= had { // what was there before is nobody's
			part = append(slices.Clone(part), make([]byte, f.cluster-int64(len(part)))...)
		}
		f.patches[f.pos(c)] = part
	}
	n.size = int64(size)
	f.patches[n.entry+28] = le.AppendUint32(nil, size) // DIR_FileSize
	return nil
}

// owned is a file's chain, which must be no other file's.
func (f *FS) owned(n *node) ([]uint32, error) {
	used := make([]bool, firstCluster+f.clusters)
	for other := range f.tree.all {
		if other == n {
			continue
		}
		for c := other.first; f.valid(c) && !used[c]; c = f.next(c) {
			used[c] = true
		}
	}
	chain, err := f.chain(n.first, n.size)
	if err != nil {
		return nil, err
	}
	if int64(len(chain))*f.cluster < n.size {
		return nil, damaged("%d clusters for %d bytes", len(chain), n.size)
	}
	for _, c := range chain {
		if used[c] {
			return nil, damaged("cluster %d belongs to another file, too", c)
		}
	}
	return chain, nil
}

// sameTables wants the copies of the FAT to be the same.
func (f *FS) sameTables() error {
	b := make([]byte, len(f.old))
	for _, pos := range f.fatPos[1:] {
		if err := f.read(b, pos); err != nil {
			return err
		}
		if !bytes.Equal(b, f.old) {
			return damaged("its copies of the FAT differ")
		}
	}
	return nil
}

// resize makes a chain longer or shorter.
func (f *FS) resize(chain []uint32, want int) ([]uint32, error) {
	end := f.next(chain[len(chain)-1])
	for c, tried := chain[len(chain)-1], uint32(0); len(chain) < want; tried++ {
		if tried == f.clusters {
			return nil, ErrFull
		}
		if c++; c >= firstCluster+f.clusters {
			c = firstCluster
		}
		if f.next(c) == 0 {
			f.setNext(chain[len(chain)-1], c)
			f.setNext(c, end)
			chain = append(chain, c)
		}
	}
	for len(chain) > want {
		f.setNext(chain[len(chain)-1], 0)
		chain = chain[:len(chain)-1]
		f.setNext(chain[len(chain)-1], end)
	}
	return chain, nil
}

// Patch is what is to be written at a position.
type Patch struct {
	Pos   int64
	Bytes []byte
}

// Patches are what the replaced files change, sorted, without overlaps.
func (f *FS) Patches() ([]Patch, error) {
	patches := maps.Clone(f.patches)
	for _, pos := range f.fatPos {
		f.patchTable(patches, pos)
	}
	if err := f.patchInfo(patches); err != nil {
		return nil, err
	}
	var list []Patch
	for _, pos := range slices.Sorted(maps.Keys(patches)) {
		list = append(list, Patch{pos, patches[pos]})
	}
	return list, nil
}

// patchTable notes the bytes of the FAT that changed.
func (f *FS) patchTable(patches map[int64][]byte, pos int64) {
	for i := 0; i < len(f.fat); i++ {
		start := i
		for i < len(f.fat) && f.fat[i] != f.old[i] {
			i++
		}
		if i > start {
			patches[pos+int64(start)] = f.fat[start:i]
		}
	}
}

// patchInfo corrects FSInfo's number of free clusters, where it is known.
func (f *FS) patchInfo(patches map[int64][]byte) error {
	if f.info == 0 {
		return nil
	}
	b := make([]byte, 512)
	if err := f.read(b, f.info); err != nil {
		return fmt.Errorf("fat: %w", err)
	}
	free := le.Uint32(b[488:])                                                             // FSI_Free_Count
	if le.Uint32(b) != 0x41615252 || le.Uint32(b[484:]) != 0x61417272 || free == 1<<32-1 { // FSI_LeadSig, FSI_StrucSig
		return nil
	}
	if now := free + f.free(f.fat) - f.free(f.old); now != free {
		patches[f.info+488] = le.AppendUint32(nil, now)
	}
	return nil
}

// free counts the free clusters of a FAT32.
func (f *FS) free(fat []byte) (n uint32) {
	for i := 4 * firstCluster; i < len(fat); i += 4 {
		if le.Uint32(fat[i:])&0x0FFFFFFF == 0 {
			n++
		}
	}
	return n
}
