package squashfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isopress/isopress/internal/codec"
)

// ErrUnsupported is wrapped by errors about an image that is in order as far as
// can be seen, but of another version of squashfs than 4.0, big-endian, or
// compressed in a way that is not known here or that takes too much memory.
var ErrUnsupported = codec.ErrUnsupported

// What a Reader keeps expanded, in bytes. Metadata has a cache of its own, so
// that reading large files does not push out the directories.
const (
	readerMetaCache = 8 << 20
	readerDataCache = 32 << 20
	readerDirCache  = 4 << 20
)

// Reader reads a squashfs 4.0 image as a file system, on demand: it implements [fs.FS],
// [fs.StatFS], [fs.ReadDirFS], [fs.ReadFileFS] and [fs.ReadLinkFS], and
// [Reader.Xattrs] besides. It is safe for concurrent use.
//
// Open, Stat, ReadDir and ReadFile follow symbolic links; Lstat, ReadLink and
// Xattrs do not follow the last one of a path. Links never lead out of the
// image: an absolute target starts at the image's root, and so does a ".." too
// many. A path with more than 40 links is an error.
//
// Names are those of [fs.ValidPath], except that they need not be UTF-8: Linux
// names are bytes. [fs.FileInfo]'s Sys returns an [*Attr], its Xattrs nil.
//
// An image need not be trusted: what contradicts itself or its size gives an
// error that wraps [ErrCorrupt]. So do names that are not in strictly ascending
// order, since searches rely on it, in the kernel too, an index of a directory
// that does not name what is there, and directories reached by two names, since
// a walk over them might never end. The expanded blocks kept
// are bounded; beyond them a Reader remembers about 50 bytes for each directory
// it went through. Nothing bounds what a file's content is expanded to but the
// size it says, which may be far more than the image's: limit what you read.
type Reader struct {
	src    io.ReaderAt
	dev    uint64 // [Attr.Dev] of all files
	sb     *superblock
	info   Superblock
	ids    []uint32
	frags  readerTable
	export readerTable
	xattrs readerXattrs
	dirEnd uint64 // where the directory table must have ended
	root   *readerInode

	decoders sync.Pool // of *readerDecoder
	meta     *lruCache[uint64, *readerMeta]
	data     *lruCache[readerBlock, []byte]
	marks    *lruCache[inodeRef, []readerMark]

	mu     sync.Mutex
	places map[inodeRef]readerPlace
}

// Superblock is what an image says of itself.
type Superblock struct {
	Compression Algorithm
	Options     CompressorOptions
	BlockSize   int
	Modified    time.Time // when the image was made
	BytesUsed   int64     // the image's length without padding
	Inodes      int64
	Fragments   int64 // fragment blocks
	IDs         int   // distinct users and groups
	XattrIDs    int64 // distinct sets of extended attributes

	Exportable            bool // has the table that NFS export needs
	Deduplicated          bool
	NoFragments           bool
	AlwaysFragments       bool
	NoXattrs              bool
	UncompressedInodes    bool // with directories
	UncompressedData      bool
	UncompressedFragments bool
	UncompressedXattrs    bool
	UncompressedIDs       bool
}

// readers counts those ever made, and so tells their files apart: no kernel has
// a device number of 64 bits that begins with a one, which is theirs.
var readers atomic.Uint64

const firstReaderDev = 1<<63 - 1

// NewReader reads the superblock and the small tables of the image that is at
// the start of r. The size is that of r in bytes; the image may be shorter, as
// one padded or followed by something else is. The Reader does not close r.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	rd := &Reader{
		src:    r,
		dev:    firstReaderDev + readers.Add(1),
		meta:   newLRUCache[uint64, *readerMeta](readerMetaCache),
		data:   newLRUCache[readerBlock, []byte](readerDataCache),
		marks:  newLRUCache[inodeRef, []readerMark](readerDirCache),
		places: make(map[inodeRef]readerPlace),
	}
	for _, step := range []func() error{
		func() error { return rd.readSuperblock(size) },
		rd.openDecoder,
		rd.readOptions,
		rd.readTables,
		rd.readRoot,
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("squashfs: %w", err)
		}
	}
	return rd, nil
}

// ReadCloser is a [Reader] of a file that Close closes.
type ReadCloser struct {
	*Reader
	f *os.File
}

// OpenReader opens the image in the named file or block device, to be closed
// with [ReadCloser.Close]. An image within another file, such as an ISO 9660
// image, is opened with [NewReader] on an [io.SectionReader].
func OpenReader(name string) (*ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	// Stat would call a block device empty.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := NewReader(f, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return &ReadCloser{Reader: r, f: f}, nil
}

// Close closes the file; the Reader is then of no use.
func (r *ReadCloser) Close() error { return r.f.Close() }

// Superblock returns what the image says of itself.
func (r *Reader) Superblock() Superblock { return r.info }

func (r *Reader) readSuperblock(size int64) error {
	if size < superblockSize {
		return fmt.Errorf("%w: %d bytes are too few for an image", ErrCorrupt, size)
	}
	b := make([]byte, superblockSize)
	if err := r.readAt(b, 0); err != nil {
		return err
	}
	sb, err := decodeSuperblock(b)
	if err != nil {
		return err
	}
	r.sb = sb
	r.info = sb.info()
	return sb.check(uint64(size))
}

// check compares the superblock with itself and with the image's size, as
// squashfs_fill_super in the kernel's fs/squashfs/super.c does.
func (s *superblock) check(size uint64) error {
	switch {
	case s.blockLog < minBlockLog || s.blockLog > maxBlockLog || s.blockSize != 1<<s.blockLog:
		return fmt.Errorf("%w: block size %d (log %d)", ErrCorrupt, s.blockSize, s.blockLog)
	case s.bytesUsed > size:
		return fmt.Errorf("%w: cut off: %d bytes long, should be %d", ErrCorrupt, size, s.bytesUsed)
	case s.root.offset() >= metadataSize:
		return fmt.Errorf("%w: root inode at offset %d of its block", ErrCorrupt, s.root.offset())
	case s.ids == 0:
		return fmt.Errorf("%w: no user and group ids", ErrCorrupt)
	}
	return s.checkOrder()
}

// checkOrder: the kernel mounts only an image whose tables are in this order.
func (s *superblock) checkOrder() error {
	last := uint64(superblockSize)
	for _, t := range []struct {
		name   string
		start  uint64
		absent bool
	}{
		{"inode table", s.inodeTable, false},
		{"directory table", s.dirTable, false},
		{"fragment table", s.fragTable, s.fragments == 0},
		{"export table", s.export, s.export == invalidBlock},
		{"id table", s.idTable, false},
		{"xattr table", s.xattrTable, s.xattrTable == invalidBlock},
	} {
		if t.absent {
			continue
		}
		if t.start < last || t.start >= s.bytesUsed {
			return fmt.Errorf("%w: %s at %d, not between %d and %d", ErrCorrupt, t.name, t.start, last, s.bytesUsed)
		}
		last = t.start
	}
	if s.inodeTable == s.dirTable {
		return fmt.Errorf("%w: empty inode table", ErrCorrupt)
	}
	return nil
}

func (s *superblock) info() Superblock {
	has := func(flag uint16) bool { return s.flags&flag != 0 }
	return Superblock{
		Compression:           s.algorithm,
		BlockSize:             int(s.blockSize),
		Modified:              time.Unix(int64(s.mkfsTime), 0).UTC(),
		BytesUsed:             int64(min(s.bytesUsed, math.MaxInt64)),
		Inodes:                int64(s.inodes),
		Fragments:             int64(s.fragments),
		IDs:                   int(s.ids),
		Exportable:            s.export != invalidBlock,
		Deduplicated:          has(flagDuplicates),
		NoFragments:           has(flagNoFragments),
		AlwaysFragments:       has(flagAlwaysFragments),
		NoXattrs:              has(flagNoXattrs),
		UncompressedInodes:    has(flagUncompressedInodes),
		UncompressedData:      has(flagUncompressedData),
		UncompressedFragments: has(flagUncompressedFragments),
		UncompressedXattrs:    has(flagUncompressedXattrs),
		UncompressedIDs:       has(flagUncompressedIDs),
	}
}

// readRoot reads the inode that every path starts from.
func (r *Reader) readRoot() error {
	root, err := r.readInode(r.sb.root)
	if err != nil {
		return fmt.Errorf("root inode: %w", err)
	}
	if root.typ.basic() != typeDir {
		return fmt.Errorf("%w: the root is not a directory", ErrCorrupt)
	}
	r.root = root
	r.places[root.ref] = readerPlace{}
	return nil
}

// readerError puts err into the form that [fs.FS] asks for.
func readerError(op, name string, err error) error {
	switch err {
	case nil:
		return nil
	case io.EOF, fs.ErrNotExist, fs.ErrInvalid, fs.ErrClosed:
	default:
		err = fmt.Errorf("squashfs: %w", err)
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
