package builder

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Where GRUB, and another GRUB that has the ISO as a file, look for the menu.
const (
	grubMenuFile     = "boot/grub/grub.cfg"
	grubLoopbackFile = "boot/grub/loopback.cfg"
)

// grubSearch is the first configuration, in the image itself. It sets the terminals
// up, a serial line only where there is one, and finds the ISO: the device that GRUB was
// started from comes first, so that of several media with the same volume ID it is the one
// that booted. On EFI that device is the EFI system partition, hence the cut at the comma.
func grubSearch(volumeID string) []byte {
	return fmt.Appendf(nil, `if serial --unit=0 --speed=115200; then
	terminal_input console serial
	terminal_output console serial
fi
regexp --set=1:disk '^([^,]*)' "$root"
search --no-floppy --set=root --hint "$disk" --label -- %s
if [ -f "($root)/%s" ]; then
	source "($root)/%[2]s"
else
	menuentry %s {
		configfile $prefix/grub.cfg
	}
fi
`, grubQuote(volumeID), grubMenuFile, grubQuote("No medium "+volumeID+" with a menu: look again"))
}

// grubVariants are the entries that the first system has in the menu, each with what
// it adds to the kernel's command line.
var grubVariants = []struct{ title, params string }{
	{"", ""},
	{" (serial console)", "console=tty0 console=ttyS0,115200n8"}, // the last one is /dev/console
	{" (copy to RAM)", copyToRAM},
	{" (nomodeset)", "nomodeset"},
}

// copyToRAM is for our initrds and NixOS's (nixos/modules/system/boot/stage-1-init.sh).
const copyToRAM = "copytoram"

const grubMenuHead = `set default=0
set timeout=5
set gfxpayload=keep
`

// findISOHead is for initrds that know findiso=, as NixOS's do, and ours do not:
// another GRUB that has the ISO as a file names it in iso_path
// (https://www.supergrubdisk.org/wiki/Loopback.cfg).
const findISOHead = `if [ -n "$iso_path" ]; then
	set isoboot="findiso=$iso_path"
fi
`

const grubMenuTail = `
if [ "$grub_platform" = efi ]; then
	menuentry 'Firmware setup' {
		fwsetup
	}
fi
menuentry 'Restart' {
	reboot
}
menuentry 'Power off' {
	halt
}
`

// grubMenu is the menu as it lies in the ISO. Its paths are those of the device
// that root names, which whoever reads it has set.
type grubMenu struct {
	entries []bootEntry // the first one is started when nobody chooses, and has variants
	ours    bool        // the initrds are our own
	foreign bool        // they are neither our own nor the system's
}

// text is the menu's file.
func (m *grubMenu) text() ([]byte, error) {
	var b strings.Builder
	b.WriteString(grubMenuHead)
	if !m.ours {
		b.WriteString(findISOHead)
	}
	for i, e := range m.entries {
		variants := grubVariants
		if i > 0 {
			variants = variants[:1]
		}
		for _, v := range variants {
			if m.foreign && v.params == copyToRAM {
				continue
			}
			text, err := m.entry(e, v.title, v.params)
			if err != nil {
				return nil, OptionError{fmt.Errorf("GRUB's menu: %s: %w", e.Title+v.title, err)}
			}
			b.WriteString(text)
		}
	}
	b.WriteString(grubMenuTail)
	return []byte(b.String()), nil
}

// entry is one entry's text, with more in its title and its parameters.
func (m *grubMenu) entry(e bootEntry, title, params string) (string, error) {
	if err := checkTitle(e.Title); err != nil {
		return "", err
	}
	args, err := m.grubArgs("/"+e.Kernel, addParams(e.Cmdline, params))
	if err != nil {
		return "", err
	}
	if !m.ours {
		args = append([]string{"$isoboot"}, args...)
	}
	text := fmt.Sprintf("\nmenuentry %s {\n\tlinux %s %s\n", grubQuote(e.Title+title), grubWord("/"+e.Kernel), strings.Join(args, " "))
	if e.Initrd != "" {
		text += fmt.Sprintf("\tinitrd %s\n", grubWord("/"+e.Initrd))
	}
	return text + "}\n", nil
}

func checkTitle(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("the title is not printable")
	}
	return nil
}

// grubWord is a word of GRUB's script language that stands for s, in quotes only where
// that matters, since people edit the lines in the menu.
func grubWord(s string) string {
	plain := func(c rune) bool {
		return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("/._-+=:,@%", c)
	}
	if s != "" && !strings.ContainsFunc(s, func(c rune) bool { return !plain(c) }) {
		return s
	}
	return grubQuote(s)
}

// grubQuote is s in quotes, in which GRUB reads nothing but their end
// (grub-core/script/yylex.l, SQUOTE).
func grubQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", grubApostrophe) + "'" }

// grubUnquote is what grubQuote made s of; of another s it is nothing of use.
func grubUnquote(s string) string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "'"), "'")
	return strings.ReplaceAll(s, grubApostrophe, "'")
}

const grubApostrophe = `'"'"'`
