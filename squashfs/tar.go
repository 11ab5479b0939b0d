package squashfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
//     a name is an error. A path of 4096 bytes or more is an error: Linux opens none.
//   - Directories that have no entry belong to root, with mode 0755 and the date
//     1970-01-01 00:00:00.
//   - A later entry takes the place of an earlier one of its name. A directory
//     that holds something stays one: another kind of file in its place is an error.
//   - A hard link names the file that its target is when the link comes; where
//     there is none, or a directory, it is an error.
//   - An entry is never placed through a symbolic link: one that lies below
//     something other than a directory is an error. Open and Stat do follow
//     symbolic links, within the tree.
//   - Owners are the numbers in the archive; their names mean nothing.
//     Fractions of a second are cut off.
//   - Extended attributes are those of PAX's SCHILY.xattr and LIBARCHIVE.xattr,
//     and RHT.security.selinux. An access control list is shown as
//     system.posix_acl_access or _default, which squashfs does not hold.
//   - A sparse file is as long as it was, its holes zero bytes.
//
// A volume label (GNU tar -V) is left out. A file that goes on in another volume
// and entries of an unknown type are errors. So is an archive without the zero
// bytes that end it, since it may have been cut off; what follows them is
// ignored, as GNU tar does.
//
// Several archives are layers, as a container's are: a later one lies over those
// before it, and a directory in both has the later one's metadata. In layers, a
// file ".wh.NAME" is a whiteout that takes NAME of the layers below away, and
// ".wh..wh..opq" takes away all that they have in its directory; neither is
// shown. Whatever its order, a layer's whiteouts concern the layers below only.
// A hard link may name a file of a layer below. In a single archive, whiteouts
// are files like others.
//
// Memory is some 300 bytes and its name for each file.
type Tar struct {
	root    *tarNode
	count   uint64 // of nodes ever made; they number the inodes
	xattrs  tarXattrs
	opts    TarOptions
	closers []io.Closer
}

// TarOptions say how [FromTar] reads archives. The zero value is ready for use.
type TarOptions struct {
	// TempDir is the directory for what must be kept on disk while the Tar is
	// in use; "" means [os.TempDir].
	TempDir string
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
// must stay open until the Tar is closed; so is an [*io.SectionReader]. All else, and what is compressed with
// gzip, bzip2, xz or zstd, is copied, expanded, to a temporary file, whose size
// the disk alone bounds; it is removed by Close, and when FromTar fails. On Unix
// it has no name from the start, so that nothing stays behind a killed process.
//
// An archive of a container image, as docker save writes it, stands for its
// layers. It must hold one image.
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
	return &Tar{opts: opts, xattrs: tarXattrs{sets: map[[sha256.Size]byte]map[string][]byte{}}}
}

// Close removes what the Tar keeps on disk. Archives remain the caller's to close.
func (t *Tar) Close() error {
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
	var layers []tarLayer
	for i, r := range archives {
		name := archiveName(r, i, len(archives))
		src, err := t.source(ctx, r)
		if err != nil {
			return tarError(name, err)
		}
		layers = append(layers, tarLayer{name, src})
	}
	if len(layers) == 1 {
		return t.addOne(ctx, layers[0])
	}
	root, err := t.stack(ctx, layers)
	if err != nil {
		return err
	}
	t.finish(root)
	return nil
}

// addOne shows a single archive, or the layers of a single container image.
func (t *Tar) addOne(ctx context.Context, l tarLayer) error {
	root, err := t.index(ctx, l.src, nil)
	if err != nil {
		return tarError(l.name, err)
	}
	t.finish(root)
	layers, err := t.imageLayers(ctx, l.name)
	if err != nil {
		return tarError(l.name, err)
	}
	if layers == nil {
		t.warnWhiteouts()
		return nil
	}
	if root, err = t.stack(ctx, layers); err != nil {
		return err
	}
	t.finish(root)
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
