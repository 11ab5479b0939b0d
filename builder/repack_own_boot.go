package builder

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/kcmdline"
	"github.com/isopress/isopress/internal/patherror"
	"github.com/isopress/isopress/iso"
)

// ownBoot is how the image boots, with what is appended to the command lines.
func (r *repack) ownBoot(image *ownImage) (*bootFiles, error) {
	m := image.manifest
	b := &bootFiles{manifest: *m.Boot, volumeID: m.Options.VolumeID, squashfs: image.squashfs.Path}
	image.setPayloads(b)
	if err := image.checkKernels(b); err != nil {
		return nil, err
	}
	b.cmdline = m.Boot.Cmdline
	load := r.ownStub
	if m.Boot.GRUB != nil {
		load = r.ownGRUB
	}
	if err := load(image, b); err != nil {
		return nil, err
	}
	return b, r.ownCmdline(b)
}

// setPayloads are the kernels and initrds of the image, of specialisations too, each once.
func (m *ownImage) setPayloads(b *bootFiles) {
	byName := map[string]*payload{initrdFile: &b.initrd, kernelFile: &b.kernel}
	get := func(name string) *payload {
		p := byName[name]
		if p == nil {
			p = &payload{}
			byName[name] = p
		}
		*p = payload{name: name, size: m.entries[name].Size, old: m.files}
		return p
	}
	get(initrdFile)
	get(kernelFile)
	for _, s := range m.manifest.Boot.Specialisations {
		b.variants = append(b.variants, variant{name: s.Name, cmdline: s.Cmdline, initrd: get(s.Initrd), kernel: get(s.Kernel)})
	}
}

func (m *ownImage) checkKernels(b *bootFiles) error {
	kernels := []*payload{&b.kernel}
	for _, v := range b.variants {
		kernels = append(kernels, v.kernel)
	}
	for _, p := range kernels {
		f, err := m.files.Open(p.name)
		if err != nil {
			return err
		}
		if err := iso.CheckKernel(f.(io.ReaderAt), p.size); err != nil { // of a regular file
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// ownStub takes over a stub that is not ours; ours is the current one.
func (r *repack) ownStub(image *ownImage, b *bootFiles) error {
	stub, cmdline, err := image.OwnStub()
	if err != nil {
		return err
	}
	if cmdline != b.cmdline {
		return fmt.Errorf("%s: its kernel command line is not the one in the UEFI stub: %q, and %q", ManifestFile, b.cmdline, cmdline)
	}
	if b.manifest.EFIStub != "" {
		b.efiStub = stub
	}
	return nil
}

// ownGRUB takes GRUB over, with its menu.
func (r *repack) ownGRUB(image *ownImage, b *bootFiles) error {
	images, err := image.OwnGRUB()
	if err != nil {
		return err
	}
	b.grub = &grubBoot{images: *images, manifest: *b.manifest.GRUB}
	for _, part := range []struct {
		name, sum string
		image     []byte
	}{
		{"boot_hybrid.img", b.grub.manifest.BIOS.MBRSHA256, images.MBR},
		{"El Torito image", b.grub.manifest.BIOS.SHA256, images.ElTorito},
		{"EFI image", b.grub.manifest.EFI.SHA256, images.EFI},
	} {
		if hexSHA256(part.image) != part.sum {
			return fmt.Errorf("GRUB's %s: %w: its SHA-256 is not the one in %s", part.name, iso.ErrDamaged, ManifestFile)
		}
	}
	for _, name := range image.bootPaths()[:image.grubFiles()] {
		if size := image.entries[name].Size; size > maxGRUBFile {
			return fmt.Errorf("%s: %d bytes, which no menu has", name, size)
		}
		text, err := fs.ReadFile(image.files, name)
		if err != nil {
			return err
		}
		b.grub.files = append(b.grub.files, grubFile{name, text})
	}
	return nil
}

// ownCmdline appends the parameters that are given to all command lines.
func (r *repack) ownCmdline(b *bootFiles) error {
	if r.CmdlineAppend == "" {
		return nil
	}
	if err := checkCmdline(r.CmdlineAppend); err != nil {
		return err
	}
	root, _ := kcmdline.Root(r.CmdlineAppend)
	if label, ok := kcmdline.Label(root); ok && label != b.volumeID {
		return OptionError{fmt.Errorf("volume ID %q, but the parameters say root=%s: the initrd would not find the medium", b.volumeID, root)}
	}
	menu := b.ownMenu(nil)
	b.cmdline = appendParams(b.cmdline, r.CmdlineAppend)
	b.manifest.Cmdline = b.cmdline
	b.manifest.Specialisations = slices.Clone(b.manifest.Specialisations)
	for i := range b.variants {
		v, s := &b.variants[i], &b.manifest.Specialisations[i]
		v.cmdline = appendParams(v.cmdline, r.CmdlineAppend)
		s.Cmdline = v.cmdline
	}
	if b.grub == nil {
		r.result.Cmdlines = iso.OwnLoaders()[:1] // the BIOS loader reads it there, too
		return nil
	}
	r.result.Cmdlines = []string{grubMenuFile}
	return b.appendToMenu(menu)
}

// appendParams is line with more parameters, as a build with them has it.
func appendParams(line, params string) string {
	if slices.Contains(kcmdline.Words(line), "--") {
		return addParams(line, params)
	}
	return strings.TrimSpace(line + " " + params)
}

// ownMenu is GRUB's menu with these titles, of the system and its specialisations.
func (b *bootFiles) ownMenu(titles []string) grubMenu {
	m := grubMenu{ours: b.manifest.Initrd == InitrdAuto, foreign: b.manifest.Initrd == fromFile}
	add := func(e bootEntry) {
		if n := len(m.entries); n < len(titles) {
			e.Title = titles[n]
		}
		m.entries = append(m.entries, e)
	}
	add(bootEntry{Kernel: b.kernel.name, Initrd: b.initrd.name, Cmdline: b.cmdline})
	for _, v := range b.variants {
		add(bootEntry{Kernel: v.kernel.name, Initrd: v.initrd.name, Cmdline: v.cmdline})
	}
	return m
}

// appendToMenu writes the menu anew, if the old one is as this isopress writes it for the old command lines.
func (b *bootFiles) appendToMenu(old grubMenu) error {
	titles, ok := old.titles(b.grub.files[0].Text)
	if ok {
		for i, title := range titles {
			old.entries[i].Title = title
		}
		text, err := old.text()
		ok = err == nil && string(text) == string(b.grub.files[0].Text)
	}
	if !ok {
		return fmt.Errorf("%s: not a menu that this isopress writes: parameters are appended by building the image again", grubMenuFile)
	}
	menu := b.ownMenu(titles)
	text, err := menu.text()
	b.grub.files[0].Text = text
	return err
}

// titles finds the entries' titles in the menu's text.
func (m *grubMenu) titles(text []byte) (titles []string, ok bool) {
	skip := 0 // variants of the first entry
	for _, v := range grubVariants {
		if !m.foreign || v.params != copyToRAM {
			skip++
		}
	}
	at := 0
	for line := range strings.Lines(string(text)) {
		title, ok := strings.CutPrefix(strings.TrimSuffix(line, " {\n"), "menuentry ")
		if !ok {
			continue
		}
		if at == 0 || at >= skip {
			titles = append(titles, grubUnquote(title))
		}
		if at++; len(titles) == len(m.entries) {
			return titles, true
		}
	}
	return nil, false
}

// ownAdded are the files that were added to the image and stay, and those that come; end closes the latter.
func (r *repack) ownAdded(image *ownImage, b *bootFiles) (end func(), err error) {
	gone := map[string]bool{}
	for _, name := range r.Remove {
		clean, err := imagePath(name)
		if err == nil {
			err = image.remove(clean, gone)
		}
		if err != nil {
			return nil, fmt.Errorf("--remove %s: %w", name, patherror.Bare(err))
		}
	}
	for _, f := range image.added {
		if !gone[f.Path] {
			b.added = append(b.added, image.keep(f))
		}
	}
	var changes iso.Changes
	if end, err = r.additions(&changes); err != nil {
		return nil, err
	}
	r.result.Removed = slices.Sorted(maps.Keys(gone))
	b.added = append(b.added, changes.Add...)
	stays := func(name string) bool { return image.isAdded[name] && !gone[name] }
	err = checkPlaces(image.files, changes.Add, stays)
	if err == nil {
		err = r.checkAdded(b)
	}
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// checkAdded finds what has no place in the image before its squashfs is pressed.
func (r *repack) checkAdded(b *bootFiles) error {
	for _, f := range b.added {
		if !fs.ValidPath(f.Path) {
			return OptionError{fmt.Errorf("--add: %q: not a path in UTF-8", f.Path)}
		}
	}
	_, err := iso.NewWriter(nil, r.isoOptions(b, nil, 0))
	return err
}

// remove marks the files at a path, or below it, as gone.
func (m *ownImage) remove(name string, gone map[string]bool) error {
	if _, err := fs.Lstat(m.files, name); err != nil {
		return err
	}
	return fs.WalkDir(m.files, name, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !m.isAdded[name] {
			return fmt.Errorf("%s %w", name, errOwnPart)
		}
		gone[name] = true
		return nil
	})
}

// keep copies a file of the old image.
func (m *ownImage) keep(f ManifestEntry) iso.Addition {
	return iso.Addition{Path: f.Path, Content: iso.Content{Size: f.Size, Write: func(w io.WriterAt) (int64, error) {
		src, err := m.files.Open(f.Path)
		if err != nil {
			return 0, err
		}
		defer src.Close() // read only: nothing is lost with its error
		return io.Copy(io.NewOffsetWriter(w, 0), src)
	}}}
}
