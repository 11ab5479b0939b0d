package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/isopress/isopress/iso"
	"github.com/isopress/isopress/squashfs"
)

// An ISO that isopress made is built anew, from what its manifest says and its files hold: kernel and initrd lie in
// the squashfs, which is pressed anew, and the EFI system partition's map leads there.

// own presses an image of ours.
func (r *repack) own(ctx context.Context, out *output, image *ownImage) error {
	if err := r.verify(ctx, image); err != nil {
		return err
	}
	r.takeOptions(image.manifest)
	boot, err := r.ownBoot(image)
	if err != nil {
		return err
	}
	end, err := r.ownAdded(image, boot)
	if err != nil {
		return err
	}
	defer end()
	plan, info, err := r.ownPlan(ctx, image, boot)
	if err != nil {
		return err
	}
	m := r.manifest()
	m.StorePaths = image.manifest.StorePaths
	b := &isoBuild{Options: &r.Options, out: out, boot: boot, plan: plan, manifest: m}
	if r.result.Size, err = b.write(ctx); err != nil {
		return err
	}
	for _, f := range m.Files {
		if f.Squashfs != nil && !r.KeepSquashfs {
			info.Result = f.Squashfs
			r.result.Squashfs = append(r.result.Squashfs, *info)
		}
	}
	r.result.MediaSum, err = image.RenewMediaSum(ctx, out, r.result.Size)
	return err
}

// verify compares all files with their digests in the manifest: damage is not to be pressed again unseen.
func (r *repack) verify(ctx context.Context, image *ownImage) error {
	total, before := int64(0), int64(0)
	for _, f := range image.manifest.Files {
		total += f.Size
	}
	for _, f := range image.manifest.Files {
		src, err := image.files.Open(f.Path)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, &checkedReader{ctx: ctx, r: src, advance: func(done int64) {
			r.progress(Progress{Phase: "check", Done: before + done, Total: total})
		}})
		src.Close() // read only: nothing is lost with its error
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if hex.EncodeToString(h.Sum(nil)) != f.SHA256 {
			return fmt.Errorf("%s: %w: its SHA-256 is not the one in %s", f.Path, iso.ErrDamaged, ManifestFile)
		}
		before += f.Size
	}
	return nil
}

// takeOptions takes over what the image was made with and is not to change.
func (r *repack) takeOptions(m *oldManifest) {
	old := m.Options
	r.Exclude, r.Source.AllRoot = old.Exclude, old.AllRoot // in the squashfs already
	r.Boot.Joliet, r.Boot.FAT32 = old.Joliet, old.FAT32
	if r.SourceDate.IsZero() && old.SourceDateEpoch != nil {
		r.SourceDate = time.Unix(*old.SourceDateEpoch, 0)
	}
	if r.KeepSquashfs {
		r.Compression, r.BlockSize, r.Order = m.compression, old.BlockSize, m.order
	}
}

// ownPlan lays the squashfs out as a build of what it holds does.
func (r *repack) ownPlan(ctx context.Context, image *ownImage, boot *bootFiles) (squashfsPlan, *RepackedSquashfs, error) {
	tree, err := squashfs.NewReader(image.squashfsData, image.squashfs.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", boot.squashfs, err)
	}
	info := &RepackedSquashfs{Path: boot.squashfs, Was: image.squashfs.Size, WasCompression: tree.Superblock().Compression.String(), Compression: r.Compression.String()}
	extra := int64(0)
	for _, f := range boot.added {
		extra += f.Size
	}
	if r.KeepSquashfs {
		kept := image.kept(boot)
		return kept, info, r.checkFree(kept.MaxSize() + boot.beside() + extra)
	}
	if err := r.findOwn(ctx, image, tree, boot); err != nil {
		return nil, nil, err
	}
	opts := boot.rawOptions(r.squashfsOptions(), r.Boot.FAT32)
	if boot.squashfs == storeFile {
		if err := orderStore(tree, &opts); err != nil {
			return nil, nil, err
		}
	}
	plan, err := r.Options.plan(ctx, tree, opts, boot.beside()+extra)
	return plan, info, err
}

// findOwn finds which files of the squashfs the kernels and initrds are that lie within it.
func (o *Options) findOwn(ctx context.Context, image *ownImage, tree *squashfs.Reader, boot *bootFiles) (err error) {
	for _, p := range boot.payloads() {
		if image.entries[p.name].Within == "" {
			continue
		}
		if p.inside, err = o.findInTree(ctx, tree, p); err != nil {
			return err
		}
		if p.inside == "" {
			return fmt.Errorf("%s: %w: no file in it is %s", boot.squashfs, iso.ErrDamaged, p.name)
		}
	}
	return nil
}

// keptSquashfs is a squashfs that stays as it is.
type keptSquashfs struct {
	data   io.ReaderAt
	raw    []squashfs.RawFile
	result *squashfs.Result
}

func (k *keptSquashfs) MaxSize() int64               { return k.result.Size }
func (k *keptSquashfs) RawFiles() []squashfs.RawFile { return k.raw }

func (k *keptSquashfs) Write(ctx context.Context, w io.WriterAt) (*squashfs.Result, error) {
	src := &checkedReader{ctx: ctx, r: io.NewSectionReader(k.data, 0, k.result.Size), advance: func(int64) {}}
	n, err := io.Copy(io.NewOffsetWriter(w, 0), src)
	if err == nil && n != k.result.Size {
		err = io.ErrUnexpectedEOF
	}
	return k.result, err
}

// kept is the old squashfs, with kernel and initrd where they are.
func (m *ownImage) kept(boot *bootFiles) *keptSquashfs {
	k := &keptSquashfs{data: m.squashfsData, result: m.squashfs.Squashfs}
	for _, p := range boot.payloads() {
		if e := m.entries[p.name]; e.Within != "" {
			p.inside = p.name // any name that is none of the others'
			k.raw = append(k.raw, squashfs.RawFile{Path: p.inside, Offset: e.Offset, Size: e.Size})
		}
	}
	return k
}

// errOwnPart is for what an image of ours is not without.
var errOwnPart = errors.New("is a part of how isopress builds an image: only files that were added can be removed")
