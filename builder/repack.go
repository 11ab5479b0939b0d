package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/iso"
	"github.com/isopress/isopress/squashfs"
)

// RepackOptions say how to press a finished image anew.
type RepackOptions struct {
	Options        // Output and how to pack; there is no Source
	Image   string // an ISO with squashfs files in it, or a squashfs
	// OnlySquashfs refuses an ISO.
	OnlySquashfs bool

	Add    []Add    // files of the host, to a path of the ISO each
	Remove []string // paths of the ISO; a directory with all in it

	CmdlineAppend string // appended to the kernel's command lines
	KeepSquashfs  bool   // the squashfs files of an ISO stay as they are: something else changes
}

// Repacked tells of a repacked image.
type Repacked struct {
	Output string `json:"output"`
	Size   int64  `json:"size"` // bytes
	Was    int64  `json:"was"`  // bytes
	// Squashfs are those in it, in the order of their paths; of a bare one the path is "".
	Squashfs []RepackedSquashfs `json:"squashfs"`
	// Cmdlines are the files in which kernel command lines were changed; of one in a FAT, behind the latter's name and a colon.
	Cmdlines []string `json:"cmdlines,omitempty"`
	Added    []string `json:"added,omitempty"`     // paths of files
	Removed  []string `json:"removed,omitempty"`   // paths of files and links
	Sums     []string `json:"sums,omitempty"`      // checksum files that were corrected
	Stale    []string `json:"stale,omitempty"`     // signatures that do not hold any more
	MediaSum bool     `json:"media_sum,omitempty"` // isomd5sum's checksum was renewed
}

// RepackedSquashfs is one squashfs of an image.
type RepackedSquashfs struct {
	Path           string `json:"path,omitempty"`
	Was            int64  `json:"was"`             // bytes
	WasCompression string `json:"was_compression"` // algorithm
	Compression    string `json:"compression"`
	*squashfs.Result
}

// Repack presses the squashfs files of an image anew, and keeps the rest as it is. What would not survive is
// refused before anything is written.
func Repack(ctx context.Context, o RepackOptions) (*Repacked, error) {
	if _, err := o.validate(); err != nil {
		return nil, err
	}
	var err error
	if o.target, err = findTarget(o.Output); err != nil {
		return nil, err
	}
	f, size, err := openImageFile(o.Image, "isopress build --root %s makes an ISO of it")
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only: nothing is lost with its error
	r := &repack{RepackOptions: &o, result: &Repacked{Output: o.Output, Was: size, Squashfs: []RepackedSquashfs{}}}
	return r.result, writeOutput(o.target, func(out *output) error {
		o.openCache()
		defer o.close()
		if err := o.openBase(); err != nil {
			return err
		}
		image, err := iso.Open(f, size)
		switch {
		case errors.Is(err, iso.ErrNotISO):
			err = r.bare(ctx, out, f, size)
		case err == nil && o.OnlySquashfs:
			err = OptionError{errors.New("an ISO, not a squashfs")}
		case err == nil:
			err = r.image(ctx, out, image)
		}
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%s: %w", o.Image, err)
		}
		return err
	})
}

// repack is one run.
type repack struct {
	*RepackOptions
	result *Repacked
}

// bare presses an image that is a squashfs itself.
func (r *repack) bare(ctx context.Context, out *output, f *os.File, size int64) error {
	if len(r.Add)+len(r.Remove)+len(r.CmdlineAppend) > 0 {
		return OptionError{errors.New("a squashfs, not an ISO: files are added to and removed from ISOs only, and kernel parameters are in them only")}
	}
	if err := checkNoISO(f); err != nil {
		return err
	}
	plan, info, err := r.plan(ctx, f, size)
	if err != nil {
		return err
	}
	if err := r.checkSpace(plan, 0); err != nil {
		return err
	}
	if info.Result, err = plan.Write(ctx, out); err != nil {
		return err
	}
	r.result.Size, r.result.Squashfs = info.Size, []RepackedSquashfs{*info}
	return nil
}

// image presses all squashfs files of an ISO.
func (r *repack) image(ctx context.Context, out *output, image *iso.Image) error {
	own, err := openOwn(image)
	if err != nil {
		return err
	}
	if own != nil {
		return r.own(ctx, out, own)
	}
	if err := image.Check(); err != nil {
		return err
	}
	if err := r.cleanRemove(); err != nil {
		return err
	}
	if err := r.warnSkipped(image); err != nil {
		return err
	}
	changes := iso.Changes{Remove: r.Remove, Replace: map[string]iso.Content{}}
	var infos []*RepackedSquashfs
	if !r.KeepSquashfs {
		var err error
		if infos, err = r.replace(ctx, image, &changes); err != nil {
			return err
		}
	}
	if err := r.appendCmdline(image, &changes); err != nil {
		return err
	}
	end, err := r.additions(&changes)
	if err != nil {
		return err
	}
	defer end()
	if err := checkPlaces(image.FS(), changes.Add, func(name string) bool { return !r.removes(name) }); err != nil {
		return err
	}
	if len(infos)+len(r.Add)+len(r.Remove)+len(r.CmdlineAppend) == 0 {
		return errors.New("there is no squashfs in it: nothing to repack")
	}
	if err := r.checkKept(image, infos, changes.Add); err != nil {
		return err
	}
	done, err := image.Rewrite(ctx, out, changes)
	if err != nil {
		return err
	}
	for _, info := range infos {
		r.result.Squashfs = append(r.result.Squashfs, *info)
	}
	r.result.Size, r.result.Sums, r.result.Stale, r.result.MediaSum = done.Size, done.Sums, done.Stale, done.MediaSum
	for _, name := range done.Stale {
		r.warn("%s: is about files that changed, and only its maker can renew it", name)
	}
	return out.Truncate(done.Size)
}

// replace plans all squashfs files that stay.
func (r *repack) replace(ctx context.Context, image *iso.Image, changes *iso.Changes) ([]*RepackedSquashfs, error) {
	var infos []*RepackedSquashfs
	err := eachSquashfs(image, r.removes, func(name string, src io.ReaderAt, size int64) error {
		plan, info, err := r.plan(ctx, src, size)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		info.Path = name
		infos = append(infos, info)
		changes.Replace[name] = iso.Content{Size: plan.MaxSize(), Write: func(w io.WriterAt) (int64, error) {
			var err error
			if info.Result, err = plan.Write(ctx, w); err != nil {
				return 0, err
			}
			return info.Size, nil
		}}
		return r.checkSpace(plan, image.Size()-size)
	})
	return infos, err
}

// checkKept notes which files go, and fails where an ISO whose squashfs files stay as they are cannot fit.
func (r *repack) checkKept(image *iso.Image, infos []*RepackedSquashfs, add []iso.Addition) error {
	gone, err := r.removed(image)
	if err != nil || len(infos) > 0 {
		return err
	}
	need := image.Size() - gone
	for _, a := range add {
		need += a.Size
	}
	return r.checkFree(need)
}

// plan reads a squashfs and lays out what becomes of it.
func (r *repack) plan(ctx context.Context, src io.ReaderAt, size int64) (*squashfs.Plan, *RepackedSquashfs, error) {
	tree, err := squashfs.NewReader(src, size)
	if err != nil {
		return nil, nil, err
	}
	sb := tree.Superblock()
	if err := checkBehind(ctx, src, sb.BytesUsed, size); err != nil {
		return nil, nil, err
	}
	opts := r.squashfsOptions()
	opts.NoExport = !sb.Exportable
	if r.SourceDate.IsZero() {
		opts.ModTime = sb.Modified
	}
	if err := orderAsStore(tree, &opts); err != nil {
		return nil, nil, err
	}
	r.cacheOptions(&opts)
	plan, err := squashfs.Prepare(ctx, tree, opts)
	return plan, &RepackedSquashfs{Was: size, WasCompression: sb.Compression.String(), Compression: r.Compression.String()}, err
}

// orderAsStore lays store paths out as a build from the store does, if they are what the root holds.
func orderAsStore(tree *squashfs.Reader, opts *squashfs.Options) error {
	entries, err := tree.ReadDir(".")
	if err != nil || len(entries) == 0 {
		return err
	}
	for _, e := range entries {
		if e.Name() != registrationFile && nix.CheckStorePath(nix.StoreDir+"/"+e.Name()) != nil {
			return nil
		}
	}
	return orderStore(tree, opts)
}

// orderStore lays the root out as store paths.
func orderStore(tree *squashfs.Reader, opts *squashfs.Options) error {
	c := &Closure{}
	f, err := tree.Open(registrationFile)
	if err == nil {
		defer f.Close()
		// What is not understood says nothing about order, and is kept as it is.
		c.registration, _ = nix.ParseRegistration(io.LimitReader(f, maxRegistration))
	}
	c.orderOptions(opts)
	return nil
}

// maxRegistration bounds what is believed to be one.
const maxRegistration = 256 << 20
