package builder

import (
	"encoding/json"

	"github.com/isopress/isopress/squashfs"
)

// Manifest tells what an image is made of: all that its bytes depend on, and
// nothing of the machine that it was made on. It lies in the ISO's root as
// [ManifestFile].
type Manifest struct {
	Format  int             `json:"isopress_manifest"` // 1
	Builder Builder         `json:"builder"`
	Options ManifestOptions `json:"options"`
	Boot    *ManifestBoot   `json:"boot,omitempty"`
	// StorePaths of a closure, sorted; with hash and size where a registration told them.
	StorePaths []ManifestPath `json:"store_paths,omitempty"`
	// Files of the ISO, or the one squashfs, in the order of their data.
	Files []ManifestEntry `json:"files"`
}

// ManifestFile is the manifest's name in the ISO.
const ManifestFile = "isopress.json"

// ManifestOptions are the options that decided the bytes.
type ManifestOptions struct {
	Compression     string   `json:"compression"`
	BlockSize       int      `json:"block_size"`
	Order           string   `json:"order"`
	SourceDateEpoch *int64   `json:"source_date_epoch,omitempty"`
	AllRoot         bool     `json:"all_root,omitempty"`
	Exclude         []string `json:"exclude,omitempty"`
	VolumeID        string   `json:"volume_id,omitempty"`
	Joliet          bool     `json:"joliet,omitempty"`
	FAT32           bool     `json:"fat32,omitempty"`
}

// ManifestBoot is how the image boots.
type ManifestBoot struct {
	System        string   `json:"system,omitempty"`
	Kernel        string   `json:"kernel"`
	Initrd        string   `json:"initrd"` // where it came from, or "auto"
	KernelVersion string   `json:"kernel_version,omitempty"`
	Modules       []string `json:"modules,omitempty"` // in the initrd, in load order
	Cmdline       string   `json:"cmdline"`
	EFIStub       string   `json:"efi_stub,omitempty"` // SHA-256 of one that is not ours

	GRUB            *ManifestGRUB            `json:"grub,omitempty"`
	Specialisations []ManifestSpecialisation `json:"specialisations,omitempty"` // in GRUB's menu
}

// ManifestSpecialisation is a variant of the system, with its files in the ISO.
type ManifestSpecialisation struct {
	Name    string `json:"name"`
	Kernel  string `json:"kernel"`
	Initrd  string `json:"initrd"`
	Cmdline string `json:"cmdline"`
}

// ManifestPath is a store path.
type ManifestPath struct {
	Path    string `json:"path"`
	NarHash string `json:"nar_hash,omitempty"` // sha256:<base16>
	NarSize uint64 `json:"nar_size,omitempty"` // bytes
}

// ManifestEntry is a file of the image.
type ManifestEntry struct {
	Path     string           `json:"path"`
	Size     int64            `json:"size"`
	SHA256   string           `json:"sha256,omitempty"`
	Within   string           `json:"within,omitempty"` // the file whose bytes from Offset on are this one's
	Offset   int64            `json:"offset,omitempty"`
	Squashfs *squashfs.Result `json:"squashfs,omitempty"`
}

// encode is the manifest as it lies in the ISO.
func (m *Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

func (c *Closure) manifestPaths() []ManifestPath {
	known := map[string]ManifestPath{}
	for _, i := range c.registration {
		known[i.Path] = ManifestPath{i.Path, "sha256:" + i.NarHash, i.NarSize}
	}
	var paths []ManifestPath
	for _, p := range c.paths {
		m, ok := known[p]
		if !ok {
			m = ManifestPath{Path: p}
		}
		paths = append(paths, m)
	}
	return paths
}
