package squashfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
)

// Tar shows what one or more tar archives hold as a file system, for [Write] or
// for any other use of an [io/fs.FS]. Contents are read in place, at random and
// from several goroutines at once; nothing is unpacked but what is compressed or
// comes from a pipe. Make one with [TarFS] or [FromTar].
//
// It shows what unpacking the archive as root into an empty directory would
// leave there:
//
//   - Leading slashes, "./" and trailing slashes of names mean nothing; ".." in
//     a name is an error. A path of 4096 bytes or more is an error, as is such a
//     target of a symbolic link: Linux opens none.
//   - Directories that have no entry belong to root, with mode 0755 and the date
//     1970-01-01 00:00:00. On the whole there may be 4096 of them and 64 more for
//     each entry.
//   - A later entry takes the place of an earlier one of its name. A directory
//     that holds something stays one: another kind of file in its place is an error.
//   - Where the directory of an entry's name, or of a hard link's target, is
//     reached through symbolic links, they are followed, and never lead out of the
//     tree: an absolute target starts at the root, and so does a ".." too many.
//     More than 40 links are an error; a directory that they lead to and that is
//     not there is made. The name itself is not followed: a directory's entry
//     takes the place of a symbolic link.
//   - A hard link names the file that its target is when the link comes; where
//     there is none, or a directory, it is an error.
//   - Owners are the numbers in the archive; their names mean nothing.
//     Fractions of a second are cut off.
//   - Extended attributes are those of PAX's SCHILY.xattr and LIBARCHIVE.xattr,
//     and RHT.security.selinux. An access control list is shown as
//     system.posix_acl_access or _default, which squashfs does not hold.
//   - A sparse file is as long as it was, its holes zero bytes, of which
//     [TarOptions.MaxHoles] bounds the sum.
//
// A volume label (GNU tar -V) is left out. A file that goes on in another volume
// and entries of an unknown type are errors. So is an archive without the zero
// bytes that end it, since it may have been cut off; what follows them is
// ignored, as GNU tar does.
//
// Several archives are layers, as a container's are. Their entries are placed in
// the tree that those before have left, as above and as containerd and docker do:
// a directory in both has the later one's metadata, and where one layer has the
// link "bin" to "usr/bin", the "bin/tool" of a later one is "usr/bin/tool". Any
// file takes the place of a directory of the layers below. In layers, a file
// ".wh.NAME" of any type is a whiteout that takes NAME of the layers below away,
// and ".wh..wh..opq" takes away all that they have in its directory; neither is
// shown. What an earlier entry of the same layer made stays. Other names that
// begin with ".wh..wh." are left out. A hard link may name a file of a layer below.
// In a single archive, whiteouts are files like others.
//
// Memory is some 300 bytes and its name for each file.
type Tar struct {
	root    *tarNode
	count   uint64 // of nodes ever made; they number the inodes
	xattrs  tarXattrs
	opts    TarOptions
	closers []io.Closer
	closed  atomic.Bool
	dirs    *lruCache[string, *tarNode] // by paths without links

	layer   uint32 // number of the archive that is read
	entries int64  // read so far
	implied int64  // directories made without an entry
	stored  int64  // bytes of all archives
	sparse  int64  // bytes of all sparse files, holes included
}

// What a Tar keeps of the paths that were opened last, in bytes: opening one
// after the other the files of a deep tree must not go through all of it each time.
const tarDirCache = 4 << 20

// DefaultMaxHoles is the bound where [TarOptions.MaxHoles] is 0.
const DefaultMaxHoles = 1 << 40

// TarOptions say how [FromTar] reads archives. The zero value is ready for use.
type TarOptions struct {
	// TempDir is the directory for what must be kept on disk while the Tar is
	// in use; "" means [os.TempDir].
	TempDir string
	// MaxHoles bounds the holes of all sparse files together, in bytes: a few
	// bytes of archive can tell of any number, and each is read when an image is
	// written. 0 means [DefaultMaxHoles].
	MaxHoles int64
	// Progress, where not nil, is told how many bytes of a pipe or of a
	// compressed archive were read, and of how many; 0 where that is not known.
	Progress func(done, total int64)
	// Warn, where not nil, is told of what may not be what was meant.
	Warn func(path, msg string)
}

// TarFS shows an archive of size bytes that is not compressed. r must be safe for
// concurrent use, and is read until the Tar is no longer used.
func TarFS(r io.ReaderAt, size int64) (*Tar, error) {
	t := newTar(TarOptions{})
	root, err := t.index(context.Background(), tarSource{r, size}, nil)
	if err != nil {
		return nil, tarError("archive", err)
	}
	t.finish(root)
	return t, nil
}

// FromTar shows archives, compressed or not, from pipes or files. Later archives
// lie over earlier ones, as [Tar] tells.
//
// An [*os.File] that is a regular file is read in place from its offset on, and
// must stay open until the Tar is closed; so is an [*io.SectionReader]. All else,
// and what is compressed with gzip, bzip2, xz or zstd, is copied, expanded, to a
// temporary file, whose size the disk alone bounds; it is removed by Close, and
// when FromTar fails. On Unix it has no name from the start, so that nothing stays
// behind a killed process.
//
// An archive of a container image, as docker save writes it, stands for its
// layers, in its place among the archives. It must hold one image, with all of its
// layers. An OCI image layout without docker's manifest.json is an error.
//
// When ctx ends, FromTar returns at once, even where a reader blocks; that reader
// may be read once more then.
func FromTar(ctx context.Context, opts TarOptions, archives ...io.Reader) (*Tar, error) {
	if len(archives) == 0 {
		return nil, errors.New("squashfs: no tar archive")
	}
	t := newTar(opts)
	if err := t.addAll(ctx, archives); err != nil {
		t.Close() // the first error tells more
		return nil, err
	}
	return t, nil
}

func newTar(opts TarOptions) *Tar {
	if opts.MaxHoles == 0 {
		opts.MaxHoles = DefaultMaxHoles
	}
	return &Tar{opts: opts, xattrs: tarXattrs{sets: map[[sha256.Size]byte]map[string][]byte{}},
		dirs: newLRUCache[string, *tarNode](tarDirCache)}
}

// Close removes what the Tar keeps on disk; it can be opened no more. Archives
// remain the caller's to close.
func (t *Tar) Close() error {
	t.closed.Store(true)
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c.Close())
	}
	t.closers = nil
	return errors.Join(errs...)
}

// tarSource is an archive that can be read at random.
type tarSource struct {
	r    io.ReaderAt
	size int64
}

func (t *Tar) addAll(ctx context.Context, archives []io.Reader) error {
	var sources []tarLayer
	for i, r := range archives {
		name := archiveName(r, i, len(archives))
		src, err := t.source(ctx, r)
		if err != nil {
			return tarError(name, err)
		}
		sources = append(sources, tarLayer{name, src})
	}
	if len(sources) == 1 {
		return t.addOne(ctx, sources[0])
	}
	var layers []tarLayer
	for _, l := range sources {
		inner, err := t.expand(ctx, l)
		if err != nil {
			return tarError(l.name, err)
		}
		layers = append(layers, inner...)
	}
	return t.stack(ctx, layers)
}

// addOne shows a single archive, or the layers of a single container image.
func (t *Tar) addOne(ctx context.Context, l tarLayer) error {
	root, err := t.index(ctx, l.src, nil)
	if err != nil {
		return tarError(l.name, err)
	}
	layers, err := t.imageLayers(ctx, root, l.name)
	if err != nil {
		return tarError(l.name, err)
	}
	if layers != nil {
		return t.stack(ctx, layers)
	}
	t.finish(root)
	t.warnWhiteouts()
	return nil
}

// finish makes root the tree that is shown.
func (t *Tar) finish(root *tarNode) {
	t.root = root
	root.eachNode(func(n *tarNode) { n.nlink = 0 })
	root.eachNode(func(n *tarNode) { n.nlink++ })
	t.xattrs.sets = nil // only of use while archives are read
}

// archiveName is how errors name an archive.
func archiveName(r io.Reader, i, of int) string {
	if f, ok := r.(*os.File); ok {
		return f.Name()
	}
	if of == 1 {
		return "archive"
	}
	return fmt.Sprintf("archive %d", i+1)
}

// tarError is err as all errors about an archive read.
func tarError(archive string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("squashfs: %s: %w", archive, err)
}

var (
	_ fs.ReadDirFS  = (*Tar)(nil)
	_ fs.StatFS     = (*Tar)(nil)
	_ fs.ReadLinkFS = (*Tar)(nil)
)
