package builder

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/nix"
)

const (
	top    = "/nix/store/c7rxzf9swawqx7ijzb5rprvp7lr6z3nf-system"
	linux  = "/nix/store/gbj06m36nicdf2apg6hlglqq4518id8b-linux"
	absent = "/nix/store/fkh0kbpqw8gl51jvniq78qgggcajiy5r-absent"
)

// testClosure is a store in a directory of the test's: files by path in it; a
// content that begins with "-> " is a symlink.
func testClosure(t *testing.T, files map[string]string) *Closure {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		host := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(host), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(content, "-> "); link {
			err = os.Symlink(target, host)
		} else {
			err = os.WriteFile(host, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := NewClosure(strings.NewReader(linux+"\n\n"+top+"\r\n"), root)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nixos is a top level as NixOS makes it.
var nixos = map[string]string{
	top + "/kernel":         "-> " + linux + "/bzImage",
	top + "/kernel-modules": "-> " + linux,
	top + "/init":           "#!/bin/sh",
	top + "/kernel-params":  "loglevel=4 quiet",
	top + "/data":           "not a program",
	linux + "/bzImage":      "kernel",
}

func with(files map[string]string, more map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range []map[string]string{files, more} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

func TestReadSystem(t *testing.T) {
	const spec = `{"org.nixos.bootspec.v1": {"label": "NixOS", "kernel": "` + linux + `/bzImage",
		"kernelParams": ["a", "b=c"], "init": "` + top + `/init", "initrd": "` + linux + `/bzImage"}}`
	for name, tc := range map[string]struct {
		more map[string]string
		want system
		err  string
	}{
		"links": {nil, system{kernel: top + "/kernel", modules: top + "/kernel-modules", init: top + "/init",
			params: []string{"loglevel=4", "quiet"}}, ""},
		"links with initrd": {map[string]string{top + "/initrd": "-> kernel"}, system{kernel: top + "/kernel",
			initrd: top + "/initrd", modules: top + "/kernel-modules", init: top + "/init", params: []string{"loglevel=4", "quiet"}}, ""},
		"bootspec": {map[string]string{top + "/boot.json": spec}, system{kernel: linux + "/bzImage",
			initrd: linux + "/bzImage", modules: top + "/kernel-modules", init: top + "/init", params: []string{"a", "b=c"}, label: "NixOS"}, ""},
		"bad bootspec":   {map[string]string{top + "/boot.json": "{"}, system{}, top + "/boot.json: unexpected end"},
		"other bootspec": {map[string]string{top + "/boot.json": `{"org.nixos.bootspec.v9":{}}`}, system{}, "no kernel and init of org.nixos.bootspec.v1"},
		"huge":           {map[string]string{top + "/boot.json": strings.Repeat(" ", maxBootFile+1)}, system{}, "over 1048576 bytes"},
	} {
		got, err := readSystem(testClosure(t, with(nixos, tc.more)), top+"/")
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v, want one with %q", name, err, tc.err)
			}
			continue
		}
		tc.want.toplevel = top
		if err != nil || !reflect.DeepEqual(*got, tc.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, tc.want)
		}
	}
	if _, err := readSystem(testClosure(t, nixos), absent); err == nil || !strings.Contains(err.Error(), "not in the closure") {
		t.Errorf("absent: %v", err)
	}
}

func TestCmdline(t *testing.T) {
	for name, tc := range map[string]struct {
		boot     Boot
		params   string
		initrd   string
		cmdline  string
		volumeID string
		err      string
	}{
		"ours":             {Boot{}, "quiet", InitrdAuto, "init=" + top + "/init root=LABEL=ISOPRESS quiet", "ISOPRESS", ""},
		"given, no root":   {Boot{}, "quiet", fromFile, "init=" + top + "/init root=LABEL=ISOPRESS quiet", "ISOPRESS", ""},
		"ours, with an ID": {Boot{VolumeID: `MY\DISK "1"`}, "quiet", InitrdAuto, "init=" + top + `/init root=LABEL=MY\x5cDISK\x20\x221\x22 quiet`, `MY\DISK "1"`, ""},
		"ours, for init":   {Boot{Cmdline: "-- single"}, "quiet", InitrdAuto, "init=" + top + "/init root=LABEL=ISOPRESS quiet -- single", "ISOPRESS", ""},
		"other root":       {Boot{Cmdline: "root=/dev/sr0"}, "", InitrdAuto, "init=" + top + "/init root=/dev/sr0", "ISOPRESS", ""},
		"theirs":           {Boot{VolumeID: "nixos-26.05-x86_64"}, "quiet", linux, "init=" + top + "/init quiet", "nixos-26.05-x86_64", ""},
		"label known":      {Boot{}, "root=LABEL=CORPUS quiet", linux, "init=" + top + "/init root=LABEL=CORPUS quiet", "CORPUS", ""},
		"label in quotes":  {Boot{Cmdline: `root="LABEL=MY ISO"`}, "", InitrdAuto, "init=" + top + `/init root="LABEL=MY ISO"`, "MY ISO", ""},
		"last label wins":  {Boot{Cmdline: `root=LABEL=b\x20c`}, "root=LABEL=a", InitrdAuto, "init=" + top + `/init root=LABEL=a root=LABEL=b\x20c`, "b c", ""},
		"same ID":          {Boot{VolumeID: "A"}, "root=LABEL=A", linux, "init=" + top + "/init root=LABEL=A", "A", ""},
		"other ID":         {Boot{VolumeID: "B"}, "root=LABEL=A", linux, "", "", `volume ID "B", but the command line says root=LABEL=A`},
		"open quote":       {Boot{Cmdline: `a="b`}, "", InitrdAuto, "", "", "a double quote is left open"},
		"other init":       {Boot{Init: top + "/init"}, "", linux, "init=" + top + "/init", "ISOPRESS", ""},
		"no init":          {Boot{Init: top + "/none"}, "", linux, "", "", "init " + top + "/none: "},
		"no program":       {Boot{Init: linux}, "", linux, "", "", "init " + linux + ": not a program"},
		"relative init":    {Boot{Init: "bin/sh"}, "", linux, "", "", "not an absolute path"},
		"init in quotes":   {Boot{Init: "/a b"}, "", linux, "", "", "white space"},
		"init elsewhere":   {Boot{Init: "/etc/init"}, "", linux, "", "", "/etc/init is not in the closure"},
	} {
		c := testClosure(t, with(nixos, map[string]string{"/etc/init": "#!/bin/sh"}))
		o := &Options{Source: Source{Closure: c}, Boot: tc.boot}
		b := &bootFiles{manifest: ManifestBoot{Initrd: tc.initrd}}
		err := o.setCmdline(b, &system{init: top + "/init", params: strings.Fields(tc.params)})
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v, want one with %q", name, err, tc.err)
			}
			continue
		}
		if err != nil || b.cmdline != tc.cmdline || b.volumeID != tc.volumeID {
			t.Errorf("%s: %q, volume ID %q, %v; want %q, %q", name, b.cmdline, b.volumeID, err, tc.cmdline, tc.volumeID)
		}
	}
}

func TestNoInit(t *testing.T) {
	o := &Options{Source: Source{Closure: testClosure(t, nixos)}}
	b := &bootFiles{manifest: ManifestBoot{Initrd: InitrdAuto}}
	if err := o.setCmdline(b, &system{}); err == nil || !strings.Contains(err.Error(), "no init") {
		t.Error(err)
	}
	o.Boot.Cmdline = "init=" + top + "/init"
	if err := o.setCmdline(b, &system{}); err != nil || b.cmdline != "root=LABEL=ISOPRESS init="+top+"/init" {
		t.Errorf("%q, %v", b.cmdline, err)
	}
}

// What boots lies in the closure, or it would be a file of the machine that builds.
func TestBootFilesOfTheHost(t *testing.T) {
	for _, link := range []string{"kernel", "initrd", "kernel-modules"} {
		c := testClosure(t, with(nixos, map[string]string{top + "/" + link: "-> /secret", "/secret": "secret"}))
		o := &Options{Source: Source{Closure: c}, Boot: Boot{System: top, InitBinary: "/bin/true"}}
		sys, err := o.bootSystem()
		if err != nil {
			t.Fatal(err)
		}
		b := &bootFiles{}
		switch link {
		case "kernel":
			err = o.setKernel(b, sys)
		case "initrd":
			err = o.setInitrd(b, sys)
		default:
			err = o.packInitrd(t.Context(), b, sys)
		}
		if err == nil || !strings.Contains(err.Error(), "/secret is not in the closure") {
			t.Errorf("%s leads out of the closure: %v", link, err)
		}
	}
}

func TestStoreRootIsALink(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "elsewhere"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "nix"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/elsewhere", filepath.Join(root, "nix/store")); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClosure(strings.NewReader(top+"\n"), root); err == nil || !strings.Contains(err.Error(), "is a link, to "+root+"/elsewhere") {
		t.Error(err)
	}
}

func TestClosureFS(t *testing.T) {
	c := testClosure(t, with(nixos, map[string]string{linux + "/bad \xff name": "x"}))
	dump := linux + "\n" + strings.Repeat("0", 64) + "\n1\n\n0\n"
	if err := c.SetRegistration(strings.NewReader(dump)); err == nil || !strings.Contains(err.Error(), "nothing about "+top) {
		t.Errorf("registration of one path of two: %v", err)
	}
	dump += absent + "\n" + strings.Repeat("0", 64) + "\n1\n\n0\n" + top + "\n" + strings.Repeat("0", 64) + "\n1\n\n2\n" + linux + "\n" + top + "\n"
	if err := c.SetRegistration(strings.NewReader(dump)); err != nil {
		t.Fatal(err)
	}
	fsys := c.FS().(*storeFS)
	b, err := fsys.Open("nix-path-registration")
	if err != nil {
		t.Fatal(err)
	}
	infos, err := nix.ParseRegistration(b)
	if err != nil || len(infos) != 2 || infos[0].Path != top {
		t.Errorf("registration %+v, %v", infos, err)
	}
	entries, err := fsys.ReadDir(nix.Base(linux))
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	info, err := fsys.Lstat(nix.Base(linux) + "/bad \xff name")
	if err != nil || info.Mode() != 0o555 || info.ModTime().Unix() != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := fsys.Open(nix.Base(absent)); err == nil {
		t.Error("a path that is not of the closure opens")
	}
}
