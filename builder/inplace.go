package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/isopress/isopress/internal/hostroot"
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/iso"
	"github.com/isopress/isopress/squashfs"
)

// Kernel and initrd that are files of the closure or tree lie in the squashfs as
// they are, and nowhere else: the ISO's files and the EFI system partition's map
// point into it.

// findInPlace finds which of the files that boot the squashfs has anyway.
func (o *Options) findInPlace(ctx context.Context, tree fs.FS, b *bootFiles) error {
	for _, p := range b.payloads() {
		if p.host == "" {
			continue // packed by ourselves
		}
		var err error
		if p.inside, err = o.findInTree(ctx, tree, p); err != nil {
			return o.hint(fmt.Errorf("looking for %s in what is pressed: %w", p.host, err))
		}
	}
	return nil
}

// checkUnchanged finds files that are no longer as they were when they were looked at,
// and those of the squashfs that are not like them any more. Inode numbers are not
// compared: not every file system of the host keeps them.
func (o *Options) checkUnchanged(b *bootFiles, plan squashfsPlan) error {
	for _, p := range b.payloads() {
		if p.host == "" {
			continue
		}
		info, err := os.Stat(p.host)
		if err != nil {
			return err
		}
		if info.Size() != p.size || !info.ModTime().Equal(p.info.ModTime()) {
			return o.hint(fmt.Errorf("%s: %w", p.host, squashfs.ErrChanged))
		}
		for _, r := range plan.RawFiles() {
			if r.Path == p.inside && r.Size != p.size {
				return o.hint(fmt.Errorf("%s: %w", p.inside, squashfs.ErrChanged))
			}
		}
	}
	return nil
}

// raw are the files that the squashfs is to have as they are.
func (b *bootFiles) raw() []string {
	var names []string
	for _, p := range b.payloads() {
		if p.inside != "" {
			names = append(names, p.inside)
		}
	}
	return names
}

// rawOptions has the squashfs store them where the EFI system partition can map them.
func (b *bootFiles) rawOptions(opts squashfs.Options, fat32 bool) squashfs.Options {
	opts.Raw = b.raw()
	size := int64(0)
	for _, p := range b.payloads() {
		size += p.size
	}
	if b.grub != nil {
		size = 0 // the EFI system partition does not map them
	}
	if len(opts.Raw) > 0 {
		opts.RawAlign = iso.ClusterSize(size, fat32)
	}
	return opts
}

// beside is how much of them lies in the ISO beside the squashfs.
func (b *bootFiles) beside() int64 {
	size := int64(0)
	for _, p := range b.payloads() {
		if p.inside == "" {
			size += p.size
		}
	}
	return size
}

// findInTree returns the path in the squashfs of a kernel or an initrd: where it is
// known to be, else where a file of the same content is. It is "" where none is.
func (o *Options) findInTree(ctx context.Context, tree fs.FS, p *payload) (string, error) {
	if name := o.treePath(p.host); name != "" && o.kept(tree, name) {
		return name, nil
	}
	found := ""
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case o.excluder.exclude(name, d) && d.IsDir():
			return fs.SkipDir
		case !d.Type().IsRegular() || o.excluder.exclude(name, d):
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() != p.size {
			return err
		}
		same, err := sameContent(tree, name, p)
		if err != nil || !same {
			return err
		}
		found = name
		return fs.SkipAll
	})
	return found, err
}

// treePath is the name that a file of the host has in the squashfs by its place,
// or "".
func (o *Options) treePath(host string) string {
	root, prefix := o.Source.Root, ""
	if c := o.Source.Closure; c != nil {
		root, prefix = string(c.root), strings.TrimPrefix(nix.StoreDir, "/")+"/"
	}
	dir, err := hostroot.New(root)
	if err != nil || root == "" {
		return ""
	}
	real, err := dir.Resolve(host)
	if err != nil || !sameFile(host, real) {
		return ""
	}
	rel, err := filepath.Rel(string(dir), real)
	if err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	name, ok := strings.CutPrefix(filepath.ToSlash(rel), prefix)
	if !ok || o.Source.Closure != nil && !o.Source.Closure.has("/"+prefix+name) {
		return ""
	}
	return name
}

// sameFile tells whether the host finds the file real by the name host: in a tree, an
// absolute symlink leads to another place.
func sameFile(host, real string) bool {
	a, errA := os.Stat(host)
	b, errB := os.Lstat(real)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// kept tells whether a path of the tree is a regular file, and neither it nor a
// directory above it is excluded.
func (o *Options) kept(tree fs.FS, name string) bool {
	for i := 0; ; i++ {
		next := strings.IndexByte(name[i:], '/')
		if i += next; next < 0 {
			i = len(name)
		}
		info, err := fs.Lstat(tree, name[:i])
		if err != nil || o.excluder.exclude(name[:i], fs.FileInfoToDirEntry(info)) {
			return false
		}
		if i == len(name) {
			return info.Mode().IsRegular()
		}
	}
}

// sameContent compares a file of the tree with a kernel or an initrd.
func sameContent(tree fs.FS, name string, p *payload) (bool, error) {
	a, err := tree.Open(name)
	if err != nil {
		return false, err
	}
	defer a.Close() // read only: nothing is lost with its error
	b, err := p.open()
	if err != nil {
		return false, err
	}
	defer b.Close()
	return sameBytes(a, b)
}

// same tells whether two files of the host are one, or copies of one.
func (p *payload) same(q *payload) (bool, error) {
	if os.SameFile(p.info, q.info) {
		return true, nil
	}
	if p.size != q.size {
		return false, nil
	}
	a, err := p.open()
	if err != nil {
		return false, err
	}
	defer a.Close() // read only: nothing is lost with its error
	b, err := q.open()
	if err != nil {
		return false, err
	}
	defer b.Close()
	return sameBytes(a, b)
}

func sameBytes(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if !bytes.Equal(bufA[:n], bufB[:m]) || errA != errB {
			return false, nil
		}
		if errA != nil {
			return true, nil
		}
	}
}

// file is the payload as a file of the ISO: in the squashfs, where a plan has it
// there.
func (p *payload) file(squashfsFile string, plan squashfsPlan) iso.File {
	f := iso.File{Path: p.name, Size: p.size}
	if plan == nil {
		return f
	}
	for _, r := range plan.RawFiles() {
		if r.Path == p.inside {
			f.Within, f.Offset = squashfsFile, r.Offset
		}
	}
	return f
}

// recordInPlace records the payloads that were written with the squashfs, as they
// lie there, and compares them with the files that were given.
func (b *isoBuild) recordInPlace(ctx context.Context) error {
	for _, p := range b.boot.payloads() {
		if p.inside == "" {
			continue
		}
		given, err := p.open()
		if err != nil {
			return err
		}
		e, h := b.iso.Extent(p.name), sha256.New()
		same, err := sameBytes(given, io.TeeReader(io.NewSectionReader(b.out, e.Offset, e.Size), h))
		given.Close() // read only: nothing is lost with its error
		if err != nil {
			return b.readBack(err)
		}
		if !same {
			return b.hint(fmt.Errorf("%s: %w", p.inside, squashfs.ErrChanged))
		}
		f := p.file(b.boot.squashfs, b.plan)
		b.manifest.Files = append(b.manifest.Files, ManifestEntry{Path: f.Path, Size: e.Size,
			SHA256: hex.EncodeToString(h.Sum(nil)), Within: f.Within, Offset: f.Offset})
	}
	return ctx.Err()
}
