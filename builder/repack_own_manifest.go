package builder

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"

	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/iso"
	"github.com/isopress/isopress/squashfs"
)

// Bounds of what is read: the manifest of 100,000 store paths takes 25 MB. It is indented, so that each value takes 16
// bytes on average, or it is small; else it would take many times its size in memory.
const (
	maxOldManifest     = 32 << 20
	manifestValue      = 16
	smallManifest      = 4096 // values
	maxSpecialisations = 1000
)

// ownImage is an ISO that isopress made, as far as its manifest and its directories tell.
type ownImage struct {
	*iso.Image
	files        fs.FS
	manifest     *oldManifest
	entries      map[string]ManifestEntry
	squashfs     ManifestEntry
	squashfsData io.ReaderAt
	added        []ManifestEntry // what has nothing to do with booting
	isAdded      map[string]bool
}

// oldManifest is a manifest with what its options mean.
type oldManifest struct {
	*Manifest
	compression squashfs.Compression
	order       squashfs.Order
}

// openOwn reads an image's manifest, and holds it against the image. It returns nil for one that has none.
func openOwn(image *iso.Image) (*ownImage, error) {
	m := &ownImage{Image: image, files: image.FS(), entries: map[string]ManifestEntry{}, isAdded: map[string]bool{}}
	f, err := m.files.Open(ManifestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		defer f.Close() // read only: nothing is lost with its error
		m.manifest, err = readManifest(f)
	}
	for _, check := range []func() error{m.checkEntries, m.checkBoot, m.checkTree} {
		if err == nil {
			err = check()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	return m, m.CheckOwn(m.manifest.Options.Joliet)
}

// readManifest reads a manifest that need not be trusted. What it does not know would be lost, and is refused.
func readManifest(r io.Reader) (*oldManifest, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxOldManifest+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxOldManifest {
		return nil, fmt.Errorf("over %d bytes, which no manifest takes", maxOldManifest)
	}
	if bytes.Count(text, []byte(",")) > smallManifest+len(text)/manifestValue {
		return nil, errors.New("holds more than isopress writes into so many bytes")
	}
	var head struct {
		Format int `json:"isopress_manifest"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	switch {
	case head.Format == 0:
		return nil, errors.New("is no manifest of isopress")
	case head.Format != 1:
		return nil, fmt.Errorf("of format %d, and this isopress knows 1: take a newer one", head.Format)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	m := &oldManifest{Manifest: &Manifest{}}
	if err := d.Decode(m.Manifest); err != nil {
		return nil, fmt.Errorf("%w; another isopress may have written it", err)
	}
	return m, m.check()
}

// check looks at what needs no image.
func (m *oldManifest) check() error {
	o, err := m.Options, error(nil)
	if m.compression, err = squashfs.ParseCompression(o.Compression); err != nil {
		return err
	}
	if m.order, err = squashfs.ParseOrder(o.Order); err != nil {
		return err
	}
	opts := squashfs.Options{Compression: m.compression, BlockSize: o.BlockSize, Order: m.order}
	if err := opts.Validate(); err != nil {
		return err
	}
	if _, err := newExcluder(o.Exclude); err != nil {
		return errors.Unwrap(err)
	}
	if s := o.SourceDateEpoch; s != nil && (*s < 0 || *s > math.MaxUint32) {
		return fmt.Errorf("source_date_epoch %d: a squashfs holds 0 to %d", *s, int64(math.MaxUint32))
	}
	for i, p := range m.StorePaths {
		if err := nix.CheckStorePath(p.Path); err != nil {
			return err
		}
		if i > 0 && p.Path <= m.StorePaths[i-1].Path {
			return fmt.Errorf("%s: store paths are not sorted", p.Path)
		}
	}
	switch {
	case m.Boot == nil:
		return errors.New("does not say how the image boots")
	case len(m.Boot.Specialisations) > maxSpecialisations:
		return fmt.Errorf("has %d specialisations, which no menu shows", len(m.Boot.Specialisations))
	case m.Boot.GRUB == nil && len(m.Boot.Specialisations) > 0:
		return errors.New("has specialisations, and no menu that shows them")
	}
	return nil
}

// checkEntries holds the files against those that the image has.
func (m *ownImage) checkEntries() error {
	name := rootFile
	if len(m.manifest.StorePaths) > 0 {
		name = storeFile
	}
	for _, f := range m.manifest.Files {
		if _, twice := m.entries[f.Path]; twice {
			return fmt.Errorf("%s: is there twice", f.Path)
		}
		if err := m.checkEntry(f, name); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		m.entries[f.Path] = f
	}
	var ok bool
	if m.squashfs, ok = m.entries[name]; !ok {
		return fmt.Errorf("does not tell of a file %s", name)
	}
	for _, f := range m.manifest.Files {
		if f.Within != "" && !m.isWithin(f) {
			return fmt.Errorf("%s: does not lie at %d of %s", f.Path, f.Offset, f.Within)
		}
	}
	f, err := m.files.Open(name)
	if err != nil {
		return err
	}
	m.squashfsData = f.(io.ReaderAt) // of a regular file, as FS says
	return nil
}

// checkEntry checks a file's entry; the squashfs has that name.
func (m *ownImage) checkEntry(f ManifestEntry, name string) error {
	if !fs.ValidPath(f.Path) {
		return errors.New("not a path")
	}
	info, err := fs.Lstat(m.files, f.Path)
	if err != nil {
		return errors.New("is not in the image")
	}
	sum, err := hex.DecodeString(f.SHA256)
	switch {
	case !info.Mode().IsRegular():
		return errors.New("is no file in the image")
	case info.Size() != f.Size:
		return fmt.Errorf("has %d bytes in the image, not %d", info.Size(), f.Size)
	case err != nil || len(sum) != 32 || hex.EncodeToString(sum) != f.SHA256:
		return errors.New("has no SHA-256")
	case (f.Squashfs != nil) != (f.Path == name) || f.Squashfs != nil && f.Squashfs.Size != f.Size:
		return errors.New("is the squashfs, or is none, against what is said of it")
	case f.Within == "" && f.Offset != 0 || f.Within != "" && (f.Within != name || f.Path == name || f.Offset < 0):
		return fmt.Errorf("cannot lie at %d of %q", f.Offset, f.Within)
	}
	return nil
}

// isWithin tells whether a file lies where its entry says.
func (m *ownImage) isWithin(f ManifestEntry) bool {
	in, err := m.Extents(f.Path)
	if err != nil || len(in) == 0 {
		return false
	}
	holder, err := m.Extents(f.Within)
	return err == nil && len(holder) > 0 && f.Offset <= m.squashfs.Size-f.Size && in[0].Offset == holder[0].Offset+f.Offset
}

// checkBoot checks that what boots is there, and finds out which files were added.
func (m *ownImage) checkBoot() error {
	if id := m.manifest.Options.VolumeID; id != m.VolumeID() {
		return fmt.Errorf("volume ID %q, and the image's is %q", id, m.VolumeID())
	}
	needed := m.bootPaths()
	payload := map[string]bool{}
	for _, name := range needed[m.grubFiles():] {
		payload[name] = true
	}
	for _, name := range needed {
		if _, ok := m.entries[name]; !ok {
			return fmt.Errorf("does not tell of a file %s", name)
		}
	}
	for _, f := range m.manifest.Files {
		switch menu := slices.Contains(needed[:m.grubFiles()], f.Path); {
		case f.Within != "" && !payload[f.Path]:
			return fmt.Errorf("%s: lies within another file, and is no kernel and no initrd", f.Path)
		case !menu && !payload[f.Path] && f.Path != m.squashfs.Path:
			m.added = append(m.added, f)
			m.isAdded[f.Path] = true
		}
	}
	return nil
}

// grubFiles is how many files GRUB reads as menus.
func (m *ownImage) grubFiles() int {
	switch b := m.manifest.Boot; {
	case b.GRUB == nil:
		return 0
	case b.Initrd == InitrdAuto:
		return 1
	}
	return 2
}

// bootPaths are the files that boot: those of GRUB's menu, then initrds and kernels as bootFiles.payloads has them.
func (m *ownImage) bootPaths() []string {
	b := m.manifest.Boot
	paths := []string{grubMenuFile, grubLoopbackFile}[:m.grubFiles()]
	paths = append(paths, initrdFile, kernelFile)
	for _, s := range b.Specialisations {
		for _, name := range []string{s.Initrd, s.Kernel} {
			if !slices.Contains(paths, name) {
				paths = append(paths, name)
			}
		}
	}
	return paths
}

// checkTree finds what is in the image and not in the manifest: somebody else's, which would be lost.
func (m *ownImage) checkTree() error {
	if hidden := m.Skipped(); len(hidden) > 0 {
		return fmt.Errorf("does not tell of %q, which the image has: another program has put it there", hidden[0].Path)
	}
	return fs.WalkDir(m.files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == ManifestFile || slices.Contains(iso.OwnLoaders(), name) {
			return err
		}
		if _, ok := m.entries[name]; !ok {
			return fmt.Errorf("does not tell of %s, which the image has: another program has put it there", name)
		}
		return nil
	})
}
