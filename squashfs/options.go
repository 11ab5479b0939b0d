package squashfs

import (
	"cmp"
	"fmt"
	"io/fs"
	"math/bits"
	"runtime"
	"time"

	"github.com/isopress/isopress/internal/codec"
)

// DefaultBlockSize is the block size where [Options.BlockSize] is 0.
const DefaultBlockSize = 1 << 20

// DefaultMemory is the bound on block buffers where [Options.Memory] is 0.
const DefaultMemory = 256 << 20

// Options say how to write an image. The zero value is ready for use: zstd 19,
// 1 MiB blocks, owners, dates, hard links and xattrs kept as they are.
//
// Workers, Memory, Blocks, Base, Trees, Files, Progress and Warn do not change the image.
type Options struct {
	// Compression of data and metadata; the zero value is zstd:19.
	Compression Compression
	// BlockSize in bytes: a power of two from [MinBlockSize] to [MaxBlockSize].
	// 0 means [DefaultBlockSize].
	BlockSize int
	// Order says which small files and tails lie together; the zero value is
	// [OrderDefault].
	Order Order
	// RootOrder, where not nil, says for a name in the root what its contents and inodes
	// are placed by, instead of by that name: a store path by its name without the hash, so
	// that a path that is built anew stays where it was.
	RootOrder func(name string) Place
	// Volatile, where not empty, is a string that what refers to other files has in it, such as
	// "/nix/store/", and which therefore changes when these are renamed. Small files and
	// tails that contain it share blocks with each other only, behind the others: so a
	// renaming leaves the other blocks as they were. Whole blocks are not looked at.
	Volatile string
	// NoFragments keeps small files and the tails of large ones in blocks of
	// their own rather than packed together.
	NoFragments bool
	// NoExport leaves out the table that NFS needs.
	NoExport bool
	// Raw are paths of regular files, slash-separated and relative to the root, whose
	// contents lie in this order at the head of the image's data: stored as they are,
	// each in one piece, at a multiple of RawAlign. So they can be read without
	// knowing squashfs, as a boot loader does; [Plan.RawFiles] says where they are.
	Raw []string
	// RawAlign is a power of two of bytes, up to [MaxBlockSize]; 0 means 1.
	RawAlign int64

	// ModTime is the image's own date, from 1970 to 2106. The zero value is the epoch.
	ModTime time.Time
	// MaxModTime, where not zero, is the latest date that a file keeps, from 1970
	// to 2106: a later one becomes this one, as SOURCE_DATE_EPOCH asks for.
	//
	// A file's date is kept in whole seconds from 1970-01-01 00:00:00 to 2106-02-07
	// 06:28:15 UTC. Another one becomes the nearest of these, and Warn is told; a
	// zero Time, which embed.FS gives, is the epoch.
	MaxModTime time.Time
	// AllRoot makes user and group 0 the owner of everything.
	AllRoot bool
	// NoHardLinks gives each name an inode of its own (the content is shared
	// all the same), so that links made by a store's optimiser change nothing.
	NoHardLinks bool
	// NoXattrs leaves extended attributes out.
	NoXattrs bool
	// Exclude, where not nil, leaves out each path for which it is true, a
	// directory with all that is in it. Paths are slash-separated, relative to the
	// root. It is called from one goroutine, in the order of the sorted names.
	Exclude func(path string, d fs.DirEntry) bool

	// Workers is the number of compressing goroutines; 0 means one a CPU.
	Workers int
	// Memory bounds the buffers of blocks in flight, in bytes; 0 means
	// [DefaultMemory]. Where it has no room for a pair of blocks a worker and
	// one more, there are fewer workers; two pairs are the least that is used.
	// The codec's own state and the index of the tree come on top.
	Memory int64
	// Blocks, where not nil, keeps compressed blocks, those of tables too, and which
	// contents are alike: of the blocks that it has, nothing is read and compressed
	// again. The image is the same with it and without.
	Blocks Cache
	// Base, where not nil, is an image to take blocks from that are the same in both.
	// The image is the same with it and without.
	Base *Base
	// BlockList adds a list of the blocks behind the image, so that it can be a Base:
	// about 26 bytes a block, rounded up to 4 KiB, where it has four blocks or more.
	BlockList bool
	// Sketches has files sketched whatever the order, as OrderSimilar needs them: so that what Trees keeps
	// serves plans of all orders.
	Sketches bool
	// Trees, where not nil, keeps what is known of files that are known not to
	// have changed: these are not read for the plan. It is not used with Exclude.
	Trees Cache
	// TreeKey says for a path, slash-separated and relative to the root, what names
	// the state of it and all below it, such as a hash of that; "" is not known.
	TreeKey func(path string) string
	// TreeCheck, where not nil, says what is to see the tree at a path that TreeKey named
	// before Trees keeps it; nil is nothing. It is called from one goroutine, and what it
	// returns by another one, each in one at a time.
	TreeCheck func(path string) TreeCheck
	// Files, where not nil, keeps what is known of contents by the state of their files:
	// a file whose device, inode number, size, Mtime and Ctime (see [Attr]) are those of
	// the last time is not read for the plan. Trees goes first.
	//
	// Kept is only what was read while the file's state stood still, and had done so for
	// two seconds: what changes later has another Ctime then. A file of no Ctime, or of one
	// in whole seconds, as file systems show that keep none, is always read. What cannot be
	// seen is a change by which Ctime does not change: one through a mapping of the file
	// that is not synced, or below the file system, or with a clock that was set back.
	Files Cache
	// Progress, where not nil, is told how far the work is.
	//
	// Progress and Warn are called from several goroutines, but never two at once,
	// whether of one or of both: they share a lock. The work waits for them.
	Progress func(Progress)
	// Warn, where not nil, is told of what the image cannot hold: xattrs of other
	// namespaces than user, trusted and security, which are left out, and dates
	// outside of 1970 to 2106. It is called once for each such thing, with the first
	// file that has it and the number of others. It is told as well of each tree that a
	// TreeCheck refused, and of damage to a Base.
	Warn func(path, msg string)

	now func() time.Time // for tests; nil is time.Now
}

// Place is where in an image something lies: by Rank, then by Name.
type Place struct {
	// Rank is the higher the more often something changes: what changes moves what lies
	// behind it. Small files and tails of different ranks share no block.
	Rank int
	Name string
}

func comparePlaces(a, b Place) int {
	return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Name, b.Name))
}

// Order says which small files and tails of large files share a fragment block.
type Order int

const (
	// OrderDefault is OrderSimilar, and OrderDirectory for the fast compressions:
	// lz4, none, and zstd below level 3.
	OrderDefault Order = iota
	// OrderSimilar lets those that are alike lie together, where the first of them
	// would. The image is smaller; a reader of a directory may need more blocks.
	OrderSimilar
	// OrderDirectory keeps the order of directories and names.
	OrderDirectory
)

var orders = map[string]Order{"similar": OrderSimilar, "directory": OrderDirectory}

// ParseOrder reads "similar" or "directory".
func ParseOrder(s string) (Order, error) {
	if o, ok := orders[s]; ok {
		return o, nil
	}
	return 0, fmt.Errorf("squashfs: order %q: use similar or directory", s)
}

// String is the form that [ParseOrder] reads, or "default".
func (o Order) String() string {
	for s, order := range orders {
		if o == order {
			return s
		}
	}
	return "default"
}

// Stage is a phase of writing an image.
type Stage int

// The stages, in their order.
const (
	StageScan  Stage = iota // listing directories; Done counts names
	StageHash               // reading and hashing contents; Done and Total count bytes
	StageWrite              // compressing and writing; Done and Total count bytes read
)

// Progress is how far the work is.
type Progress struct {
	Stage       Stage
	Done, Total int64 // Total is 0 where it is not known
	Written     int64 // bytes of image so far
}

// Validate reports what is wrong with the options themselves. [Prepare] and
// [Write] do so, too.
func (o Options) Validate() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults returns a copy with the zero values filled in, or what is wrong.
func (o Options) withDefaults() (Options, error) {
	o.Compression = o.Compression.withDefault()
	if o.Order == OrderDefault {
		o.Order = o.Compression.DefaultOrder()
	}
	if o.Order < OrderDefault || o.Order > OrderDirectory {
		return o, fmt.Errorf("squashfs: order %d: must be OrderSimilar or OrderDirectory", o.Order)
	}
	if o.BlockSize == 0 {
		o.BlockSize = DefaultBlockSize
	}
	if o.BlockSize < MinBlockSize || o.BlockSize > MaxBlockSize || bits.OnesCount(uint(o.BlockSize)) != 1 {
		return o, fmt.Errorf("squashfs: block size %d: must be a power of two from 4 KiB to 1 MiB", o.BlockSize)
	}
	if err := o.Compression.check(o.BlockSize); err != nil {
		return o, err
	}
	// What the engine lacks is better known before the tree is read.
	block, err := o.newBlock()
	if err != nil {
		return o, err
	}
	block.Close()
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Workers < 1 {
		return o, fmt.Errorf("squashfs: %d workers: must be 1 or more", o.Workers)
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Memory < 0 {
		return o, fmt.Errorf("squashfs: memory bound %d: must be positive", o.Memory)
	}
	if o.RawAlign == 0 {
		o.RawAlign = 1
	}
	if o.RawAlign < 1 || o.RawAlign > MaxBlockSize || o.RawAlign&(o.RawAlign-1) != 0 {
		return o, fmt.Errorf("squashfs: raw files at multiples of %d: must be a power of two up to 1 MiB", o.RawAlign)
	}
	o.Workers = int(min(int64(o.Workers), max(o.Memory/int64(2*o.BlockSize)-1, 1)))
	if _, err := mtime(o.ModTime); err != nil {
		return o, fmt.Errorf("squashfs: image date: %w", err)
	}
	if _, err := mtime(o.MaxModTime); err != nil {
		return o, fmt.Errorf("squashfs: latest date of files: %w", err)
	}
	return o, nil
}

// flags of the superblock that the options decide.
func (o *Options) flags() uint16 {
	f := uint16(flagDuplicates)
	if !o.NoExport {
		f |= flagExportable
	}
	if o.NoFragments {
		f |= flagNoFragments
	} else {
		f |= flagAlwaysFragments
	}
	if o.Compression.spec.Algorithm == codec.None {
		f |= flagUncompressedInodes | flagUncompressedData | flagUncompressedFragments |
			flagUncompressedXattrs | flagUncompressedIDs
	}
	return f
}
