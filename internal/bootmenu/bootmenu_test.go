package bootmenu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isopress/isopress/internal/testenv"
)

var params = Params{Text: `mark=1 x="a b"`, GRUB: `mark=1 'x=a b'`}

func mapFS(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
	}
	return m
}

// expand makes two texts of one in which « and » enclose where the parameters have to come: + stands for them, - for a
// dash whose place they take.
func expand(marked, text string) (before, after string) {
	before = newLine.ReplaceAllString(marked, "")
	before = strings.NewReplacer("«+»", "", "«+ »", "", "«-»", "-").Replace(before)
	after = newLine.ReplaceAllString(marked, "$1 "+text+"$2")
	after = strings.NewReplacer("«+»", " "+text, "«+ »", text+" ", "«-»", text).Replace(after)
	return before, after
}

var newLine = regexp.MustCompile("«([ \t]*(?:append|options)) \\+»(\r?\n)")

// Each menu is in the manner of one that projects ship.
var menus = []struct {
	name   string
	loader Loader
	files  map[string]string
	looked int // more files than change
}{
	{"a label with its append", Syslinux, map[string]string{"isolinux/isolinux.cfg": "DEFAULT a\nLABEL a\n  KERNEL vmlinuz\n  APPEND initrd=initrd.img root=live:CDLABEL=X quiet«+»  \n"}, 0},
	{"no end of line", Syslinux, map[string]string{"syslinux.cfg": "label a\nlinux /k\nappend quiet«+»"}, 0},
	{"DOS lines", Syslinux, map[string]string{"boot/syslinux/SYSLINUX.CFG": "LABEL a\r\nLINUX /k\r\nAPPEND quiet«+»\r\nLABEL b\r\nLINUX /k\r\n«append +»\r\nLABEL c\r\nAPPEND«+»\r\nLINUX /k\r\n"}, 0},
	{"an installer's dashes, and init's", Syslinux, map[string]string{"isolinux/isolinux.cfg": "label a\n\tkernel /k\n\tappend vga=788 --- quiet«+»\nlabel b\nkernel /k\nappend a «+ »-- single\nlabel c\nkernel /k\nappend a=\" -- \"«+»\n"}, 0},
	{"labels under an append", Syslinux, map[string]string{
		"isolinux/isolinux.cfg": "append boot=live«+»\ninclude live.cfg\nlabel own\n  kernel /k\n  append own«+»\nlabel none\n  kernel /k\n  append «-»\n",
		"isolinux/live.cfg":     "label a\n  kernel /k\nlabel b\n  linux /k2\n",
	}, 1},
	{"menus within menus", Syslinux, map[string]string{
		"isolinux/isolinux.cfg": "label a\n  linux /k\n«  append +»\n  menu default\nmenu begin sub\n  append sub«+»\n  label b\n    linux /k\nmenu end\nlabel c\n  linux /k\nmenu include d.cfg d\nappend d«+»\nlabel d\nlinux /k\n",
		"isolinux/d.cfg":        "label d\n  linux /k\n  append own«+»\n  text help\n",
	}, 0},
	{"includes from the root, in capitals and with a tag", Syslinux, map[string]string{
		"isolinux/isolinux.cfg": "MENU INCLUDE /Menus/Main.cfg main\ninclude none.cfg\n",
		"menus/main.cfg":        "LABEL a\nLINUX /k\nAPPEND quiet«+»\n",
	}, 1},
	{"a menu that another leads to", Syslinux, map[string]string{
		"isolinux/isolinux.cfg": "append global\nlabel more\n  kernel vesamenu.c32\n  append sub/more.cfg\nlabel most\n  config most.cfg\nui vesamenu.c32 /ui.cfg\n",
		"isolinux/sub/more.cfg": "label a\n  kernel /k\n«  append +»\n",
		"isolinux/most.cfg":     "label a\n  kernel /k\n  append quiet«+»\n",
		"ui.cfg":                "label a\n  kernel /k\n  append quiet«+»\n",
	}, 1},
	{"what nothing leads to may be under an append", Syslinux, map[string]string{
		"isolinux/isolinux.cfg": "label a\n  linux /k\n  append quiet«+»\n",
		"isolinux/rest.cfg":     "label b\n  linux /k\nlabel c\n  linux /k\n  append quiet«+»\n",
	}, 0},
	{"no Linux", Syslinux, map[string]string{"isolinux/isolinux.cfg": strings.Join([]string{
		"label a\nkernel memtest\nappend x", "label b\nlinux /boot/memtest86+.bin\nappend x", "label c\nkernel hdt.c32\nappend x", "label d\nlocalboot 0x80", "label e\ncom32 chain.c32\nappend hd0",
		"label f\nkernel memdisk\nappend iso raw", "label g\nmenu exit", "label h\nkernel x.bin\nappend x", "label i\nboot x.bs\nappend x", "label j\nkernel mboot.c32\nappend xen.gz --- vmlinuz a --- initrd",
		"label k\ntext help\nappend x\nlabel l\nlinux /k\nendtext\n",
	}, "\n")}, 1},
	{"a label that is a kernel", Syslinux, map[string]string{"isolinux.cfg": "label vmlinuz\nappend quiet«+»\nlabel memtest\nappend x\n"}, 0},

	{"entries of GRUB", GRUB, map[string]string{"boot/grub/grub.cfg": "set timeout=1\nmenuentry 'Live' --class os {\n\tlinux\t/live/vmlinuz boot=live findiso=${iso_path}«+»  # linux /x y\n\tinitrd /live/initrd\n}\n# linux /a b\n"}, 0},
	{"its kinds of command", GRUB, map[string]string{"EFI/BOOT/grub.cfg": "linuxefi /k a«+»\nlinux16 /k a«+»\n$linux /k a«+»\n${linux_cmd} /k«+»\nlinux /memtest.bin x\nlinux16 /boot/memtest86+.bin\nlinux\necho linux /k a\nxlinux /k\n"}, 0},
	{"one line", GRUB, map[string]string{"boot/grub2/grub.cfg": "menuentry x { set a=\"b;c\"; linux /k 'a b'«+»; initrd /i; }\nif [ x ]; then linux /k c«+»; else linux /k $d«+»\nfi\nfunction f {linux $1 $2«+»; }\n"}, 0},
	{"lines that go on", GRUB, map[string]string{"boot/grub/kernels.cfg": "linux /k \\\n  a b\\\n  c«+»\nlinux /k \\\r\n  d«+»\r\nlinux /k e\\ f 'g\\' \"h\\\"#\"#«+» #i\n"}, 0},
	{"dashes", GRUB, map[string]string{"loopback.cfg": "linux /k a --- quiet«+»\nlinux /k a «+ »-- single\nlinux /k a '--b'«+»\n"}, 0},
	{"a quote that is open", GRUB, map[string]string{"boot/grub/grub.cfg": "linux /k a\necho 'b\n"}, 1},
	{"menus elsewhere", GRUB, map[string]string{"some/where/grub.cfg": "linux /k«+»\n", "boot/other/text.cfg": "linux /k\n", "efi/x/more.cfg": "linux /k«+»\n"}, 0},

	{"an entry", Entries, map[string]string{"loader/entries/arch.conf": "title Arch\nlinux /k\ninitrd /i\noptions a b«+»\n"}, 0},
	{"several options", Entries, map[string]string{"Loader/Entries/a.conf": "linux /k\noptions a\noptions b«+»\n", "x/loader/entries/b.conf": "options a «+ »-- b\noptions c\nlinux /k\n"}, 0},
	{"no options", Entries, map[string]string{"loader/entries/a.conf": "linux /k\n«options +»\ninitrd /i\n"}, 0},
	{"programs", Entries, map[string]string{"loader/entries/a.conf": "title shell\nefi /shell.efi\noptions x\n", "loader/entries/b.conf": "efi /k.efi\ninitrd /i\noptions x«+»\n", "loader/entries/c.conf": "linux /memtest\noptions x\n"}, 2},
}

func TestAppend(t *testing.T) {
	for _, c := range menus {
		t.Run(c.name, func(t *testing.T) {
			text := params.Text
			if c.loader == GRUB {
				text = params.GRUB
			}
			before, want := map[string]string{}, map[string]string{}
			for name, marked := range c.files {
				b, a := expand(marked, text)
				if before[name] = b; a != b {
					want[name] = a
				}
			}
			found, err := Append(mapFS(before), params)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range found.Menus {
				if string(m.Text) != want[m.Path] || m.Loader != c.loader {
					t.Errorf("%s of %s:\n%s\nwant:\n%s", m.Path, m.Loader, m.Text, want[m.Path])
				}
				delete(want, m.Path)
			}
			for name := range want {
				t.Errorf("%s stays as it is", name)
			}
			if n := len(found.Menus) + c.looked; len(found.Looked) != n {
				t.Errorf("looked in %q, %d wanted", found.Looked, n)
			}
		})
	}
}

// GRUB's own parser takes what it took before.
func TestGRUBReads(t *testing.T) {
	testenv.NeedTool(t, "grub-script-check")
	for _, c := range menus {
		if c.loader != GRUB || c.looked > 0 {
			continue
		}
		for name, marked := range c.files {
			before, after := expand(strings.ReplaceAll(marked, "function f {linux", "function f { linux"), params.GRUB)
			for _, text := range []string{before, after} {
				file := filepath.Join(t.TempDir(), "grub.cfg")
				if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "\r", "")), 0o666); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command("grub-script-check", file).CombinedOutput(); err != nil {
					t.Errorf("%s: %s: %v\n%s\n%s", c.name, name, err, out, text)
				}
			}
		}
	}
}

func TestAppendErrors(t *testing.T) {
	long := strings.Repeat("x", MaxCmdline)
	for _, c := range []struct{ file, text, want string }{
		{"isolinux.cfg", "label a\nlinux /k\nappend " + long + "\n", "isolinux.cfg: line 3: the kernel command line would have 207"},
		{"boot/grub/grub.cfg", "\nlinux /k " + long + "\n", "boot/grub/grub.cfg: line 2: the kernel command line would have 20"},
		{"loader/entries/a.conf", "linux /k\noptions a\noptions " + long + "\n", "loader/entries/a.conf: line 1: the kernel"},
		{"isolinux.cfg", "label a\nlinux /k\ninitrd /i\nappend " + long[30:] + "\n", "isolinux.cfg: line 4: the kernel command line would have 20"},
		{"isolinux.cfg", "include isolinux.cfg\n", "isolinux.cfg: menus include one another too often"},
		{"loader/entries/a.conf", "linux /k\ninitrd /i\noptions " + long[20:] + "\n", "loader/entries/a.conf: line 1: the kernel"},
		{"isolinux.cfg", "include b.cfg\ninclude b.cfg\n", "d.cfg: menus include one another too often"},
	} {
		files := map[string]string{c.file: c.text, "b.cfg": strings.Repeat("include c.cfg\n", 200), "c.cfg": strings.Repeat("include d.cfg\n", 200), "d.cfg": "x"}
		if !strings.HasPrefix(c.text, "include") {
			delete(files, "b.cfg")
		}
		if _, err := Append(mapFS(files), params); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.file, err, c.want)
		}
	}
	bad := params
	bad.GRUBErr = errors.New("not in GRUB")
	if _, err := Append(mapFS(map[string]string{"grub.cfg": "linux /k"}), bad); !errors.Is(err, bad.GRUBErr) {
		t.Error(err)
	}
	if _, err := Append(mapFS(map[string]string{"grub.cfg": "boot", "isolinux.cfg": "label a\nlinux k\nappend"}), bad); err != nil {
		t.Error(err)
	}
}

// pe is a program with sections.
func pe(sections ...string) string {
	b := make([]byte, 0x80+24+16, 1024)
	copy(b, "MZ")
	b[60] = 0x80
	copy(b[0x80:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[0x86:], uint16(len(sections)))
	b[0x80+20] = 16
	for _, s := range sections {
		section := make([]byte, 40)
		copy(section, s)
		b = append(b, section...)
	}
	return string(b)
}

func TestFound(t *testing.T) {
	found, err := Append(mapFS(map[string]string{
		"EFI/BOOT/BOOTX64.EFI": pe(".text", ".linux", ".cmdline"), "EFI/x.efi": pe(".text", ".data"), "EFI/y.EFI": "MZ", "EFI/z.efi": pe(".text")[:100],
		"EFI/BOOT/refind.conf": "x", "limine.conf": "x", "boot/grub/menu.lst": "x", "boot/grub/xen.cfg": "multiboot2 /xen.gz\nmodule2 /k\nmultiboot2 /xen.gz\n", "isolinux.cfg": "label a\nkernel mboot.c32\nappend xen.gz --- vmlinuz a --- initrd\n", "huge.cfg": strings.Repeat("x", maxMenu+1), "grub.cfg": "",
	}), params)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found.Unified, []string{"EFI/BOOT/BOOTX64.EFI"}) || len(found.Other) != 5 || len(found.Menus) > 0 || len(found.Looked) != 2 {
		t.Errorf("%+v", found)
	}
}

func TestIsLinux(t *testing.T) {
	for name, want := range map[string]bool{
		"vmlinuz": true, "/boot/grub/linux": true, "vmlinuz.compressed": true, "/EFI/x/vmlinuz.efi": true, `\\boot\\bzImage`: true, "($root)/k": true, "$kernel": true,
		"": false, "/memtest86+-5.bin": false, "mt86plus": false, "/boot/MEMDISK": false, "ipxe.lkrn": false, "chain.c32": false, "/grub/grub.exe": false, "hdt.c32": false,
	} {
		if isLinux(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// What is made to take long or much memory is refused.
func TestHostile(t *testing.T) {
	full := strings.Repeat("linux k\n", maxMenu/8)
	files := map[string]string{"grub.cfg": full}
	if _, err := Append(mapFS(files), params); err == nil || !strings.Contains(err.Error(), "more than 65536 kernel command lines") {
		t.Error(err)
	}
	full = strings.Repeat("# inux k\n", maxMenu/9)
	for i := range maxMenus/maxMenu + 1 {
		files[fmt.Sprintf("boot/grub/%d.cfg", i)] = full
	}
	if _, err := Append(mapFS(files), params); err == nil || !strings.Contains(err.Error(), "more than 32 MiB") {
		t.Error(err)
	}
	files = map[string]string{"isolinux.cfg": strings.Repeat("include a.cfg\n", 100), "a.cfg": full}
	if _, err := Append(mapFS(files), params); err == nil || !strings.Contains(err.Error(), "too often") {
		t.Error(err)
	}
}

func squeeze(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(s, "mark=1", "")), "")
}

// onlyMarked wants lines to differ only by the mark, and new ones to be an append or options.
func onlyMarked(t *testing.T, before, after string) {
	old := strings.Split(before, "\n")
	for _, l := range strings.Split(after, "\n") {
		switch s := squeeze(l); {
		case len(old) > 0 && l == old[0]:
			old = old[1:]
		case strings.Contains(l, "mark=1") && len(old) > 0 && (s == squeeze(old[0]) || s+"-" == squeeze(old[0])):
			old = old[1:]
		case strings.Contains(l, "mark=1") && (s == "append" || s == "options"):
		default:
			t.Fatalf("line %q, next of the old %q in\n%q\nthat was\n%q", l, old[:min(1, len(old))], after, before)
		}
	}
	if len(old) > 0 {
		t.Fatalf("%q are missing in\n%q\nthat was\n%q", old, after, before)
	}
}

func FuzzAppend(f *testing.F) {
	for _, c := range menus {
		for name, marked := range c.files {
			before, _ := expand(marked, "")
			f.Add(name, before)
		}
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		if strings.Contains(text, "mark=1") || strings.Contains(text, "\v") || strings.Contains(text, "\f") {
			return
		}
		for _, name := range []string{name, "isolinux/isolinux.cfg", "boot/grub/grub.cfg", "loader/entries/a.conf"} {
			files := mapFS(map[string]string{name: text, "isolinux/part.cfg": text})
			if !fs.ValidPath(name) || name == "." || strings.HasPrefix(name, "isolinux/part.cfg/") {
				continue
			}
			plain := Params{Text: "mark=1", GRUB: "mark=1"}
			found, err := Append(files, plain)
			if err != nil {
				continue
			}
			for _, m := range found.Menus {
				onlyMarked(t, text, string(m.Text))
				files[m.Path] = &fstest.MapFile{Data: m.Text, Mode: 0o444}
			}
			again, err := Append(files, plain)
			if err != nil {
				continue
			}
			if len(again.Menus) != len(found.Menus) {
				t.Fatalf("%d menus changed, then %d:\n%q", len(found.Menus), len(again.Menus), text)
			}
		}
	})
}
