// Package builder presses a closure or a tree into a squashfs, an initrd, or a
// bootable ISO: it finds the inputs, lets the format packages write into one
// output file, and records what went in as a manifest.
package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/isopress/isopress/internal/bytesize"
	"github.com/isopress/isopress/internal/cache"
	"github.com/isopress/isopress/internal/codec"
	"github.com/isopress/isopress/internal/patherror"
	"github.com/isopress/isopress/squashfs"
)

// Source is what goes into the squashfs: a closure, or a tree.
type Source struct {
	Closure *Closure  // store paths at the root, as NixOS mounts them at /nix/store
	Root    string    // or a directory of the host, with owners, dates and xattrs
	Tar     []Archive // or what tar archives hold, the later ones over the earlier
	AllRoot bool      // the files of Root or Tar belong to root
}

// Options of a build.
type Options struct {
	Source Source
	Boot   Boot // for an ISO
	Output string

	// Exclude are patterns of files to leave out, a directory with all that is in
	// it. One without a slash is matched against the name, one with a slash
	// against the path from the root of the image; a slash at the end restricts
	// it to directories, one at the start means the root. "*" and "?" match no
	// slash, "**" any number of directories, "[a-z]" and "[!a-z]" a character,
	// "{a,b}" either; a backslash takes a character as it is.
	Exclude []string

	Compression squashfs.Compression
	BlockSize   int // bytes; 0 is the squashfs package's default
	Order       squashfs.Order
	Workers     int
	Memory      int64 // bytes
	// Cache is a directory that keeps compressed blocks, and what is known of store
	// paths and files, from one build to the next; "" is none. The image is the same
	// with it and without.
	Cache string
	// CacheSize is what the cache may hold when the build ends, in bytes; 0 is 10 GiB.
	CacheSize int64
	// NoStatCache reads the files that the cache knows by their stat data alone, and not
	// by the NAR hash of their store path.
	NoStatCache bool
	// Base is an ISO or a squashfs that was built before: what it has in common with
	// the new one is taken from it; "" is none. The image is the same with it and
	// without.
	Base string
	// SourceDate dates the image, and is the latest date that a file keeps. The
	// zero value is no bound, and the epoch for the image itself.
	SourceDate time.Time

	// NoDigest leaves the SHA-256 out of [Squashfs]'s result: to know it, the image
	// is read once more.
	NoDigest bool

	// Progress and Warn, where not nil, are told of what happens.
	Progress func(Progress)
	Warn     func(msg string)

	target   target // of Output
	excluder excluder
	cache    *cache.Store // of Cache, while a build runs; may be nil
	base     *squashfs.Base
	tar      *squashfs.Tar // of Source.Tar, while a build runs
	files    []*os.File    // that they read
}

// Progress is how far a build is.
type Progress struct {
	Phase       string // "spool", "scan", "read", "press" or "check"
	Done, Total int64  // files for "scan", else bytes; Total is 0 where not known
	Written     int64  // bytes of squashfs so far
}

// Result of a build.
type Result struct {
	Output string `json:"output"`
	Size   int64  `json:"size"` // bytes
	*Manifest
}

func (o *Options) progress(p Progress) {
	if o.Progress != nil {
		o.Progress(p)
	}
}

func (o *Options) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, args...))
	}
}

// Validate reports what is wrong with the options in themselves. It looks at no
// file, nor at Source and Boot.
func (o *Options) Validate() error {
	_, err := o.validate()
	return err
}

func (o *Options) validate() (excluder, error) {
	x, err := newExcluder(o.Exclude)
	if err != nil {
		return nil, err
	}
	opts := o.squashfsOptions()
	if err := opts.Validate(); err != nil {
		return nil, OptionError{err}
	}
	return x, nil
}

// check finds what is wrong before anything is done.
func (o *Options) check() (err error) {
	if err := o.checkSource(); err != nil {
		return err
	}
	if o.target, err = findTarget(o.Output); err != nil {
		return err
	}
	switch {
	case o.Source.Closure != nil:
		return o.Source.Closure.checkOutside(o.target)
	case o.Source.Root != "":
		return o.target.checkOutside(o.Source.Root)
	}
	return nil
}

// checkSource is check for a build without an output.
func (o *Options) checkSource() (err error) {
	given := 0
	for _, one := range []bool{o.Source.Closure != nil, o.Source.Root != "", len(o.Source.Tar) > 0} {
		if one {
			given++
		}
	}
	if given > 1 {
		return OptionError{errors.New("a closure, a root directory and tar archives: give one")}
	}
	if given == 0 {
		return OptionError{errors.New("nothing to press: give --closure, --system, --root or --tar")}
	}
	if o.excluder, err = o.validate(); err != nil || o.Source.Root == "" {
		return err
	}
	if info, err := os.Stat(o.Source.Root); err != nil {
		return named("--root", o.Source.Root, err)
	} else if !info.IsDir() {
		return fmt.Errorf("--root %s: not a directory; a tar archive is given with --tar", o.Source.Root)
	}
	return nil
}

// named is an error about a file, which an option named or something else did.
func named(from, file string, err error) error {
	return fmt.Errorf("%s %s: %w", from, file, patherror.Bare(err))
}

// open is the tree that becomes the squashfs; it is closed with close.
func (o *Options) open(ctx context.Context) (fs.FS, error) {
	o.openCache()
	if err := o.openBase(); err != nil {
		return nil, err
	}
	switch {
	case o.Source.Closure != nil:
		return o.Source.Closure.FS(), nil
	case o.Source.Root != "":
		return squashfs.DirFS(o.Source.Root), nil
	}
	var err error
	o.tar, err = o.openTar(ctx)
	return o.tar, err
}

// close ends what open has begun. All of it was read only: nothing is lost with
// an error.
func (o *Options) close() {
	o.closeCache()
	if o.tar != nil {
		o.tar.Close()
	}
	for _, f := range o.files {
		f.Close()
	}
}

// OptionError is an error in the options themselves.
type OptionError struct{ error }

func (e OptionError) Unwrap() error { return e.error }

// warnEngine tells of a level that this build's engine does not reach.
func warnEngine(spec codec.Spec, warn func(string)) {
	if msg := codec.Warning(spec); msg != "" && warn != nil {
		warn(msg)
	}
}

func (o *Options) squashfsOptions() squashfs.Options {
	stages := map[squashfs.Stage]string{
		squashfs.StageScan: "scan", squashfs.StageHash: "read", squashfs.StageWrite: "press",
	}
	opts := squashfs.Options{
		Compression: o.Compression,
		BlockSize:   o.BlockSize,
		Order:       o.Order,
		ModTime:     o.SourceDate,
		MaxModTime:  o.SourceDate,
		AllRoot:     o.Source.AllRoot,
		Workers:     o.Workers,
		Memory:      o.Memory,
		BlockList:   true,
		Progress: func(p squashfs.Progress) {
			o.progress(Progress{stages[p.Stage], p.Done, p.Total, p.Written})
		},
		Warn: func(path, msg string) { o.warn("%s: %s", path, msg) },
	}
	if o.Source.Closure != nil {
		o.Source.Closure.orderOptions(&opts)
	}
	if len(o.excluder) > 0 {
		opts.Exclude = o.excluder.exclude
	}
	return opts
}

// Squashfs writes the source as a squashfs image.
func Squashfs(ctx context.Context, o Options) (*Result, error) {
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
		plan, err := o.plan(ctx, tree, o.squashfsOptions(), 0)
		if err != nil {
			return err
		}
		info, err := plan.Write(ctx, out)
		if err != nil {
			return o.hint(err)
		}
		entry := ManifestEntry{Path: filepath.Base(o.Output), Size: info.Size, Squashfs: info}
		if !o.NoDigest {
			entry, err = o.entry(ctx, out, entry.Path, 0, info)
		}
		res.Files, res.Size = []ManifestEntry{entry}, info.Size
		return err
	})
}

// plan reads the tree; extra is what the output holds beside its squashfs.
func (o *Options) plan(ctx context.Context, tree fs.FS, opts squashfs.Options, extra int64) (*squashfs.Plan, error) {
	if spec, err := codec.Parse(o.Compression.String()); err == nil {
		warnEngine(spec, o.Warn)
	}
	o.cacheOptions(&opts)
	plan, err := squashfs.Prepare(ctx, tree, opts)
	if err != nil {
		return nil, o.hint(err)
	}
	for _, msg := range o.excluder.warnings() {
		o.warn("--exclude %s", msg)
	}
	return plan, o.checkSpace(plan, extra)
}

// hint adds to an error of the source what its user can do.
func (o *Options) hint(err error) error {
	switch {
	case errors.Is(err, squashfs.ErrStatCache):
		return fmt.Errorf("%w; --no-stat-cache reads it anew", err)
	case errors.Is(err, squashfs.ErrChanged) && o.trustsRegistration():
		return fmt.Errorf("%w, or it is not what the registration's NAR hash says: nix-store --verify-path tells, and --cache off reads it anew", err)
	case errors.Is(err, squashfs.ErrChanged):
		return fmt.Errorf("%w; what is pressed must hold still: leave the file out with --exclude, or press a copy or a snapshot", err)
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return fmt.Errorf("%w; run isopress as root, or leave the file out with --exclude", err)
	}
	return err
}

// entry describes a squashfs that lies at off of the output, and reads it back
// for its digest.
func (o *Options) entry(ctx context.Context, out *output, name string, off int64, info *squashfs.Result) (ManifestEntry, error) {
	h := sha256.New()
	r := &checkedReader{ctx: ctx, r: io.NewSectionReader(out, off, info.Size), advance: func(done int64) {
		o.progress(Progress{Phase: "check", Done: done, Total: info.Size, Written: info.Size})
	}}
	n, err := io.Copy(h, r)
	if err == nil && n != info.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return ManifestEntry{}, o.readBack(err)
	}
	return ManifestEntry{Path: name, Size: info.Size, SHA256: hex.EncodeToString(h.Sum(nil)), Squashfs: info}, nil
}

func (o *Options) readBack(err error) error {
	return fmt.Errorf("%s: reading it back: %w", o.Output, patherror.Bare(err))
}

// checkedReader ends with its context and tells how far it is.
type checkedReader struct {
	ctx     context.Context
	r       io.Reader
	done    int64
	advance func(int64)
}

func (c *checkedReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.advance(c.done)
	return n, err
}

func (o *Options) manifest() *Manifest {
	size := o.BlockSize
	if size == 0 {
		size = squashfs.DefaultBlockSize
	}
	order := o.Order
	if order == squashfs.OrderDefault {
		order = o.Compression.DefaultOrder()
	}
	m := &Manifest{Format: 1, Builder: builderOf(codec.Engine, o.Compression.String()), Options: ManifestOptions{
		Compression: o.Compression.String(), BlockSize: size, Order: order.String(), AllRoot: o.Source.AllRoot,
		Exclude: o.Exclude,
	}}
	if !o.SourceDate.IsZero() {
		seconds := o.SourceDate.Unix()
		m.Options.SourceDateEpoch = &seconds
	}
	if o.Source.Closure != nil {
		m.StorePaths = o.Source.Closure.manifestPaths()
	}
	return m
}

// commonRatio is what a closure's size is divided by at the least, mostly.
const commonRatio = 2

// checkSpace fails where the output cannot fit, and warns where it may not.
// extra is what comes beside the squashfs.
func (o *Options) checkSpace(plan *squashfs.Plan, extra int64) error {
	free, known := freeSpace(o.target.dir())
	if !known {
		return nil
	}
	worst, certain := plan.MaxSize()+extra, extra
	if o.Compression.String() == string(codec.None) {
		certain += plan.Stats().PlannedBytes
	}
	if free < certain {
		return fmt.Errorf("%s: %s free, at least %s needed", o.target.dir(), bytesize.Text(free), bytesize.Text(certain))
	}
	if free < worst/commonRatio {
		o.warn("%s: only %s free, and the image may take up to %s", o.target.dir(), bytesize.Text(free), bytesize.Text(worst))
	}
	return nil
}
