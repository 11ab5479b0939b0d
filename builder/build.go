package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"

	"github.com/isopress/isopress/iso"
	"github.com/isopress/isopress/squashfs"
)

// The files of an ISO.
const (
	kernelFile = "boot/kernel"
	initrdFile = "boot/initrd"
	storeFile  = "nix-store.squashfs" // where NixOS's initrd looks for it
	rootFile   = "rootfs.squashfs"    // where isopress-init looks for a whole root
)

// What the manifest may take beyond its size before anything is known.
const (
	moreManifest  = 64 << 10
	manifestEntry = 512 // for each kernel and initrd, and each added file but its path
)

// Build writes the source as a bootable ISO.
func Build(ctx context.Context, o Options) (*Result, error) {
	if err := o.Boot.Validate(); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	res := &Result{Output: o.Output, Manifest: o.manifest()}
	return res, writeOutput(o.target, func(out *output) error {
		defer o.close()
		tree, err := o.open(ctx)
		if err != nil {
			return err
		}
		boot, err := o.prepareBoot(ctx)
		if err != nil {
			return err
		}
		if err := o.findInPlace(ctx, tree, boot); err != nil {
			return err
		}
		plan, err := o.plan(ctx, tree, boot.rawOptions(o.squashfsOptions(), o.Boot.FAT32), boot.beside())
		if err == nil {
			err = o.checkUnchanged(boot, plan)
		}
		if err != nil {
			return err
		}
		b := &isoBuild{Options: &o, out: out, boot: boot, plan: plan, manifest: res.Manifest}
		res.Size, err = b.write(ctx)
		return err
	})
}

// squashfsPlan is what becomes the squashfs of an ISO.
type squashfsPlan interface {
	MaxSize() int64
	RawFiles() []squashfs.RawFile
	Write(ctx context.Context, w io.WriterAt) (*squashfs.Result, error)
}

// isoBuild writes one ISO.
type isoBuild struct {
	*Options
	out      *output
	boot     *bootFiles
	plan     squashfsPlan
	manifest *Manifest
	iso      *iso.Writer
}

func (b *isoBuild) write(ctx context.Context) (size int64, err error) {
	b.manifest.Boot = &b.boot.manifest
	b.manifest.Options.VolumeID = b.boot.volumeID
	b.manifest.Options.Joliet, b.manifest.Options.FAT32 = b.Boot.Joliet, b.Boot.FAT32
	if b.iso, err = b.newWriter(); err != nil {
		return 0, err
	}
	for _, step := range []func(context.Context) error{b.writeBeside, b.squashfs, b.recordInPlace, b.writeAdded} {
		if err := step(ctx); err != nil {
			return 0, err
		}
	}
	if err := b.checkUnchanged(b.boot, b.plan); err != nil {
		return 0, err
	}
	text, err := b.manifest.encode()
	if err != nil {
		return 0, err
	}
	if err := b.iso.WriteFile(ManifestFile, bytes.NewReader(text)); err != nil {
		return 0, err
	}
	// The manifest holds the digests of all the rest: its own identifies the image.
	res, err := b.iso.Finish(sha256.Sum256(text))
	if err != nil {
		return 0, err
	}
	return res.Size, nil
}

// writeBeside writes what lies beside the squashfs.
func (b *isoBuild) writeBeside(ctx context.Context) error {
	if b.boot.grub != nil {
		for _, f := range b.boot.grub.files {
			if err := b.copyIn(ctx, f.Path, bytes.NewReader(f.Text)); err != nil {
				return err
			}
		}
	}
	for _, p := range b.boot.payloads() {
		if p.inside != "" {
			continue
		}
		if err := b.payload(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) squashfsFile() string {
	if o.Source.Closure != nil {
		return storeFile
	}
	return rootFile
}

func (b *isoBuild) newWriter() (*iso.Writer, error) {
	size, err := b.maxManifest()
	if err != nil {
		return nil, err
	}
	return iso.NewWriter(b.out, b.isoOptions(b.boot, b.plan, size))
}

// maxManifest is a bound on the manifest's size.
func (b *isoBuild) maxManifest() (int64, error) {
	text, err := b.manifest.encode()
	size := int64(len(text) + moreManifest + manifestEntry*len(b.boot.payloads()))
	for _, f := range b.boot.added {
		path, _ := json.Marshal(f.Path) // a string is never an error
		size += int64(len(path)) + manifestEntry
	}
	return size, err
}

// isoOptions lay the ISO out, with a bound on the manifest's size. Without a plan
// kernel and initrd lie beside a squashfs of no size.
func (o *Options) isoOptions(b *bootFiles, plan squashfsPlan, manifest int64) iso.Options {
	opts := iso.Options{
		VolumeID: b.volumeID,
		ModTime:  o.SourceDate,
		Joliet:   o.Boot.Joliet,
		Boot:     &iso.Boot{FAT32: o.Boot.FAT32},
	}
	if b.grub != nil {
		opts.Boot.GRUB = &b.grub.images
		for _, f := range b.grub.files {
			opts.Files = append(opts.Files, iso.File{Path: f.Path, Size: int64(len(f.Text))})
		}
	} else {
		opts.Boot.Kernel, opts.Boot.Initrd, opts.Boot.Cmdline, opts.Boot.EFIStub = kernelFile, initrdFile, b.cmdline, b.efiStub
	}
	for _, p := range b.payloads() {
		opts.Files = append(opts.Files, p.file(b.squashfs, plan))
	}
	size := int64(0)
	if plan != nil {
		size = plan.MaxSize()
	}
	opts.Files = append(opts.Files, iso.File{Path: b.squashfs, Size: size, Grow: true})
	for _, f := range b.added {
		opts.Files = append(opts.Files, iso.File{Path: f.Path, Size: f.Size})
	}
	opts.Files = append(opts.Files, iso.File{Path: ManifestFile, Size: manifest, Grow: true})
	return opts
}

// checkISO finds what is wrong with the options before hours go into their image.
func (o *Options) checkISO(b *bootFiles) error {
	size := b.initrd.size
	b.initrd.size = max(size, 1) // ours is not packed yet
	opts := o.isoOptions(b, nil, 0)
	b.initrd.size = size
	if _, err := iso.NewWriter(nil, opts); err != nil {
		return OptionError{b.hostNames(err)}
	}
	return nil
}

// payload copies a kernel or an initrd into the ISO.
func (b *isoBuild) payload(ctx context.Context, p *payload) error {
	r, err := p.open()
	if err != nil {
		return err
	}
	defer r.Close() // read only: nothing is lost with its error
	return b.copyIn(ctx, p.name, r)
}

// copyIn writes a file of the ISO and records it.
func (b *isoBuild) copyIn(ctx context.Context, name string, r io.Reader) error {
	h := sha256.New()
	if err := b.iso.WriteFile(name, io.TeeReader(r, h)); err != nil {
		return err
	}
	b.manifest.Files = append(b.manifest.Files, ManifestEntry{Path: name, Size: b.iso.Extent(name).Size, SHA256: hex.EncodeToString(h.Sum(nil))})
	return ctx.Err()
}

// squashfs writes the squashfs straight into its extent.
func (b *isoBuild) squashfs(ctx context.Context) error {
	name := b.boot.squashfs
	var info *squashfs.Result
	err := b.iso.Stream(name, func(w io.WriterAt) (int64, error) {
		var err error
		if info, err = b.plan.Write(ctx, w); err != nil {
			return 0, err
		}
		return info.Size, nil
	})
	if err != nil {
		return b.hint(err)
	}
	entry, err := b.entry(ctx, b.out, name, b.iso.Extent(name).Offset, info)
	if err != nil {
		return err
	}
	b.manifest.Files = append(b.manifest.Files, entry)
	return nil
}

// writeAdded writes the files that were added, and reads them back for their digests.
func (b *isoBuild) writeAdded(ctx context.Context) error {
	for _, f := range b.boot.added {
		if err := b.iso.Stream(f.Path, f.Write); err != nil {
			return err
		}
		e, h := b.iso.Extent(f.Path), sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(b.out, e.Offset, e.Size)); err != nil {
			return b.readBack(err)
		}
		b.manifest.Files = append(b.manifest.Files, ManifestEntry{Path: f.Path, Size: e.Size, SHA256: hex.EncodeToString(h.Sum(nil))})
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
