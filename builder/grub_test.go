package builder

import (
	"bytes"
	"context"
	"debug/pe"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// nasty has all that GRUB's script language could take for its own.
const nasty = `a $HOME ${x} "b" 'c' \d {e} ;f |g &h <i> #j *k ?l [m] ~n (o) !p` + "`q`"

var grubEntries = []bootEntry{
	{"NixOS 26.05 (Linux 6.18)", "boot/kernel", "boot/initrd", `init=/nix/store/x/init "root=LABEL=A B" quiet dyndbg="file drivers/usb/* +p" a;b=$c{#|&<> -- single`},
	{"It's a variant", "boot/specialisation/it_s/kernel", "", "init=/nix/store/y/init"},
}

func TestGRUBMenu(t *testing.T) {
	menu, err := (&grubMenu{entries: grubEntries}).text()
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "grub.cfg")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(menu, want) {
		t.Errorf("the menu is not as in %s:\n%s", golden, menu)
	}
	if menu, err := (&grubMenu{entries: grubEntries, ours: true}).text(); err != nil || bytes.Contains(menu, []byte("iso")) {
		t.Errorf("a menu without findiso=: %v\n%s", err, menu)
	}
	without := regexp.MustCompile(`(?s)\n\nmenuentry '[^']*copy to RAM.*?\n}`).ReplaceAll(want, nil)
	if menu, err := (&grubMenu{entries: grubEntries, foreign: true}).text(); err != nil || !bytes.Equal(menu, without) || bytes.Equal(menu, want) {
		t.Errorf("a menu for another's initrd: %v\n%s", err, menu)
	}
}

// GRUB's own parser reads what we write.
func TestGRUBScripts(t *testing.T) {
	testenv.NeedTool(t, "grub-script-check")
	entries := []bootEntry{{nasty, "boot/kernel", "boot/initrd", "x=$y;z={w}"}}
	menu, err := (&grubMenu{entries: append(entries, grubEntries...)}).text()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"menu": menu, "search": grubSearch(nasty), "plain search": grubSearch("ISOPRESS")} {
		check := exec.Command("grub-script-check")
		check.Stdin = bytes.NewReader(text)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, text)
		}
	}
}

func TestGRUBMenuErrors(t *testing.T) {
	long := strings.Repeat("x", maxGRUBCmdline)
	for name, tc := range map[string]struct {
		entry bootEntry
		err   string
	}{
		"title":     {bootEntry{Title: "a\nb", Kernel: "k"}, "not printable"},
		"quote":     {bootEntry{Title: "t", Kernel: "k", Cmdline: `a=b"c`}, "GRUB passes"},
		"single":    {bootEntry{Title: "t", Kernel: "k", Cmdline: `a='b'`}, `kernel parameter a='b': holds '\''`},
		"backslash": {bootEntry{Title: "t", Kernel: "k", Cmdline: `root=LABEL=A\x20B`}, "GRUB passes"},
		"bytes":     {bootEntry{Title: "t", Kernel: "k", Cmdline: "a=é"}, "printable ASCII"},
		"length":    {bootEntry{Title: "t", Kernel: "k", Cmdline: long}, "the kernel takes 2047"},
	} {
		if _, err := (&grubMenu{entries: []bootEntry{tc.entry}}).text(); err == nil || !strings.Contains(err.Error(), tc.err) || !errors.As(err, new(OptionError)) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.err)
		}
	}
}

func TestGRUBArgs(t *testing.T) {
	for line, want := range map[string]string{
		"":                            "",
		"quiet  -- single":            "quiet -- single",
		`root=LABEL=a\x20b`:           `'root=LABEL=a b'`,
		`root=/dev/disk/by-label/a`:   `root=LABEL=a`,
		"root=/dev/sr0 uproot=LABEL=": "root=/dev/sr0 uproot=LABEL=",
		`"root=LABEL=MY ISO"`:         `'root=LABEL=MY ISO'`,
		`root="LABEL=MY ISO" quiet`:   `'root=LABEL=MY ISO' quiet`,
		`a="" b=""`:                   `a= b=`,
		`a=$b c;d {e}`:                `'a=$b' 'c;d' '{e}'`,
	} {
		args, err := (&grubMenu{ours: true}).grubArgs("/boot/kernel", line)
		if got := strings.Join(args, " "); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", line, got, err, want)
		}
	}
	for _, n := range []int{0, 1} {
		line := strings.Repeat("x", maxGRUBCmdline-len("BOOT_IMAGE=/k ")+n)
		if _, err := new(grubMenu).grubArgs("/k", line); (err == nil) != (n == 0) {
			t.Errorf("%d bytes over the limit: %v", n, err)
		}
	}
}

func TestAddParams(t *testing.T) {
	for line, want := range map[string]string{"": "x y", "a": "a x y", "a -- b": "a x y -- b", `a="-- b"`: `a="-- b" x y`} {
		if got := addParams(line, "x y"); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// testGRUB is a directory with both halves, and a grub-mkimage beside it that
// runs a script.
func testGRUB(t *testing.T, script string) string {
	t.Helper()
	prefix := t.TempDir()
	dir := filepath.Join(prefix, "lib/grub")
	for _, p := range []grubPlatform{grubBIOS, grubEFI} {
		if err := os.MkdirAll(filepath.Join(dir, p.name), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range p.needs {
			if err := os.WriteFile(filepath.Join(dir, p.name, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Mkdir(filepath.Join(prefix, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(prefix, "bin", grubMkimage), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFindGRUB(t *testing.T) {
	dir := testGRUB(t, "")
	o := &Options{Boot: Boot{GRUBDirs: []string{t.TempDir(), dir}}}
	bios, efi, err := o.findGRUB()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(dir, "../../bin", grubMkimage)
	if bios.dir != filepath.Join(dir, "i386-pc") || efi.dir != filepath.Join(dir, "x86_64-efi") || bios.mkimage != beside || efi.mkimage != beside {
		t.Errorf("%+v, %+v", bios, efi)
	}
	if err := os.Remove(bios.file("cdboot.img")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.findGRUB(); err == nil || !strings.Contains(err.Error(), "i386-pc/cdboot.img: no such file") {
		t.Errorf("without cdboot.img: %v", err)
	}
	if err := os.RemoveAll(efi.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := o.findGRUBHalf(grubEFI); err == nil || !strings.Contains(err.Error(), "install grub-efi-amd64-bin (Debian) or take grub2_efi of nixpkgs") {
		t.Errorf("without x86_64-efi: %v", err)
	}
}

func TestFindGRUBInClosure(t *testing.T) {
	half := func(store string) map[string]string {
		files := map[string]string{store + "/bin/" + grubMkimage: "#!/bin/sh"}
		for _, name := range grubEFI.needs {
			files[store+"/lib/grub/x86_64-efi/"+name] = name
		}
		return files
	}
	t.Setenv("PATH", t.TempDir())
	c := testClosure(t, with(nixos, half(linux)))
	o := &Options{Source: Source{Closure: c}}
	// The store is not this machine's, and so its programs are not run.
	if _, err := o.findGRUBHalf(grubEFI); err == nil || !strings.Contains(err.Error(), "install grub-common") {
		t.Errorf("with no grub-mkimage of the host's: %v", err)
	}
	found, _, err := o.grubDir(grubEFI)
	if want := c.root.Host(linux + "/lib/grub/x86_64-efi"); err != nil || found != want {
		t.Errorf("%s, %v; want %s", found, err, want)
	}
	o.Source.Closure = testClosure(t, with(with(nixos, half(linux)), half(top)))
	if _, err := o.findGRUBHalf(grubEFI); err == nil || !strings.Contains(err.Error(), "more than once") {
		t.Errorf("two in the closure: %v", err)
	}
	o.Source.Closure = testClosure(t, with(nixos, map[string]string{linux + "/lib/grub": "-> /secret", "/secret/x86_64-efi/kernel.img": ""}))
	if _, err := o.findGRUBHalf(grubEFI); err == nil || !strings.Contains(err.Error(), "/secret/x86_64-efi is not in the closure") {
		t.Errorf("a link out of the closure: %v", err)
	}
}

func TestMkimageErrors(t *testing.T) {
	o := &Options{Boot: Boot{GRUBDirs: []string{testGRUB(t, "echo \"grub-mkimage: error: no such thing\" >&2; exit 1")}}}
	if _, err := o.prepareGRUB(t.Context(), "A", grubMenu{entries: grubEntries}); err == nil || !strings.Contains(err.Error(), "exit status 1: grub-mkimage: error: no such thing") {
		t.Errorf("a failing grub-mkimage: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.prepareGRUB(ctx, "A", grubMenu{entries: grubEntries}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	o.Boot.GRUBDirs = []string{testGRUB(t, "")}
	if _, err := o.prepareGRUB(t.Context(), "A", grubMenu{entries: grubEntries}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no image: %v", err)
	}
}

// The images depend on GRUB and the volume ID alone, and not on the directory's place.
func TestGRUBImages(t *testing.T) {
	testenv.NeedTool(t, "grub-mkimage")
	elsewhere := filepath.Join(t.TempDir(), "grub")
	if err := os.CopyFS(elsewhere, os.DirFS(grubSystemDir)); err != nil {
		testenv.Missing(t, "GRUB's directory: %v", err)
	}
	var first *grubBoot
	for _, dirs := range [][]string{nil, {elsewhere}} {
		o := &Options{Boot: Boot{GRUBDirs: dirs}}
		g, err := o.prepareGRUB(t.Context(), nasty, grubMenu{entries: grubEntries})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = g
		}
		if !reflect.DeepEqual(g, first) {
			t.Error("GRUB in another place gives other images")
		}
	}
	if v := first.manifest.BIOS.Version; v == "" || v[0] < '0' || v[0] > '9' || first.manifest.EFI.Version != v {
		t.Errorf("version %q", v)
	}
	if len(first.files) != 2 || first.files[0].Path != grubMenuFile {
		t.Errorf("files %q", first.files)
	}
	checkGRUBImages(t, first)
}

// checkGRUBImages sees to it that the places are there that iso fills in.
func checkGRUBImages(t *testing.T, g *grubBoot) {
	t.Helper()
	mbr, boot := g.images.MBR, g.images.ElTorito
	if len(mbr) != 512 || binary.LittleEndian.Uint64(mbr[0x1b0:]) != 1 {
		t.Error("boot_hybrid.img has no place for its successor")
	}
	// diskboot.img's last block list: from block 2, so many, to segment 0x820.
	list := boot[2548:]
	blocks := (len(boot) - 2560 + 511) / 512
	if binary.LittleEndian.Uint64(list) != 2 || int(binary.LittleEndian.Uint16(list[8:])) != blocks || binary.LittleEndian.Uint16(list[10:]) != 0x820 {
		t.Errorf("diskboot.img's block list is % x", list[:12])
	}
	f, err := pe.NewFile(bytes.NewReader(g.images.EFI))
	if err != nil || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		t.Errorf("EFI image: %v", err)
	}
}

func TestCheckLoader(t *testing.T) {
	for name, tc := range map[string]struct {
		boot Boot
		ok   bool
	}{
		"default": {Boot{}, true}, "stub": {Boot{Loader: LoaderStub}, true}, "grub": {Boot{Loader: LoaderGRUB, GRUBDirs: []string{"x"}}, true},
		"other": {Boot{Loader: "lilo"}, false}, "directory for the stub": {Boot{GRUBDirs: []string{"x"}}, false},
	} {
		if err := tc.boot.checkLoader(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
