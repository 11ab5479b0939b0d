package builder

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/kcmdline"
)

// variant is a specialisation of the system, as an entry of GRUB's menu. Its kernel
// and initrd may be the system's own, or another variant's.
type variant struct {
	name    string
	title   string
	kernel  *payload
	initrd  *payload
	cmdline string
}

// setGRUB makes the menu and all that goes with it.
func (o *Options) setGRUB(ctx context.Context, b *bootFiles, sys *system) error {
	specs, err := sys.readSpecialisations()
	if err != nil {
		return err
	}
	for _, s := range specs {
		if err := o.addVariant(b, &s); err != nil {
			return fmt.Errorf("specialisation %s: %w", s.name, err)
		}
	}
	entries := []bootEntry{{Title: sys.title(b.volumeID), Kernel: b.kernel.name, Initrd: b.initrd.name, Cmdline: b.cmdline}}
	for _, v := range b.variants {
		entries = append(entries, bootEntry{Title: v.title, Kernel: v.kernel.name, Initrd: v.initrd.name, Cmdline: v.cmdline})
		b.manifest.Specialisations = append(b.manifest.Specialisations, ManifestSpecialisation{
			Name: v.name, Kernel: v.kernel.name, Initrd: v.initrd.name, Cmdline: v.cmdline})
	}
	menu := grubMenu{entries: entries, ours: b.manifest.Initrd == InitrdAuto, foreign: b.manifest.Initrd == fromFile}
	if b.grub, err = o.prepareGRUB(ctx, b.volumeID, menu); err != nil {
		return err
	}
	b.manifest.GRUB = &b.grub.manifest
	return nil
}

// ownInitrd tells that the initrd is what the system names.
func (b *bootFiles) ownInitrd() bool {
	return b.manifest.Initrd != InitrdAuto && b.manifest.Initrd != fromFile
}

func (o *Options) addVariant(b *bootFiles, s *specialisation) error {
	v := variant{name: s.name, title: s.title(b.volumeID)}
	dir := b.variantDir(s.name)
	var err error
	if v.kernel, err = o.variantFile(b, s.kernel, func(host string) (payload, error) {
		return kernelPayload(dir+"/kernel", "kernel", host)
	}); err != nil {
		return err
	}
	switch {
	case s.initrd != "" && b.ownInitrd():
		o.warnSecrets(&s.system)
		v.initrd, err = o.variantFile(b, s.initrd, func(host string) (payload, error) {
			return o.initrdPayload(dir+"/initrd", "initrd", host)
		})
		if err != nil {
			return err
		}
	case v.kernel == &b.kernel:
		v.initrd = &b.initrd
	default:
		o.warn("specialisation %s: is left out of the menu: it has another kernel, and the initrd is not made for it", s.name)
		return nil
	}
	if v.cmdline, err = o.variantCmdline(b, &s.system); err != nil {
		return err
	}
	b.variants = append(b.variants, v)
	return nil
}

// variantFile finds a file of the closure among the payloads, or makes one of it.
func (o *Options) variantFile(b *bootFiles, name string, add func(host string) (payload, error)) (*payload, error) {
	_, host, err := o.Source.Closure.resolve(name)
	if err != nil {
		return nil, err
	}
	for _, p := range b.payloads() {
		if p.host == host {
			return p, nil
		}
	}
	p, err := add(host)
	return &p, err
}

// variantDir is the ISO's directory for a specialisation, by its name as far as every file
// system takes that.
func (b *bootFiles) variantDir(name string) string {
	safe := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '-'
	}, name)
	if safe == "" {
		safe = "-"
	}
	first := fmt.Sprintf("boot/specialisation/%.64s", safe)
	dir := first
	for n := 1; b.hasDir(dir); n++ {
		dir = fmt.Sprintf("%s-%d", first, n)
	}
	return dir
}

// hasDir tells whether a directory has one of the files, for a file system that does not tell
// case apart.
func (b *bootFiles) hasDir(dir string) bool {
	return slices.ContainsFunc(b.payloads(), func(p *payload) bool { return strings.EqualFold(path.Dir(p.name), dir) })
}

// variantCmdline is a specialisation's command line; it boots from the same medium.
func (o *Options) variantCmdline(b *bootFiles, sys *system) (string, error) {
	given := strings.Join(append(append([]string(nil), sys.params...), o.Boot.Cmdline), " ")
	if err := checkCmdline(given); err != nil {
		return "", err
	}
	root, found := kcmdline.Root(given)
	if label, ok := kcmdline.Label(root); ok && label != b.volumeID {
		return "", OptionError{fmt.Errorf("volume ID %q, but its command line says root=%s: its initrd would not find the medium", b.volumeID, root)}
	}
	first := "init=" + sys.init + " "
	if !found && !b.ownInitrd() {
		first += "root=LABEL=" + kcmdline.Escape(b.volumeID) + " "
	}
	return strings.TrimSpace(first + given), o.checkInit(sys.init)
}
