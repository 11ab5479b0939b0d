package builder

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/bootmenu"
	"github.com/isopress/isopress/internal/fatedit"
	"github.com/isopress/isopress/internal/kcmdline"
	"github.com/isopress/isopress/iso"
)

// appendCmdline appends to the kernel command lines of an ISO's boot menus, of those in its tree and those in its FATs.
func (r *repack) appendCmdline(image *iso.Image, changes *iso.Changes) error {
	if r.CmdlineAppend == "" {
		return nil
	}
	c := &cmdlineEdit{repack: r, image: image, changes: changes}
	var err error
	if c.params, err = cmdlineParams(r.CmdlineAppend); err != nil {
		return OptionError{err}
	}
	if err := c.tree(); err != nil {
		return err
	}
	fats, err := allFATs(image)
	if err != nil {
		return err
	}
	for _, f := range fats {
		if r.removes(f.Name) {
			continue
		}
		if err := c.fat(f); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return c.end()
}

// allFATs are an ISO's FATs, those on disks that the BIOS emulates behind the others.
func allFATs(image *iso.Image) ([]iso.FAT, error) {
	list, err := image.FATs()
	if err != nil {
		return nil, err
	}
	disks, err := image.HardDisks()
	for _, f := range disks {
		if !slices.ContainsFunc(list, func(other iso.FAT) bool { return other.Pos == f.Pos }) {
			list = append(list, f)
		}
	}
	return list, err
}

// cmdlineParams checks parameters, and puts them in GRUB's language, too.
func cmdlineParams(line string) (p bootmenu.Params, err error) {
	words := kcmdline.Words(line)
	p.Text = strings.Join(words, " ")
	switch {
	case len(words) == 0:
		return p, errors.New("--cmdline-append: no parameter")
	case slices.Contains(words, "--"), slices.Contains(words, "---"):
		return p, errors.New(`--cmdline-append: kernel parameters only: what follows "--" is init's, and "---" an installer's`)
	case strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c == 0x7F }):
		return p, errors.New("--cmdline-append: a control character in it")
	}
	if err := kcmdline.Check(line); err != nil {
		return p, fmt.Errorf("--cmdline-append: %w", err)
	}
	args, err := (&grubMenu{}).grubArgs("", line)
	if err != nil {
		p.GRUBErr = fmt.Errorf("--cmdline-append: %w", err)
	}
	p.GRUB = strings.Join(args, " ")
	return p, nil
}

// cmdlineEdit is the changing of an image's command lines.
type cmdlineEdit struct {
	*repack
	image   *iso.Image
	changes *iso.Changes
	params  bootmenu.Params

	looked, unified, other []string
	uefi                   bool // a menu of a loader that starts under UEFI changes
}

// found notes what a tree has; prefix goes before its names.
func (c *cmdlineEdit) found(f *bootmenu.Found, prefix string) {
	note := func(list *[]string, names []string) {
		for _, name := range names {
			if !c.removes(prefix + name) {
				*list = append(*list, prefix+name)
			}
		}
	}
	note(&c.looked, f.Looked)
	note(&c.unified, f.Unified)
	note(&c.other, f.Other)
	f.Menus = slices.DeleteFunc(f.Menus, func(m bootmenu.Menu) bool { return c.removes(prefix + m.Path) })
	for _, m := range f.Menus {
		c.uefi = c.uefi || m.Loader != bootmenu.Syslinux
		c.result.Cmdlines = append(c.result.Cmdlines, prefix+m.Path)
	}
}

// tree changes the menus that are files of the ISO. Of several names of a file one is changed.
func (c *cmdlineEdit) tree() error {
	f, err := bootmenu.Append(c.image.FS(), c.params)
	if err != nil {
		return err
	}
	c.found(f, "")
	texts := make(map[int64]string) // by the file's position
	for _, m := range f.Menus {
		at, err := c.image.Extents(m.Path)
		if err != nil {
			return err
		}
		text, ok := texts[at[0].Offset]
		switch {
		case !ok:
			texts[at[0].Offset] = string(m.Text)
			c.changes.Replace[m.Path] = contentOf(m.Text)
		case text != string(m.Text):
			return fmt.Errorf("%s: another menu shares its bytes, and is of another boot loader", m.Path)
		}
	}
	return nil
}

func contentOf(b []byte) iso.Content {
	return iso.Content{Size: int64(len(b)), Write: func(w io.WriterAt) (int64, error) {
		n, err := w.WriteAt(b, 0)
		return int64(n), err
	}}
}

// fat changes the menus in a FAT.
func (c *cmdlineEdit) fat(f iso.FAT) error {
	fat, err := fatedit.Open(f, f.Size())
	if errors.Is(err, fatedit.ErrDamaged) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.warn("%s: command lines in it stay as they are: %v", f.Name, err)
		return nil
	}
	if err != nil {
		return err
	}
	found, err := bootmenu.Append(fat, c.params)
	if err != nil {
		return err
	}
	c.found(found, f.Name+":")
	for _, m := range found.Menus {
		if err := fat.Replace(m.Path, m.Text); err != nil {
			return err
		}
	}
	patches, err := fat.Patches()
	for _, p := range patches {
		c.changes.Patch = append(c.changes.Patch, iso.Patch{Pos: f.Pos + p.Pos, Bytes: p.Bytes})
	}
	return err
}

// end says what did not change.
func (c *cmdlineEdit) end() error {
	switch {
	case len(c.unified) > 0 && !c.uefi:
		return fmt.Errorf("%s: a unified kernel image, whose command line is a part of the program; no menu was found that starts under UEFI", c.unified[0])
	case len(c.result.Cmdlines) == 0 && len(c.looked)+len(c.other) == 0:
		return errors.New("no kernel command line found: there is no menu of isolinux, syslinux, GRUB or systemd-boot in it")
	case len(c.result.Cmdlines) == 0:
		return fmt.Errorf("no kernel command line found: looked in %s", listed(append(c.looked, c.other...)))
	}
	for _, name := range c.unified {
		c.warn("%s: a unified kernel image: its command line is a part of the program, and stays as it is", name)
	}
	for _, name := range c.other {
		c.warn("%s: in it is what is not understood, such as rEFInd's or Limine's menu or Xen's kernels: it stays as it is", name)
	}
	return nil
}

// listed shows some of many names.
func listed(names []string) string {
	const most = 10
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
