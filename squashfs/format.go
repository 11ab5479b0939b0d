package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/isopress/isopress/internal/codec"
)

// The on-disk format, squashfs 4.0, is described by the kernel's
// fs/squashfs/squashfs_fs.h, whose field names the comments here use.
const (
	superblockSize   = 96
	superblockMagic  = 0x73717368 // "hsqs"
	versionMajor     = 4
	versionMinor     = 0
	invalidBlock     = ^uint64(0) // SQUASHFS_INVALID_BLK: a table that is absent
	invalidFragment  = ^uint32(0) // SQUASHFS_INVALID_FRAG
	invalidXattr     = ^uint32(0) // SQUASHFS_INVALID_XATTR
	metadataSize     = 8192       // SQUASHFS_METADATA_SIZE, uncompressed
	metadataRaw      = 1 << 15    // SQUASHFS_COMPRESSED_BIT: stored as it is
	blockRaw         = 1 << 24    // SQUASHFS_COMPRESSED_BIT_BLOCK: stored as it is
	blockSizeMask    = blockRaw - 1
	fragmentSize     = 16 // struct squashfs_fragment_entry
	xattrIDSize      = 16 // struct squashfs_xattr_id
	maxNameLen       = 256
	maxDirCount      = 256 // entries after one directory header
	maxIDs           = 1<<16 - 1
	padding          = 4096
	minBlockLog      = 12
	maxBlockLog      = 20
	maxSymlinkTarget = 65535 // that is read

	// maxWrittenTarget is what Linux follows: PATH_MAX without the zero byte. The
	// kernel cuts a target of 4096 bytes (page_get_link in fs/namei.c) and refuses
	// longer ones (fs/squashfs/inode.c).
	maxWrittenTarget = 4095
)

// MinBlockSize and MaxBlockSize bound [Options.BlockSize], which is a power of two.
const (
	MinBlockSize = 1 << minBlockLog
	MaxBlockSize = 1 << maxBlockLog
)

// Superblock flags.
const (
	flagUncompressedInodes    = 1 << 0
	flagUncompressedData      = 1 << 1
	flagUncompressedFragments = 1 << 3
	flagNoFragments           = 1 << 4
	flagAlwaysFragments       = 1 << 5
	flagDuplicates            = 1 << 6
	flagExportable            = 1 << 7
	flagUncompressedXattrs    = 1 << 8
	flagNoXattrs              = 1 << 9
	flagCompressorOptions     = 1 << 10
	flagUncompressedIDs       = 1 << 11
)

// inodeType is the inode_type field. An extended type is its basic one plus extended.
type inodeType uint16

const (
	typeDir inodeType = iota + 1
	typeFile
	typeSymlink
	typeBlockDev
	typeCharDev
	typeFifo
	typeSocket

	extended inodeType = 7
)

// basic strips the extended form: directory entries hold basic types only.
func (t inodeType) basic() inodeType {
	if t > extended {
		return t - extended
	}
	return t
}

// Algorithm identifies a compression algorithm by its number in the superblock.
type Algorithm uint16

// The algorithms of squashfs 4.0. [Reader] reads all of them; [ParseCompression]
// says which are written. An image whose blocks are all stored as they are
// ([Compression] "none") says Gzip.
const (
	Gzip Algorithm = 1 // deflate in a zlib stream
	LZMA Algorithm = 2 // the .lzma format, which Linux does not mount
	LZO  Algorithm = 3 // LZO1X
	XZ   Algorithm = 4 // an .xz stream of LZMA2, with or without a BCJ filter
	LZ4  Algorithm = 5 // an LZ4 block without a frame
	Zstd Algorithm = 6 // a Zstandard frame
)

var algorithmNames = map[Algorithm]string{Gzip: "gzip", LZMA: "lzma", LZO: "lzo", XZ: "xz", LZ4: "lz4", Zstd: "zstd"}

// String is the name that mksquashfs -comp takes.
func (a Algorithm) String() string {
	if s, ok := algorithmNames[a]; ok {
		return s
	}
	return fmt.Sprintf("compression %d", uint16(a))
}

// engine is the codec's name for a.
func (a Algorithm) engine() codec.Algorithm { return codec.Algorithm(a.String()) }

// ErrCorrupt is wrapped by every error about an image that breaks the format.
var ErrCorrupt = errors.New("corrupt image")

// ErrTooLarge is wrapped by errors about input that the format cannot hold.
var ErrTooLarge = errors.New("over what squashfs holds")

// superblock is struct squashfs_super_block without the fields that never vary.
type superblock struct {
	inodes     uint32
	mkfsTime   uint32 // seconds since the epoch
	blockSize  uint32
	fragments  uint32
	algorithm  Algorithm
	blockLog   uint16
	flags      uint16
	ids        uint16
	root       inodeRef
	bytesUsed  uint64
	idTable    uint64
	xattrTable uint64
	inodeTable uint64
	dirTable   uint64
	fragTable  uint64
	export     uint64
}

// inodeRef is an inode's place: the position of its metadata block relative to
// the inode table in the upper 32 of 48 bits, its offset in the expanded block
// in the lower 16.
type inodeRef uint64

func makeRef(block uint32, offset uint16) inodeRef {
	return inodeRef(block)<<16 | inodeRef(offset)
}

func (r inodeRef) block() uint64  { return uint64(r >> 16) }
func (r inodeRef) offset() uint16 { return uint16(r) }

func (s *superblock) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, superblockSize)
	b = le.AppendUint32(b, superblockMagic)     // s_magic
	b = le.AppendUint32(b, s.inodes)            // inodes
	b = le.AppendUint32(b, s.mkfsTime)          // mkfs_time
	b = le.AppendUint32(b, s.blockSize)         // block_size
	b = le.AppendUint32(b, s.fragments)         // fragments
	b = le.AppendUint16(b, uint16(s.algorithm)) // compression
	b = le.AppendUint16(b, s.blockLog)          // block_log
	b = le.AppendUint16(b, s.flags)             // flags
	b = le.AppendUint16(b, s.ids)               // no_ids
	b = le.AppendUint16(b, versionMajor)        // s_major
	b = le.AppendUint16(b, versionMinor)        // s_minor
	b = le.AppendUint64(b, uint64(s.root))      // root_inode
	b = le.AppendUint64(b, s.bytesUsed)         // bytes_used
	b = le.AppendUint64(b, s.idTable)           // id_table_start
	b = le.AppendUint64(b, s.xattrTable)        // xattr_id_table_start
	b = le.AppendUint64(b, s.inodeTable)        // inode_table_start
	b = le.AppendUint64(b, s.dirTable)          // directory_table_start
	b = le.AppendUint64(b, s.fragTable)         // fragment_table_start
	return le.AppendUint64(b, s.export)         // lookup_table_start
}

// decodeSuperblock reads the fields; it checks only what makes them a squashfs 4.0.
func decodeSuperblock(b []byte) (*superblock, error) {
	le := binary.LittleEndian
	if len(b) >= superblockSize && binary.BigEndian.Uint32(b) == superblockMagic {
		return nil, fmt.Errorf("%w: big-endian squashfs, which no version since 4.0 (2009) is", ErrUnsupported)
	}
	if len(b) < superblockSize || le.Uint32(b) != superblockMagic {
		return nil, fmt.Errorf("%w: not a squashfs image (bad magic)", ErrCorrupt)
	}
	if major, minor := le.Uint16(b[28:]), le.Uint16(b[30:]); major != versionMajor || minor != versionMinor {
		return nil, fmt.Errorf("%w: squashfs %d.%d, only 4.0 is read; unsquashfs reads older versions", ErrUnsupported, major, minor)
	}
	return &superblock{
		inodes:     le.Uint32(b[4:]),
		mkfsTime:   le.Uint32(b[8:]),
		blockSize:  le.Uint32(b[12:]),
		fragments:  le.Uint32(b[16:]),
		algorithm:  Algorithm(le.Uint16(b[20:])),
		blockLog:   le.Uint16(b[22:]),
		flags:      le.Uint16(b[24:]),
		ids:        le.Uint16(b[26:]),
		root:       inodeRef(le.Uint64(b[32:])),
		bytesUsed:  le.Uint64(b[40:]),
		idTable:    le.Uint64(b[48:]),
		xattrTable: le.Uint64(b[56:]),
		inodeTable: le.Uint64(b[64:]),
		dirTable:   le.Uint64(b[72:]),
		fragTable:  le.Uint64(b[80:]),
		export:     le.Uint64(b[88:]),
	}, nil
}

// xattrPrefixes maps the type field of an xattr entry to the namespace it stands for.
var xattrPrefixes = [...]string{"user.", "trusted.", "security."}

// xattrOutOfLine marks an entry whose value is a reference to one stored earlier
// (SQUASHFS_XATTR_VALUE_OOL).
const xattrOutOfLine = 1 << 8

// Unix mode bits of an inode: permissions, setuid, setgid and sticky.
const (
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
)

// unixMode converts the permission bits of m, setuid, setgid and sticky included.
func unixMode(m fs.FileMode) uint16 {
	u := uint16(m.Perm())
	for _, bit := range []struct {
		fs   fs.FileMode
		unix uint16
	}{{fs.ModeSetuid, modeSetuid}, {fs.ModeSetgid, modeSetgid}, {fs.ModeSticky, modeSticky}} {
		if m&bit.fs != 0 {
			u |= bit.unix
		}
	}
	return u
}

// fileMode is the inverse of unixMode with the type's bits added.
func fileMode(t inodeType, u uint16) fs.FileMode {
	m := fs.FileMode(u & 0o777)
	if u&modeSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if u&modeSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if u&modeSticky != 0 {
		m |= fs.ModeSticky
	}
	return m | typeModes[t.basic()]
}

var typeModes = map[inodeType]fs.FileMode{
	typeDir:      fs.ModeDir,
	typeSymlink:  fs.ModeSymlink,
	typeBlockDev: fs.ModeDevice,
	typeCharDev:  fs.ModeDevice | fs.ModeCharDevice,
	typeFifo:     fs.ModeNamedPipe,
	typeSocket:   fs.ModeSocket,
}

// Attr is what an inode holds beyond [fs.FileInfo]: the reader's Sys() returns
// an *Attr, and the writer takes one from there, or a *syscall.Stat_t.
type Attr struct {
	UID, GID uint32
	// Rdev is the device number of a device file, as makedev encodes it in
	// Linux's 32 bits (kernel: new_encode_dev).
	Rdev uint32
	// Inode, where not 0, names the file within the file system that Dev names:
	// names of equal Dev and Inode are hard links of one file.
	Inode uint64
	// Dev tells apart the file systems that Inode counts in, where an [fs.FS]
	// joins several. A [Reader] has one of its own each, from 1<<63 on, in the
	// order in which they were opened. No image holds it.
	Dev uint64
	// Nlink is the number of names; further ones are looked for only where it is over 1.
	Nlink uint32
	// Xattrs are the extended attributes by full name ("user.x", "security.capability").
	Xattrs map[string][]byte
	// Mtime and Ctime, where not zero, are when the content and the inode last changed by
	// the clock of the file system of the host, whatever date the file shows. They and Dev
	// and Inode tell whether a file is as it was when [Options.Files] came to know it.
	Mtime, Ctime time.Time
}

// AttrOf returns what info.Sys() tells the writer: an *Attr as it is, a *syscall.Stat_t of
// Linux as an Attr, and otherwise nothing.
func AttrOf(info fs.FileInfo) (Attr, error) { return systemAttr(info) }

// mtime converts a date to the format's unsigned 32-bit seconds, or fails. The
// zero Time, which embed.FS and others give, is the epoch.
func mtime(t time.Time) (uint32, error) {
	date, ok := nearestMtime(t)
	if !ok {
		return 0, fmt.Errorf("%w: date %s is outside 1970 to 2106", ErrTooLarge, t.UTC().Format(time.RFC3339))
	}
	return date, nil
}

// nearestMtime also tells whether it is the date itself; one that is not set
// counts as the epoch.
func nearestMtime(t time.Time) (date uint32, same bool) {
	if t.IsZero() {
		return 0, true
	}
	s := min(max(t.Unix(), 0), math.MaxUint32)
	return uint32(s), s == t.Unix()
}
