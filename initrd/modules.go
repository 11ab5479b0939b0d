package initrd

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// DefaultModules is what isopress-init needs to find the medium and mount what
// is on it, on a PC, a Mac and the common virtual machines. It holds
// alternatives: no kernel has all of them, and one built for a cloud has few.
var DefaultModules = []string{
	// What the root is made of.
	"loop", "squashfs", "overlay", "isofs",
	// Kinds of disk; the buses below find nothing without them.
	"cdrom", "sr_mod", "sd_mod",
	// SATA and IDE.
	"ahci", "ata_piix", "ata_generic",
	// Virtual machines: KVM, VMware, Hyper-V, Xen.
	"virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi",
	"vmw_pvscsi", "mptspi", "hv_storvsc", "xen_blkfront",
	// USB. ehci goes first: the kernel warns if a companion controller is there
	// before it (drivers/usb/core/hcd.c).
	"xhci_pci", "ehci_pci", "uhci_hcd", "ohci_pci", "usb_storage", "uas",
	// NVMe, also behind Intel's volume management device; card readers.
	"vmd", "nvme", "sdhci_pci", "sdhci_acpi", "rtsx_pci_sdmmc", "mmc_block",
	// What systemd asks for before it can load modules itself.
	"autofs4", "efivarfs",
}

// ErrModule is wrapped by errors about a kernel module tree.
var ErrModule = errors.New("kernel modules")

// Modules says what [Archive.AddModules] made of a wish.
type Modules struct {
	Version string   // of the kernel, as lib/modules names it
	Added   []string // with what they depend on, in load order; not those of an earlier call
	Builtin []string // wanted, and part of the kernel itself
	Missing []string // wanted, and neither a module nor built in: the caller's to judge
}

// moduleList is the modules added so far.
type moduleList struct {
	version string
	lines   []string // a module each, in load order
	added   map[string]bool
}

// file is the content of ModulesPath, nil without modules.
func (l *moduleList) file() []byte {
	if len(l.lines) == 0 {
		return nil
	}
	return []byte(strings.Join(l.lines, "\n") + "\n")
}

// AddModules adds the wanted kernel modules and those that they depend on,
// expanded (the archive's own compression does better on them together), at
// their paths beneath /lib/modules/<version>. Names take '-' and '_' alike, and
// may be aliases where the tree has a modules.alias. A line of [ModulesPath] is a
// path, then the names of the modules without which it cannot be loaded.
//
// dir is the <version> directory itself, or has one as lib/modules/<version> or
// usr/lib/modules/<version>: a root, a NixOS kernel-modules path, a package
// unpacked. Dependencies are read from modules.dep, or from the modules where it
// does not name them; soft ones, from the modules, are taken where they exist.
func (a *Archive) AddModules(dir string, want []string) (Modules, error) {
	tree, err := openModuleTree(dir, a.Root)
	if err != nil {
		return Modules{}, err
	}
	if v := a.modules.version; v != "" && v != tree.version {
		return Modules{}, fmt.Errorf("initrd: %s: %w of %s: the initrd has those of %s already", dir, ErrModule, tree.version, v)
	}
	r := &moduleResolver{tree: tree, state: make(map[string]visitState), needs: make(map[string][]string)}
	res := Modules{Version: tree.version}
	for _, name := range want {
		found, err := r.want(name)
		switch {
		case err != nil:
			return Modules{}, err
		case found == foundBuiltin:
			res.Builtin = append(res.Builtin, name)
		case found == foundNothing:
			res.Missing = append(res.Missing, name)
		}
	}
	res.Added, err = a.addResolved(r)
	return res, err
}

func (a *Archive) addResolved(r *moduleResolver) ([]string, error) {
	l := &a.modules
	if l.added == nil {
		l.added = make(map[string]bool)
	}
	l.version = r.tree.version
	var added []string
	for _, name := range r.order {
		if l.added[name] {
			continue
		}
		f := r.tree.files[name]
		dst := path.Join("/lib/modules", r.tree.version, trimCompression(f.rel))
		line := append([]string{dst}, r.needs[name]...)
		if len(strings.Fields(strings.Join(line, " "))) != len(line) {
			return nil, fmt.Errorf("initrd: %q: %w: the list that isopress-init reads cannot hold white space", dst, ErrModule)
		}
		e := &entry{cpio.TypeReg | 0o644, f.size, f.open}
		if err := a.put(dst, e); err != nil {
			return nil, err
		}
		l.added[name] = true
		l.lines = append(l.lines, strings.Join(line, " "))
		added = append(added, name)
	}
	return added, nil
}

type visitState int8

const (
	unvisited visitState = iota
	visiting
	visited
)

type found int8

const (
	foundNothing found = iota
	foundModule
	foundBuiltin
)

// moduleResolver orders modules by depth first search.
type moduleResolver struct {
	tree  *moduleTree
	state map[string]visitState
	needs map[string][]string // the modules that each depends on
	order []string
}

// want resolves a name or an alias of one or several modules.
func (r *moduleResolver) want(name string) (found, error) {
	n := normalName(name)
	switch {
	case r.tree.files[n] != nil:
		return foundModule, r.visit(n)
	case r.tree.builtin[n]:
		return foundBuiltin, nil
	}
	res := foundNothing
	for _, n := range r.tree.aliases[n] {
		if r.tree.files[n] == nil {
			continue
		}
		res = foundModule
		if err := r.visit(n); err != nil {
			return res, err
		}
	}
	return res, nil
}

// visit puts a module into the order, after what it depends on and before the
// soft dependencies that follow it.
func (r *moduleResolver) visit(name string) error {
	if r.state[name] != unvisited { // in a cycle, only soft ones make it, the first stays first
		return nil
	}
	r.state[name] = visiting
	info, err := r.tree.inspect(name)
	if err != nil {
		return err
	}
	for _, dep := range info.depends {
		if err := r.require(name, dep); err != nil {
			return err
		}
	}
	if err := r.soft(info.pre); err != nil {
		return err
	}
	r.state[name] = visited
	r.order = append(r.order, name)
	return r.soft(info.post)
}

func (r *moduleResolver) require(name, dep string) error {
	switch {
	case r.tree.files[dep] != nil:
		r.needs[name] = append(r.needs[name], dep)
		return r.visit(dep)
	case r.tree.builtin[dep]:
		return nil
	}
	return fmt.Errorf("initrd: %s: %w: depends on %s, which the tree does not have", r.tree.files[name].rel, ErrModule, dep)
}

func (r *moduleResolver) soft(names []string) error {
	for _, n := range names {
		if _, err := r.want(n); err != nil {
			return err
		}
	}
	return nil
}

// inspect reads a module's dependencies, and the size it has expanded.
func (t *moduleTree) inspect(name string) (modinfo, error) {
	f := t.files[name]
	info, size, err := f.read()
	if err != nil {
		return modinfo{}, fmt.Errorf("initrd: %s: %w: %w", f.host, ErrModule, err)
	}
	if err := checkSize(f.host, size); err != nil {
		return modinfo{}, err
	}
	f.size = size
	if deps, ok := t.deps[name]; ok {
		info.depends = deps
	}
	return info, nil
}

// moduleSuffixes are those that depmod knows, by decompressor.
var moduleSuffixes = []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}

// moduleName is the name of the module in a file, "" if it holds none.
func moduleName(file string) string {
	base := path.Base(file)
	for _, s := range moduleSuffixes {
		if n, ok := strings.CutSuffix(base, s); ok {
			return normalName(n)
		}
	}
	return ""
}

// trimCompression leaves foo.ko of foo.ko.xz.
func trimCompression(file string) string {
	for _, s := range moduleSuffixes[1:] {
		if n, ok := strings.CutSuffix(file, s); ok {
			return n + ".ko"
		}
	}
	return file
}

// normalName is a module's name as the kernel has it.
func normalName(s string) string { return strings.ReplaceAll(s, "-", "_") }
