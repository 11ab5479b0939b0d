package builder

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/squashfs"
)

// fakeKernel passes for a kernel by its headers (Documentation/arch/x86/boot.rst), and tells of n.
func fakeKernel(n int) string {
	b := []byte(strings.Repeat(fmt.Sprintf("kernel %d, ", n), 5000))
	clear(b[:0x400])
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3C:], 0x300)
	copy(b[0x300:], "PE\x00\x00\x64\x86")
	b[0x1F1] = 3                    // setup_sects
	le.PutUint16(b[0x1FE:], 0xAA55) // boot_flag
	copy(b[0x202:], "HdrS\x0F\x02") // header, version
	b[0x211] = 1                    // loadflags
	le.PutUint16(b[0x236:], 1)      // xloadflags
	le.PutUint32(b[0x238:], 2047)   // cmdline_size
	le.PutUint64(b[0x258:], 16<<20) // pref_address
	le.PutUint32(b[0x260:], 32<<20) // init_size
	return string(b)
}

// ownFiles are of a top level with an initrd and files of all sorts.
func ownFiles() map[string]string {
	files := with(nixos, map[string]string{
		linux + "/bzImage": fakeKernel(1),
		linux + "/initrd":  "070701" + strings.Repeat("initrd ", 20_000),
		top + "/initrd":    "-> " + linux + "/initrd",
		top + "/names":     strings.Repeat(linux+"\n", 300),
	})
	for i := range 60 {
		files[fmt.Sprintf("%s/share/%d", []string{top, linux}[i%2], i)] = strings.Repeat(fmt.Sprintf("%d, ", i%7), 300*i)
	}
	return files
}

func ownClosure(t *testing.T, more map[string]string) *Closure {
	t.Helper()
	c := testClosure(t, with(ownFiles(), more))
	for _, p := range c.paths {
		info := nix.PathInfo{Path: p, NarHash: strings.Repeat("0", 64), NarSize: 1000}
		if p == top {
			info.References = []string{linux}
		}
		c.registration = append(c.registration, info)
	}
	return c
}

// ownTree is a root file system, with the kernel in it or beside it.
func ownTree(t *testing.T, kernel string) string {
	t.Helper()
	dir := t.TempDir()
	writeOld(t, filepath.Join(dir, "initrd"), "070701 initrd")
	writeOld(t, filepath.Join(dir, kernel), fakeKernel(2))
	writeOld(t, filepath.Join(dir, "tree/sbin/init"), "#!/bin/sh")
	writeOld(t, filepath.Join(dir, "tree/etc/text"), strings.Repeat("text of a file\n", 10_000))
	writeOld(t, filepath.Join(dir, "tree/etc/secret.key"), "left out")
	if err := os.Link(filepath.Join(dir, "tree/etc/text"), filepath.Join(dir, "tree/etc/link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ownModules has all that our initrd needs built in.
func ownModules(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"modules.dep": "", "modules.builtin": "kernel/loop.ko\nkernel/squashfs.ko\nkernel/overlay.ko\nkernel/isofs.ko\n",
	} {
		writeOld(t, filepath.Join(dir, "lib/modules/6.0", name), text)
	}
	return dir
}

// specs give the top level of ownClosure a specialisation with another kernel, and one with the same.
var specs = func() map[string]string {
	spec := func(kernel, params string) string {
		return fmt.Sprintf(`{"org.nixos.bootspec.v1": {"label": "It's {1}", "kernel": "%s", "kernelParams": [%s], "init": "%s/init", "initrd": "%s/initrd", "toplevel": "%[3]s"}}`,
			kernel, params, top, linux)
	}
	system := spec(linux+"/bzImage", `"root=LABEL=OWN", "quiet"`)
	return map[string]string{
		top + "/boot.json": strings.TrimSuffix(system, "}") + `, "org.nixos.specialisation.v1": {"on the 'road'": ` +
			spec(linux+"/other", `"root=LABEL=OWN", "on.the=road"`) + `, "same": ` + spec(linux+"/bzImage", "") + `}}`,
		linux + "/other": fakeKernel(3),
	}
}()

// ownSources are builds of all kinds, but for the output and how the squashfs is packed.
func ownSources(t *testing.T) map[string]Options {
	closure := Source{Closure: ownClosure(t, nil)}
	inside, beside := ownTree(t, "tree/boot/vmlinuz"), ownTree(t, "vmlinuz")
	tree := func(dir, kernel string, more Boot) Options {
		more.Kernel, more.Initrd = filepath.Join(dir, kernel), filepath.Join(dir, "initrd")
		return Options{Source: Source{Root: filepath.Join(dir, "tree")}, Boot: more}
	}
	excluded := tree(inside, "tree/boot/vmlinuz", Boot{VolumeID: "A tree's"})
	excluded.Exclude, excluded.SourceDate = []string{"*.key", "/etc/nothing/"}, time.Unix(1.2e9, 0)
	archive := filepath.Join(inside, "tar")
	writeTar(t, archive, filepath.Join(inside, "tree"))
	return map[string]Options{
		"a tar archive":      {Source: Source{Tar: []Archive{{Name: archive}}}, Boot: Boot{Kernel: filepath.Join(inside, "tree/boot/vmlinuz"), Initrd: filepath.Join(inside, "initrd")}},
		"a system":           {Source: closure, Boot: Boot{System: top}},
		"its date":           {Source: closure, Boot: Boot{System: top}, SourceDate: time.Unix(0, 0)},
		"no registration":    {Source: Source{Closure: testClosure(t, ownFiles())}, Boot: Boot{System: top, Cmdline: "-- single"}},
		"Joliet":             {Source: closure, Boot: Boot{System: top, Joliet: true}},
		"FAT32":              {Source: closure, Boot: Boot{System: top, FAT32: true, VolumeID: "FAT"}},
		"our initrd":         {Source: closure, Boot: Boot{System: top, Initrd: InitrdAuto, InitBinary: "/bin/true", KernelModules: ownModules(t)}},
		"excluded kernel":    {Source: closure, Boot: Boot{System: top}, Exclude: []string{"bzImage"}},
		"a tree":             tree(inside, "tree/boot/vmlinuz", Boot{}),
		"owned by root":      {Source: Source{Root: filepath.Join(inside, "tree"), AllRoot: true}, Boot: excluded.Boot},
		"excluded":           excluded,
		"a kernel beside":    tree(beside, "vmlinuz", Boot{Cmdline: `a="b c"`}),
		"a copy of a kernel": tree(inside, "../copy", Boot{}),
	}
}

func writeTar(t *testing.T, name, dir string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
		t.Fatal(err)
	}
	writeOld(t, name, b.String())
}

// pack are two ways to press a squashfs that have nothing in common.
func pack(t *testing.T, o Options, n int) Options {
	t.Helper()
	var err error
	o.Compression, err = squashfs.ParseCompression([]string{"gzip:1", "zstd:3"}[n])
	if err != nil {
		t.Fatal(err)
	}
	o.BlockSize, o.Order = []int{4096, 1 << 17}[n], []squashfs.Order{squashfs.OrderDirectory, squashfs.OrderDefault}[n]
	o.Output = filepath.Join(t.TempDir(), "image.iso")
	return o
}

// built is a build's image.
func built(t *testing.T, o Options) string {
	t.Helper()
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return o.Output
}

// repacked is an image that was made of another one.
func repacked(t *testing.T, image string, o RepackOptions) string {
	t.Helper()
	o.Image = image
	if _, err := Repack(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return o.Output
}

func needGRUB(t *testing.T) {
	t.Helper()
	testenv.NeedTool(t, grubMkimage)
	for _, p := range []grubPlatform{grubBIOS, grubEFI} {
		if !isDir(filepath.Join(grubSystemDir, p.name)) {
			testenv.Missing(t, "no %s in %s", p.name, grubSystemDir)
		}
	}
}

func wantSame(t *testing.T, what, got, want string) {
	t.Helper()
	a, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s: %d bytes, and %d, or others", what, len(a), len(b))
	}
}

// One of our images that is repacked is what a build with the new options gives, byte for byte.
func TestRepackOwn(t *testing.T) {
	sources := ownSources(t)
	copied := filepath.Join(filepath.Dir(sources["a copy of a kernel"].Boot.Kernel), "copy")
	writeOld(t, copied, fakeKernel(2))
	sources["systemd's stub"] = Options{Source: sources["a system"].Source, Boot: Boot{System: top, EFIStub: EFIStubSystemd}}
	sources["systemd's stub, long command line"] = Options{Source: sources["a system"].Source, Boot: Boot{System: top, EFIStub: EFIStubSystemd, Cmdline: strings.Repeat("x", 1500)}}
	sources["GRUB"] = Options{Source: Source{Closure: ownClosure(t, specs)}, Boot: Boot{System: top, Loader: LoaderGRUB}}
	sources["GRUB, our initrd"] = Options{Source: sources["GRUB"].Source, Boot: sources["our initrd"].Boot}
	grub := sources["GRUB, our initrd"]
	grub.Boot.Loader, grub.Boot.VolumeID = LoaderGRUB, "OWN"
	sources["GRUB, our initrd"] = grub
	foreign := sources["a tree"]
	foreign.Boot.Loader, foreign.Boot.VolumeID = LoaderGRUB, "{TREE}"
	sources["GRUB, a tree"] = foreign
	for name, o := range sources {
		t.Run(name, func(t *testing.T) {
			if o.Boot.Loader == LoaderGRUB {
				needGRUB(t)
			}
			if o.Boot.EFIStub != "" {
				if _, err := os.Stat("/usr/" + systemdStub); err != nil {
					testenv.Missing(t, "systemd's stub: %v", err)
				}
			}
			first, second := built(t, pack(t, o, 0)), built(t, pack(t, o, 1))
			again := RepackOptions{Options: pack(t, Options{}, 1)}
			wantSame(t, "repacked", repacked(t, first, again), second)
			back := RepackOptions{Options: pack(t, Options{}, 0)}
			wantSame(t, "and back", repacked(t, again.Output, back), first)
			same := RepackOptions{Options: pack(t, Options{}, 1), KeepSquashfs: true}
			wantSame(t, "with the squashfs as it is", repacked(t, first, same), first)
			if strings.Contains(o.Boot.Cmdline, "--") {
				return
			}
			words := RepackOptions{Options: pack(t, Options{}, 1), CmdlineAppend: `more="than one" debug`}
			o.Boot.Cmdline = strings.TrimSpace(o.Boot.Cmdline + " " + words.CmdlineAppend)
			wantSame(t, "with parameters", repacked(t, first, words), built(t, pack(t, o, 1)))
			words.KeepSquashfs = true
			wantSame(t, "with parameters alone", repacked(t, first, words), built(t, pack(t, o, 0)))
		})
	}
}

// A date that is given is that of a build with it.
func TestRepackOwnDate(t *testing.T) {
	o := ownSources(t)["a tree"]
	first := built(t, pack(t, o, 0))
	o.SourceDate = time.Unix(9e8, 0)
	again := RepackOptions{Options: pack(t, Options{SourceDate: o.SourceDate}, 1)}
	wantSame(t, "dated", repacked(t, first, again), built(t, pack(t, o, 1)))
}

// Parameters come ahead of what is init's own, and contradict nothing.
func TestRepackOwnCmdline(t *testing.T) {
	first := built(t, pack(t, ownSources(t)["no registration"], 0))
	o := RepackOptions{Options: pack(t, Options{}, 0), Image: first, CmdlineAppend: "debug"}
	if _, err := Repack(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	if want := "init=" + top + "/init loglevel=4 quiet debug -- single\x00"; !bytes.Contains(b, []byte(want)) {
		t.Errorf("no %q", want)
	}
	for append, want := range map[string]string{`a="b`: "quote", "root=LABEL=other": `volume ID "ISOPRESS"`, "ä": "printable ASCII", strings.Repeat("x", 2048): "2047"} {
		o.CmdlineAppend = append
		if _, err := Repack(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", append, err)
		}
	}
}

// Files that are added lie beside all else until they are removed.
func TestRepackOwnAdd(t *testing.T) {
	dir := t.TempDir()
	writeOld(t, filepath.Join(dir, "notes/a"), "a")
	writeOld(t, filepath.Join(dir, "notes/b/file"), "b")
	writeOld(t, filepath.Join(dir, "readme"), strings.Repeat("read me ", 1000))
	source := ownSources(t)["a system"]
	first, second := built(t, pack(t, source, 0)), built(t, pack(t, source, 1))
	add := RepackOptions{Options: pack(t, Options{}, 0), Add: []Add{{filepath.Join(dir, "notes"), "/notes"}, {filepath.Join(dir, "readme"), "README"}}}
	keep := RepackOptions{Options: pack(t, Options{}, 1)}
	repacked(t, repacked(t, first, add), keep)
	add.Options = pack(t, Options{}, 1)
	wantSame(t, "kept", keep.Output, repacked(t, second, add))
	fewer := RepackOptions{Options: pack(t, Options{}, 1), Remove: []string{"/notes/b/", "README"}}
	repacked(t, keep.Output, fewer)
	add.Options, add.Add = pack(t, Options{}, 1), []Add{{filepath.Join(dir, "notes/a"), "notes/a"}}
	wantSame(t, "some removed", fewer.Output, repacked(t, second, add))
	none := RepackOptions{Options: pack(t, Options{}, 1), Remove: []string{"notes"}}
	wantSame(t, "all removed", repacked(t, fewer.Output, none), second)
	for want, o := range map[string]RepackOptions{
		"boot/kernel is a part":          {Remove: []string{"boot/kernel"}},
		"boot/bios.bin is a part":        {Remove: []string{"boot"}},
		"nix-store.squashfs is a part":   {Remove: []string{"nix-store.squashfs"}},
		"isopress.json is a part":        {Remove: []string{"isopress.json"}},
		"EFI/BOOT/BOOTX64.EFI is a part": {Remove: []string{"EFI"}},
		"is a part of how isopress":      {Remove: []string{"/"}},
		"file does not exist":            {Remove: []string{"nothing"}},
		"notes/a is there already":       {Add: add.Add},
		"BOOTX64.EFI: is there twice":    {Add: []Add{{filepath.Join(dir, "readme"), "EFI/BOOT/BOOTX64.EFI"}}},
		"isopress.json: is there twice":  {Add: []Add{{filepath.Join(dir, "readme"), "isopress.json"}}},
		"boot/kernel: is a file and a":   {Add: []Add{{filepath.Join(dir, "readme"), "boot/kernel/x"}}},
		"no such file":                   {Add: []Add{{filepath.Join(dir, "none"), "none"}}},
		`"\xff": not a path in UTF-8`:    {Add: []Add{{filepath.Join(dir, "readme"), "\xff"}}},
	} {
		o.Image, o.Options = fewer.Output, pack(t, Options{}, 1)
		if _, err := Repack(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if _, err := os.Stat(o.Output); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: there is an output: %v", want, err)
		}
	}
}
