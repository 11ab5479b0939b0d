package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/isopress/isopress/iso"
)

// What [Boot.Loader] may be.
const (
	LoaderStub = "stub" // our own stubs, which start the one system without a menu
	LoaderGRUB = "grub"
)

func (b *Boot) checkLoader() error {
	switch {
	case b.Loader != "" && b.Loader != LoaderStub && b.Loader != LoaderGRUB:
		return OptionError{fmt.Errorf("boot loader %q: must be %s or %s", b.Loader, LoaderStub, LoaderGRUB)}
	case b.EFIStub != "" && b.Loader == LoaderGRUB:
		return OptionError{errors.New("a UEFI stub and GRUB: one of them boots")}
	case len(b.GRUBDirs) > 0 && b.Loader != LoaderGRUB:
		return OptionError{errors.New("--grub-dir is for --boot-loader grub")}
	}
	return nil
}

// bootEntry is a system that GRUB's menu starts.
type bootEntry struct {
	Title   string // printable, in UTF-8
	Kernel  string // path in the ISO, as iso.File has it
	Initrd  string // the same; may be empty
	Cmdline string // printable ASCII
}

// grubFile is a file of GRUB's in the ISO.
type grubFile struct {
	Path string // as iso.File has it
	Text []byte
}

// grubBoot is GRUB with all that it reads from the ISO beside kernels and initrds.
type grubBoot struct {
	images   iso.GRUB
	files    []grubFile
	manifest ManifestGRUB
}

// ManifestGRUB is the GRUB that boots an image.
type ManifestGRUB struct {
	BIOS ManifestGRUBPart `json:"bios"`
	EFI  ManifestGRUBPart `json:"efi"`
}

// ManifestGRUBPart is what GRUB brings for one kind of firmware.
type ManifestGRUBPart struct {
	Version   string `json:"version"`              // of grub-mkimage, as it tells it
	MBRSHA256 string `json:"mbr_sha256,omitempty"` // of boot_hybrid.img
	SHA256    string `json:"sha256"`               // of grub-mkimage's image
}

// title is a system's name in the menu; the volume ID stands for a system that has none.
func (s *system) title(volumeID string) string {
	if s.label != "" {
		return s.label
	}
	return volumeID
}

// title is the specialisation's own label, which may be that of the system, with its name.
func (s *specialisation) title(volumeID string) string {
	return fmt.Sprintf("%s (%s)", s.system.title(volumeID), s.name)
}

// prepareGRUB has GRUB's images made, which find the medium with the volume ID,
// and writes the menu.
func (o *Options) prepareGRUB(ctx context.Context, volumeID string, m grubMenu) (*grubBoot, error) {
	menu, err := m.text()
	if err != nil {
		return nil, err
	}
	bios, efi, err := o.findGRUB()
	if err != nil {
		return nil, err
	}
	g := &grubBoot{files: []grubFile{{grubMenuFile, menu}}}
	if !m.ours {
		g.files = append(g.files, grubFile{grubLoopbackFile, []byte("source /" + grubMenuFile + "\n")})
	}
	if g.images.MBR, err = readGRUBFile(bios.file(grubHybridMBR)); err != nil {
		return nil, err
	}
	search := grubSearch(volumeID)
	if g.images.ElTorito, err = bios.image(ctx, search); err != nil {
		return nil, err
	}
	if g.images.EFI, err = efi.image(ctx, search); err != nil {
		return nil, err
	}
	g.manifest.BIOS = ManifestGRUBPart{MBRSHA256: hexSHA256(g.images.MBR), SHA256: hexSHA256(g.images.ElTorito)}
	g.manifest.EFI = ManifestGRUBPart{SHA256: hexSHA256(g.images.EFI)}
	if g.manifest.BIOS.Version, err = bios.version(ctx); err != nil {
		return nil, err
	}
	g.manifest.EFI.Version, err = efi.version(ctx)
	return g, err
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
