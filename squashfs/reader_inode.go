package squashfs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"time"
)

// readerInode is an inode of any kind; fields that its kind lacks are zero.
type readerInode struct {
	ref    inodeRef
	dev    uint64 // of the Reader
	typ    inodeType
	mode   uint16
	uid    uint32
	gid    uint32
	mtime  uint32
	number uint32
	nlink  uint32
	size   uint64 // of a file's content, a directory's listing plus 3, a target
	rdev   uint32
	xattr  uint32
	target string

	start      uint64 // first data block, or metadata block of the listing
	offset     uint32 // in the fragment, or in that metadata block
	fragment   uint32
	indexCount uint16
	tail       readerCursor // of a file: its block sizes, of a directory: its index
}

// Sizes of the fixed parts of inodes, without the base that all share.
const (
	readerBaseSize = 16
	readerMaxFixed = 40
)

// readerInodeSizes: the fixed part that comes after the base.
var readerInodeSizes = map[inodeType]int{
	typeDir: 16, typeDir + extended: 24,
	typeFile: 16, typeFile + extended: 40,
	typeSymlink: 8, typeSymlink + extended: 8,
	typeBlockDev: 8, typeBlockDev + extended: 12,
	typeCharDev: 8, typeCharDev + extended: 12,
	typeFifo: 4, typeFifo + extended: 8,
	typeSocket: 4, typeSocket + extended: 8,
}

// readInode reads and checks the inode at ref.
func (r *Reader) readInode(ref inodeRef) (*readerInode, error) {
	pos := r.sb.inodeTable + ref.block()
	if ref.block() > math.MaxUint32 || ref.offset() >= metadataSize || pos >= r.sb.dirTable {
		return nil, fmt.Errorf("%w: inode reference %#x", ErrCorrupt, uint64(ref))
	}
	c := readerCursor{r: r, pos: pos, end: r.sb.dirTable, off: int(ref.offset())}
	var b [readerBaseSize + readerMaxFixed]byte
	if err := c.read(b[:readerBaseSize]); err != nil {
		return nil, fmt.Errorf("inode %#x: %w", uint64(ref), err)
	}
	n := &readerInode{ref: ref, dev: r.dev, xattr: invalidXattr, nlink: 1}
	if err := n.decodeBase(b[:], r.ids); err != nil {
		return nil, fmt.Errorf("inode %#x: %w", uint64(ref), err)
	}
	fixed := b[readerBaseSize:][:readerInodeSizes[n.typ]]
	err := c.read(fixed)
	if err == nil {
		err = n.decode(fixed, &c)
	}
	if err == nil {
		err = n.check(r)
	}
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", n.number, err)
	}
	return n, nil
}

// decodeBase reads struct squashfs_base_inode.
func (n *readerInode) decodeBase(b []byte, ids []uint32) error {
	le := binary.LittleEndian
	n.typ = inodeType(le.Uint16(b)) // inode_type
	n.mode = le.Uint16(b[2:])       // mode
	uid, gid := le.Uint16(b[4:]), le.Uint16(b[6:])
	n.mtime = le.Uint32(b[8:])   // mtime
	n.number = le.Uint32(b[12:]) // inode_number
	switch {
	case readerInodeSizes[n.typ] == 0:
		return fmt.Errorf("%w: inode type %d", ErrCorrupt, n.typ)
	case int(uid) >= len(ids) || int(gid) >= len(ids):
		return fmt.Errorf("%w: ids %d and %d of %d", ErrCorrupt, uid, gid, len(ids))
	case n.number == 0:
		return fmt.Errorf("%w: inode number 0", ErrCorrupt)
	}
	n.uid, n.gid = ids[uid], ids[gid]
	return nil
}

// decode reads the rest of the inode, of which b is the fixed part.
func (n *readerInode) decode(b []byte, c *readerCursor) error {
	switch n.typ.basic() {
	case typeDir:
		n.decodeDir(b)
	case typeFile:
		n.decodeFile(b)
	case typeSymlink:
		return n.decodeSymlink(b, c)
	default:
		n.decodeSpecial(b)
	}
	// Who keeps an inode shall not keep the metadata block it came from.
	n.tail = *c
	n.tail.meta = nil
	return nil
}

// decodeDir reads struct squashfs_dir_inode or squashfs_ldir_inode.
func (n *readerInode) decodeDir(b []byte) {
	le := binary.LittleEndian
	if n.typ == typeDir {
		n.start = uint64(le.Uint32(b))       // start_block
		n.nlink = le.Uint32(b[4:])           // nlink
		n.size = uint64(le.Uint16(b[8:]))    // file_size
		n.offset = uint32(le.Uint16(b[10:])) // offset
		return
	}
	n.nlink = le.Uint32(b)               // nlink
	n.size = uint64(le.Uint32(b[4:]))    // file_size
	n.start = uint64(le.Uint32(b[8:]))   // start_block
	n.indexCount = le.Uint16(b[16:])     // i_count
	n.offset = uint32(le.Uint16(b[18:])) // offset
	n.xattr = le.Uint32(b[20:])          // xattr
}

// decodeFile reads struct squashfs_reg_inode or squashfs_lreg_inode.
func (n *readerInode) decodeFile(b []byte) {
	le := binary.LittleEndian
	if n.typ == typeFile {
		n.start = uint64(le.Uint32(b))     // start_block
		n.fragment = le.Uint32(b[4:])      // fragment
		n.offset = le.Uint32(b[8:])        // offset
		n.size = uint64(le.Uint32(b[12:])) // file_size
		return
	}
	n.start = le.Uint64(b)         // start_block
	n.size = le.Uint64(b[8:])      // file_size
	n.nlink = le.Uint32(b[24:])    // nlink, after sparse
	n.fragment = le.Uint32(b[28:]) // fragment
	n.offset = le.Uint32(b[32:])   // offset
	n.xattr = le.Uint32(b[36:])    // xattr
}

// decodeSymlink reads struct squashfs_symlink_inode and the target after it,
// which in the extended form the xattr field follows.
func (n *readerInode) decodeSymlink(b []byte, c *readerCursor) error {
	n.nlink = binary.LittleEndian.Uint32(b)            // nlink
	n.size = uint64(binary.LittleEndian.Uint32(b[4:])) // symlink_size
	if n.size == 0 || n.size > maxSymlinkTarget {
		return fmt.Errorf("%w: symbolic link target of %d bytes", ErrCorrupt, n.size)
	}
	target := make([]byte, n.size)
	if err := c.read(target); err != nil {
		return err
	}
	n.target = string(target)
	if strings.IndexByte(n.target, 0) >= 0 {
		return fmt.Errorf("%w: symbolic link target with a NUL", ErrCorrupt)
	}
	if n.typ == typeSymlink {
		return nil
	}
	err := c.read(b[:4])
	n.xattr = binary.LittleEndian.Uint32(b) // xattr
	return err
}

// decodeSpecial reads struct squashfs_dev_inode, squashfs_ipc_inode and their
// extended forms: nlink, for devices rdev, for extended ones xattr.
func (n *readerInode) decodeSpecial(b []byte) {
	le := binary.LittleEndian
	n.nlink = le.Uint32(b) // nlink
	b = b[4:]
	if t := n.typ.basic(); t == typeBlockDev || t == typeCharDev {
		n.rdev = le.Uint32(b) // rdev
		b = b[4:]
	}
	if n.typ > extended {
		n.xattr = le.Uint32(b) // xattr
	}
}

// check compares an inode's claims with the image's tables.
func (n *readerInode) check(r *Reader) error {
	switch n.typ.basic() {
	case typeDir:
		if n.offset >= metadataSize {
			return fmt.Errorf("%w: listing at offset %d of its block", ErrCorrupt, n.offset)
		}
	case typeFile:
		return n.checkFile(r)
	}
	return nil
}

// checkFile: the list of block sizes must fit into the rest of the inode table,
// however well that is compressed, and the tail into its fragment.
func (n *readerInode) checkFile(r *Reader) error {
	if n.size > math.MaxInt64 {
		return fmt.Errorf("%w: file of %d bytes", ErrCorrupt, n.size)
	}
	const leastMetadata = 3 // bytes that a metadata block takes, at least
	most := (n.tail.end - n.tail.pos) / leastMetadata * metadataSize
	if blocks := n.blocks(r.sb); blocks > most/4 {
		return fmt.Errorf("%w: file of %d blocks, more than the inode table can list", ErrCorrupt, blocks)
	}
	if !n.hasFragment() {
		return nil
	}
	tail := n.size % uint64(r.sb.blockSize)
	if tail != 0 && (n.fragment >= r.sb.fragments || uint64(n.offset)+tail > uint64(r.sb.blockSize)) {
		return fmt.Errorf("%w: %d bytes at %d of fragment %d", ErrCorrupt, tail, n.offset, n.fragment)
	}
	return nil
}

func (n *readerInode) hasFragment() bool { return n.fragment != invalidFragment }

// blocks is the number of data blocks that a file has of its own.
func (n *readerInode) blocks(sb *superblock) uint64 {
	full := n.size >> sb.blockLog
	if !n.hasFragment() && n.size%uint64(sb.blockSize) != 0 {
		full++
	}
	return full
}

// readerInfo is an inode under one of its names.
type readerInfo struct {
	name string
	*readerInode
}

func (i readerInfo) Name() string       { return i.name }
func (i readerInfo) Size() int64        { return int64(i.size) }
func (i readerInfo) Mode() fs.FileMode  { return fileMode(i.typ, i.mode) }
func (i readerInfo) ModTime() time.Time { return time.Unix(int64(i.mtime), 0).UTC() }
func (i readerInfo) IsDir() bool        { return i.typ.basic() == typeDir }
func (i readerInfo) String() string     { return fs.FormatFileInfo(i) }

func (i readerInfo) Sys() any {
	return &Attr{UID: i.uid, GID: i.gid, Rdev: i.rdev, Inode: uint64(i.number), Dev: i.dev, Nlink: i.nlink}
}
