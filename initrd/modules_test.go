package initrd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/isopress/isopress/internal/testenv"
)

// makeModule is the least ELF file that is a module: a header, .modinfo with
// these fields, the section names, and three section headers.
func makeModule(fields ...string) []byte {
	le := binary.LittleEndian
	info := []byte(strings.Join(fields, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	shoff := 64 + len(info) + len(names)
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 1)  // e_type: ET_REL
	b = le.AppendUint16(b, 62) // e_machine: EM_X86_64
	b = le.AppendUint32(b, 1)  // e_version
	b = append(b, make([]byte, 16)...)
	b = le.AppendUint64(b, uint64(shoff)) // e_shoff
	b = le.AppendUint32(b, 0)             // e_flags
	for _, v := range []uint16{64, 0, 0, 64, 3, 2} {
		b = le.AppendUint16(b, v) // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
	}
	b = append(append(b, info...), names...)
	b = append(b, make([]byte, 64)...)
	b = appendSection(b, 1, 1, 64, len(info))             // SHT_PROGBITS
	b = appendSection(b, 10, 3, 64+len(info), len(names)) // SHT_STRTAB
	return b
}

func appendSection(b []byte, name, typ uint32, off, size int) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(le.AppendUint32(b, name), typ)
	for _, v := range []uint64{0, 0, uint64(off), uint64(size), 0, 1, 0} {
		b = le.AppendUint64(b, v) // sh_flags, addr, offset, size, link and info, addralign, entsize
	}
	return b
}

// tree writes a lib/modules/<version>; a module's value is its .modinfo.
func tree(t *testing.T, dir string, modules map[string]string, files map[string]string) string {
	t.Helper()
	for name, info := range modules {
		write(t, filepath.Join(dir, name), string(makeModule(strings.Split(info, ";")...)))
	}
	for name, content := range files {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

// kernel is a tree whose dependencies are in the modules alone.
func kernel(t *testing.T) string {
	return tree(t, filepath.Join(t.TempDir(), "6.1.0"), map[string]string{
		"kernel/fs/isofs.ko":            "license=GPL;depends=cdrom",
		"kernel/drivers/cdrom.ko":       "depends=",
		"kernel/drivers/sr-mod.ko":      "depends=cdrom,scsi-mod",
		"kernel/drivers/scsi_mod.ko":    "depends=scsi_common",
		"kernel/drivers/scsi_common.ko": "depends=",
		"kernel/drivers/sd_mod.ko":      "depends=scsi_mod;softdep=pre: crct10dif none post: later-on;softdep=platform:x",
		"kernel/crypto/crct10dif_a.ko":  "depends=",
		"kernel/crypto/crct10dif_b.ko":  "depends=",
		"kernel/later_on.ko":            "depends=;softdep=pre: sd_mod",
		"kernel/virtio_pci.ko":          "depends=virtio",
	}, map[string]string{
		"modules.builtin": "kernel/drivers/loop.ko\nkernel/drivers/virtio.ko\n",
		"modules.alias":   "# x\nalias crct10dif crct10dif_a\nalias crct10dif crct10dif_b\nalias pci:v*d* sr_mod\n",
		"kernel/README":   "not a module",
	})
}

func added(t *testing.T, dir string, want ...string) []string {
	t.Helper()
	var a Archive
	m, err := a.AddModules(dir, want)
	check(t, err)
	if len(m.Missing) > 0 || len(m.Builtin) > 0 {
		t.Errorf("missing %v, builtin %v", m.Missing, m.Builtin)
	}
	return m.Added
}

func TestAddModules(t *testing.T) {
	var a Archive
	m, err := a.AddModules(kernel(t), []string{"isofs", "sr_mod", "loop", "floppy", "sd-mod", "isofs"})
	check(t, err)
	want := []string{"cdrom", "isofs", "scsi_common", "scsi_mod", "sr_mod", "crct10dif_a", "crct10dif_b", "sd_mod", "later_on"}
	if !slices.Equal(m.Added, want) {
		t.Errorf("added %v, want %v", m.Added, want)
	}
	if m.Version != "6.1.0" || !slices.Equal(m.Builtin, []string{"loop"}) || !slices.Equal(m.Missing, []string{"floppy"}) {
		t.Errorf("%+v", m)
	}

	more, err := a.AddModules(kernel(t), []string{"isofs", "virtio_pci"})
	check(t, err)
	if !slices.Equal(more.Added, []string{"virtio_pci"}) {
		t.Errorf("the second time %v", more.Added)
	}
	const wantList = `/lib/modules/6.1.0/kernel/drivers/cdrom.ko
/lib/modules/6.1.0/kernel/fs/isofs.ko cdrom
/lib/modules/6.1.0/kernel/drivers/scsi_common.ko
/lib/modules/6.1.0/kernel/drivers/scsi_mod.ko scsi_common
/lib/modules/6.1.0/kernel/drivers/sr-mod.ko cdrom scsi_mod
/lib/modules/6.1.0/kernel/crypto/crct10dif_a.ko
/lib/modules/6.1.0/kernel/crypto/crct10dif_b.ko
/lib/modules/6.1.0/kernel/drivers/sd_mod.ko scsi_mod
/lib/modules/6.1.0/kernel/later_on.ko
/lib/modules/6.1.0/kernel/virtio_pci.ko
`
	if got := string(a.modules.file()); got != wantList {
		t.Errorf("list:\n%s", got)
	}
	if lines := list(t, plain(t, &a)); len(lines) != 10+1+9 { // modules, the list, directories
		t.Errorf("%d entries", len(lines))
	}
}

// TestModulesDep: the index wins over the modules, and over where they lie.
func TestModulesDep(t *testing.T) {
	dir := tree(t, filepath.Join(t.TempDir(), "6.1"), map[string]string{
		"kernel/a.ko": "depends=wrong", "kernel/b.ko": "depends=", "kernel/c.ko": "depends=",
		"updates/b.ko": "depends=", "extra/b.ko": "depends=", "kernel/d.ko": "depends=c",
	}, map[string]string{"modules.dep": "kernel/a.ko: extra/b.ko kernel/c.ko\nextra/b.ko: kernel/c.ko\nkernel/c.ko:\nnonsense\n"})
	if got := added(t, dir, "a", "d"); !slices.Equal(got, []string{"c", "b", "a", "d"}) {
		t.Errorf("got %v", got)
	}
	tr, err := openModuleTree(dir, "")
	check(t, err)
	if got := tr.files["b"].rel; got != "extra/b.ko" {
		t.Errorf("b is %s", got)
	}
	check(t, os.Remove(filepath.Join(dir, "modules.dep")))
	tr, err = openModuleTree(dir, "")
	check(t, err)
	if got := tr.files["b"].rel; got != "updates/b.ko" {
		t.Errorf("without modules.dep, b is %s", got)
	}
}

func TestModuleTreePlaces(t *testing.T) {
	base := t.TempDir()
	mod := map[string]string{"kernel/a.ko": "depends="}
	tree(t, filepath.Join(base, "plain/lib/modules/1.0"), mod, nil)
	tree(t, filepath.Join(base, "usr/usr/lib/modules/1.0"), mod, nil)
	check(t, os.MkdirAll(filepath.Join(base, "merged"), 0o755))
	check(t, os.Symlink("../usr/usr/lib", filepath.Join(base, "merged/lib")))
	check(t, os.Symlink(filepath.Join(base, "plain"), filepath.Join(base, "result")))
	for _, dir := range []string{"plain", "plain/lib/modules", "plain/lib/modules/1.0/", "usr", "merged", "result"} {
		var a Archive
		m, err := a.AddModules(filepath.Join(base, dir), []string{"a"})
		if err != nil || m.Version != "1.0" || len(m.Added) != 1 {
			t.Errorf("%s: %+v, %v", dir, m, err)
		}
	}
	t.Chdir(filepath.Join(base, "plain/lib/modules/1.0"))
	var a Archive
	if m, err := a.AddModules(".", []string{"a"}); err != nil || m.Version != "1.0" {
		t.Errorf("here: %+v, %v", m, err)
	}
}

func TestModuleTreeErrors(t *testing.T) {
	base := t.TempDir()
	mod := map[string]string{"kernel/a.ko": "depends=nowhere"}
	tree(t, filepath.Join(base, "two/lib/modules/1.0"), mod, nil)
	tree(t, filepath.Join(base, "two/lib/modules/2.0"), mod, nil)
	tree(t, filepath.Join(base, "1.0"), mod, nil)
	tree(t, filepath.Join(base, "empty/kernel"), nil, map[string]string{"x": ""})
	tree(t, filepath.Join(base, "garbage/kernel"), nil, map[string]string{"a.ko": "garbage", "b.ko.zst": "garbage"})
	tree(t, filepath.Join(base, "loop/kernel"), mod, nil)
	check(t, os.Symlink("..", filepath.Join(base, "loop/kernel/up")))
	for _, tc := range []struct{ dir, module, want string }{
		{"two", "a", "several versions, 1.0, 2.0: give the directory of one"},
		{"1.0", "a", "depends on nowhere, which the tree does not have"},
		{"empty", "a", "no .ko file"},
		{"none", "a", "no such file"},
		{".", "a", "no lib/modules/<version>"},
		{"garbage", "a", "not a kernel module"},
		{"garbage", "b", "b.ko.zst"},
		{"loop", "a", "do its symlinks go round?"},
	} {
		if tc.dir == "." {
			tc.dir = "empty/kernel"
		}
		var a Archive
		_, err := a.AddModules(filepath.Join(base, tc.dir), []string{tc.module})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "initrd: ") {
			t.Errorf("%s %s: %v", tc.dir, tc.module, err)
		}
		if len(a.entries) > 0 {
			t.Errorf("%s: %d entries in spite of the error", tc.dir, len(a.entries))
		}
	}
}

func TestTwoKernels(t *testing.T) {
	var a Archive
	_, err := a.AddModules(kernel(t), []string{"cdrom"})
	check(t, err)
	other := tree(t, filepath.Join(t.TempDir(), "7.0"), map[string]string{"kernel/a.ko": "depends="}, nil)
	if _, err := a.AddModules(other, []string{"a"}); !errors.Is(err, ErrModule) {
		t.Errorf("%v", err)
	}
}

// TestStoreTree: a tree of symlinks into other store paths, of a store that lies
// elsewhere, as NixOS's kernel-modules is one.
func TestStoreTree(t *testing.T) {
	root := t.TempDir()
	store := filepath.Join(root, "nix/store")
	tree(t, filepath.Join(store, "k/lib/modules/6.6/kernel"), map[string]string{"fs/a.ko": "depends=b", "b.ko": "depends="}, nil)
	tree(t, filepath.Join(store, "x"), map[string]string{"c-1.0-module": "depends="}, nil)
	tree(t, filepath.Join(store, "m/lib/modules/6.6"), nil, map[string]string{"modules.dep": "kernel/fs/a.ko: kernel/b.ko\nkernel/b.ko:\n"})
	for link, target := range map[string]string{
		"m/lib/modules/6.6/kernel": "/nix/store/k/lib/modules/6.6/kernel",
		"m/lib/modules/6.6/c.ko":   "/nix/store/x/c-1.0-module",
		"m/lib/modules/6.6/build":  "/nix/store/gone",
		"system":                   "m",
	} {
		check(t, os.Symlink(target, filepath.Join(store, link)))
	}
	a := Archive{Root: root}
	m, err := a.AddModules(filepath.Join(store, "system"), []string{"a", "c"})
	check(t, err)
	if !slices.Equal(m.Added, []string{"b", "a", "c"}) || m.Version != "6.6" {
		t.Errorf("%+v", m)
	}
	check(t, a.Write(context.Background(), io.Discard, Options{}))

	var here Archive // without the root, its symlinks lead nowhere
	if _, err := here.AddModules(filepath.Join(store, "system"), []string{"a"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestCompressedModules: stored expanded, whatever the tree has.
func TestCompressedModules(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "6.1")
	want := makeModule("depends=b,c,d", "padding="+strings.Repeat("p", 100000))
	leaf := makeModule("depends=")
	write(t, filepath.Join(dir, "kernel/d.ko"), string(leaf))
	write(t, filepath.Join(dir, "kernel/b.ko.gz"), string(gzipped(t, leaf)))
	enc, err := zstd.NewWriter(nil)
	check(t, err)
	write(t, filepath.Join(dir, "kernel/c.ko.zst"), string(enc.EncodeAll(leaf, nil)))
	testenv.NeedTool(t, "xz")
	cmd := exec.Command("xz", "--check=crc32", "--lzma2=dict=2MiB", "-c")
	cmd.Stdin = bytes.NewReader(want)
	packed, err := cmd.Output()
	check(t, err)
	write(t, filepath.Join(dir, "kernel/a.ko.xz"), string(packed))

	var a Archive
	m, err := a.AddModules(dir, []string{"a"})
	check(t, err)
	if !slices.Equal(m.Added, []string{"b", "c", "d", "a"}) {
		t.Errorf("%+v", m)
	}
	archive := plain(t, &a)
	for _, name := range []string{"a", "b", "c", "d"} {
		if !bytes.Contains(archive, []byte("/kernel/"+name+".ko\x00")) {
			t.Errorf("no %s.ko", name)
		}
	}
	if !bytes.Contains(archive, want) || bytes.Count(archive, leaf) != 3 {
		t.Error("other contents")
	}
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(b)
	check(t, errors.Join(err, w.Close()))
	return buf.Bytes()
}

func TestTruncatedModule(t *testing.T) {
	packed := gzipped(t, makeModule("depends=", "x="+strings.Repeat("abcdefgh", 1000)))
	for _, n := range []int{0, 5, len(packed) - 9, len(packed) - 1} {
		dir := filepath.Join(t.TempDir(), "6.1")
		write(t, filepath.Join(dir, "kernel/a.ko.gz"), string(packed[:n]))
		if _, err := new(Archive).AddModules(dir, []string{"a"}); !errors.Is(err, ErrModule) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestBomb: what expands without end is an error, not all of the memory.
func TestBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("expands 256 MiB")
	}
	dir := filepath.Join(t.TempDir(), "6.1")
	name := write(t, filepath.Join(dir, "kernel/a.ko.zst"), "")
	f, err := os.Create(name)
	check(t, err)
	enc, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	check(t, err)
	_, err = io.CopyN(enc, zeros{}, maxModule+1)
	check(t, errors.Join(err, enc.Close(), f.Close()))
	if _, err := new(Archive).AddModules(dir, []string{"a"}); err == nil || !strings.Contains(err.Error(), "more than 256 MiB") {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestParseModinfo(t *testing.T) {
	got := parseModinfo([]byte("\x00license=GPL\x00depends=a-b, c,\x00nonsense\x00softdep=pre: d e-f post: g\x00softdep=h post: i\x00depends"))
	for what, c := range map[string][2][]string{
		"depends": {got.depends, {"a_b", "c"}},
		"pre":     {got.pre, {"d", "e_f"}},
		"post":    {got.post, {"g", "i"}},
	} {
		if !slices.Equal(c[0], c[1]) {
			t.Errorf("%s: got %q, want %q", what, c[0], c[1])
		}
	}
}

func FuzzParseModule(f *testing.F) {
	f.Add(makeModule("depends=a,b", "softdep=pre: c"))
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Add(append([]byte("\x7fELF\x01\x02\x01"), make([]byte, 60)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := parseModule(bytes.NewReader(b))
		if err != nil && len(info.depends)+len(info.pre)+len(info.post) > 0 {
			t.Errorf("%+v in spite of %v", info, err)
		}
		for _, n := range slices.Concat(info.depends, info.pre, info.post) {
			if n == "" || strings.ContainsAny(n, "-\x00") {
				t.Errorf("name %q", n)
			}
		}
	})
}

func TestDefaultModules(t *testing.T) {
	seen := make(map[string]bool)
	for _, m := range DefaultModules {
		if seen[m] || m != normalName(m) {
			t.Errorf("%s: twice, or not a normal name", m)
		}
		seen[m] = true
	}
}
