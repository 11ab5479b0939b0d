package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
			return err
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

// findInTree returns the path in the squashfs of a file of the host: where it is
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
	if err != nil {
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

// sameContent compares a file of the tree with one of the host.
func sameContent(tree fs.FS, name string, p *payload) (bool, error) {
	a, err := tree.Open(name)
	if err != nil {
		return false, err
	}
	defer a.Close() // read only: nothing is lost with its error
	b, err := os.Open(p.host)
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
func (p *payload) file(squashfsFile string, plan *squashfs.Plan) iso.File {
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
// lie there.
func (b *isoBuild) recordInPlace(ctx context.Context) error {
	for _, p := range b.boot.payloads() {
		if p.inside == "" {
			continue
		}
		e := b.iso.Extent(p.name)
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(b.out, e.Offset, e.Size)); err != nil {
			return b.readBack(err)
		}
		f := p.file(b.squashfsFile(), b.plan)
		b.manifest.Files = append(b.manifest.Files, ManifestEntry{Path: f.Path, Size: e.Size,
			SHA256: hex.EncodeToString(h.Sum(nil)), Within: f.Within, Offset: f.Offset})
	}
	return ctx.Err()
}
