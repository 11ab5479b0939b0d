package iso

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

const (
	isolinuxBin = "/usr/lib/ISOLINUX/isolinux.bin"
	isohybridPX = "/usr/lib/ISOLINUX/isohdpfx.bin"
	squashfs    = "live/filesystem.squashfs"
)

// style is a way in which others make images.
type style struct {
	name  string
	moves bool // what the BIOS boots lies behind the squashfs
	esp   int  // partitions of the MBR, GPT and APM that hold the EFI system partition
	make  func(t *testing.T, tree, out string)
}

// styles are the ways to make an image of a directory, each as near to its maker's command line as may be.
var styles = []style{
	{"live-build", true, 3, func(t *testing.T, tree, out string) {
		xorrisofs(t, tree, out, "-R", "-r", "-J", "-joliet-long", "-l", "-cache-inodes", "-iso-level", "3", "-A", "Debian Live", "-p", "live-build", "-V", "DEBIAN",
			"-isohybrid-mbr", isohybridPX, "-partition_offset", "16",
			"-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
			"-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat", "-isohybrid-apm-hfsplus",
			"--sort-weight", "2000000000", "/live") // so that what boots is behind it
	}},
	{"nixpkgs", false, 2, func(t *testing.T, tree, out string) {
		run(t, "xorriso", "-boot_image", "any", "gpt_disk_guid=0a3d1a52-6a2b-5d1c-8d0f-3b1f2a7c9e10", "-volume_date", "all_file_dates", "=1700000000",
			"-as", "mkisofs", "-iso-level", "3", "-volid", "nixos-minimal", "-full-iso9660-filenames", "-joliet", "-eltorito-boot", "isolinux/isolinux.bin",
			"-eltorito-catalog", ".boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-isohybrid-mbr", isohybridPX,
			"-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat", "-r", "-o", out,
			"--sort-weight", "0", "/", "--sort-weight", "1", "/isolinux", tree)
	}},
	{"archiso", false, 1, func(t *testing.T, tree, out string) {
		xorrisofs(t, tree, out, "-no-pad", "-iso-level", "3", "-full-iso9660-filenames", "-joliet", "-joliet-long", "-rational-rock", "-volid", "ARCH",
			"-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
			"-isohybrid-mbr", isohybridPX, "--mbr-force-bootable", "-partition_offset", "16",
			"-append_partition", "2", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", filepath.Join(tree, "boot/grub/efi.img"), "-appended_part_as_gpt",
			"-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot")
	}},
	{"ubuntu", true, 1, func(t *testing.T, tree, out string) {
		xorrisofs(t, tree, out, "-r", "-V", "UBUNTU", "-J", "-joliet-long", "-iso-level", "3", "--grub2-mbr", grubFile(t, "boot_hybrid.img"),
			"-partition_offset", "16", "--mbr-force-bootable", "-append_partition", "2", "0xef", filepath.Join(tree, "boot/grub/efi.img"), "-appended_part_as_gpt",
			"-c", "/boot.catalog", "-b", "/boot/grub/eltorito.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info",
			"-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
			"--sort-weight", "2000000000", "/live")
	}},
	{"appended MBR", false, 1, func(t *testing.T, tree, out string) {
		xorrisofs(t, tree, out, "-r", "-V", "APPENDED", "-isohybrid-mbr", isohybridPX, "-append_partition", "2", "0xef", filepath.Join(tree, "boot/grub/efi.img"),
			"-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
			"-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot")
	}},
	{"grub-mkrescue", false, 1, func(t *testing.T, tree, out string) {
		// Without HFS+, which is laid over the files.
		run(t, "grub-mkrescue", "-o", out, tree, "--", "-hfsplus", "off", "-volid", "GRUB")
	}},
	{"genisoimage", false, 0, func(t *testing.T, tree, out string) {
		run(t, "genisoimage", "-quiet", "-r", "-J", "-joliet-long", "-l", "-V", "GENISO", "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot",
			"-boot-load-size", "4", "-boot-info-table", "-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", "-o", out, tree)
	}},
	{"isohybrid -u", false, 2, func(t *testing.T, tree, out string) {
		run(t, "genisoimage", "-quiet", "-r", "-J", "-joliet-long", "-l", "-V", "HYBRID", "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot",
			"-boot-load-size", "4", "-boot-info-table", "-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", "-o", out, tree)
		run(t, "isohybrid", "-u", out)
		run(t, "implantisomd5", out)
	}},
	{"isohybrid", false, 0, func(t *testing.T, tree, out string) {
		run(t, "genisoimage", "-quiet", "-R", "-V", "OLD", "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot",
			"-boot-load-size", "4", "-boot-info-table", "-o", out, tree)
		run(t, "isohybrid", "-h", "255", "-s", "63", out)
	}},
	{"no Rock Ridge", false, 0, func(t *testing.T, tree, out string) {
		run(t, "genisoimage", "-quiet", "-J", "-joliet-long", "-l", "-D", "-V", "JOLIET", "-o", out, tree)
	}},
	{"ISO 9660:1999", false, 0, func(t *testing.T, tree, out string) {
		xorrisofs(t, tree, out, "-r", "-V", "LEVEL4", "-iso-level", "4")
	}},
	{"xorriso", false, 2, func(t *testing.T, tree, out string) {
		// Its own mode leaves room for a superblock of further sessions.
		run(t, "xorriso", "-outdev", out, "-volid", "NATIVE", "-joliet", "on", "-map", tree, "/", "-boot_image", "isolinux", "dir=/isolinux",
			"-boot_image", "isolinux", "system_area="+isohybridPX, "-boot_image", "any", "next", "-boot_image", "any", "efi_path=/boot/grub/efi.img", "-boot_image", "isolinux", "partition_entry=gpt_basdat")
	}},
	{"genisoimage level 4", false, 0, func(t *testing.T, tree, out string) {
		run(t, "genisoimage", "-quiet", "-r", "-V", "LEVEL4", "-iso-level", "4", "-o", out, tree)
	}},
	{"grub-mkrescue with HFS+", false, 1, func(t *testing.T, tree, out string) {
		run(t, "grub-mkrescue", "-o", out, tree, "--", "-volid", "GRUB")
	}},
}

func xorrisofs(t *testing.T, tree, out string, args ...string) {
	t.Helper()
	args = append(append([]string{"-as", "mkisofs", "-quiet"}, args...), "-o", out, tree)
	run(t, "xorriso", args...)
}

func grubFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("/usr/lib/grub/i386-pc", name)
	if _, err := os.Stat(path); err != nil {
		testenv.Missing(t, "%s: %v", path, err)
	}
	return path
}

// long skips tests that many programs take part in.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short")
	}
}

// image makes an image of a style, with all that a tree can have.
// fixed are styles from which nothing can be removed.
func (s style) fixed() bool { return strings.Contains(s.name, "HFS+") }

func (s style) image(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{isolinuxBin, isohybridPX} {
		if _, err := os.Stat(tool); err != nil {
			testenv.Missing(t, "%s: %v", tool, err)
		}
	}
	testenv.NeedTool(t, "xorriso", "genisoimage", "isohybrid", "implantisomd5", "grub-mkrescue", "grub-mkimage", "mformat", "bsdtar", "isoinfo")
	dir := t.TempDir()
	tree, out := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	makeTree(t, tree)
	s.make(t, tree, out)
	return out
}

// makeTree makes a live system's tree with small files in it.
func makeTree(t *testing.T, tree string) {
	t.Helper()
	isolinux, err := os.ReadFile(isolinuxBin)
	if err != nil {
		t.Fatal(err)
	}
	files := contents{
		"isolinux/isolinux.bin":    isolinux,
		"isolinux/isolinux.cfg":    []byte("default live\nlabel live\n\tappend boot=live\n"),
		"boot/grub/grub.cfg":       []byte("linux /live/vmlinuz boot=live\n"),
		"live/vmlinuz":             pattern("kernel", 123456),
		"live/initrd.img":          pattern("initrd", 54321),
		squashfs:                   pattern("squashfs", 3<<20+1234),
		"live/filesystem.size":     []byte("3\n"),
		"a/b/c/d/e/f/g/h/i/j/deep": []byte("deep"),
		"a/b/c/d/e/f/g/h/i/other":  []byte("other"),
		"a/b/c/Long Name " + strings.Repeat("x", 180) + ".txt": []byte("long"),
		"empty":     {},
		"zz/behind": pattern("behind", 77777),
	}
	for i := range 100 {
		files[fmt.Sprintf("many/file-number-%03d.dat", i)] = fmt.Appendf(nil, "%d\n", i)
	}
	for path, b := range files {
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	efi := filepath.Join(tree, "boot/grub/efi.img")
	run(t, "mformat", "-C", "-i", efi, "-f", "1440", "-N", "12345678", "::")
	run(t, "grub-mkimage", "-O", "i386-pc-eltorito", "-p", "/boot/grub", "-o", filepath.Join(tree, "boot/grub/eltorito.img"), "iso9660", "biosdisk")
	for link, target := range map[string]string{"debian": ".", "zz/link": "../live/filesystem.squashfs", "zz/dangling": "/no/such/../thing"} {
		if err := os.Symlink(target, filepath.Join(tree, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(tree, "live/vmlinuz"), filepath.Join(tree, "live/vmlinuz-6.1")); err != nil {
		t.Fatal(err)
	}
	for file, tool := range map[string]string{"md5sum.txt": "md5sum", "sha256sum.txt": "sha256sum"} {
		cmd := exec.Command("sh", "-c", "find . -type f ! -name '*sum.txt' ! -name isolinux.bin ! -name eltorito.img | sort | xargs -d '\\n' "+tool)
		cmd.Dir = tree
		sums, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, file), sums, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// open opens an image.
func open(t *testing.T, path string) *Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// rewriteTo rewrites an image into a file.
func rewriteTo(t *testing.T, im *Image, ch Changes) (string, *Rewritten) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new.iso")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := im.Rewrite(t.Context(), f, ch)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != r.Size {
		t.Errorf("file of %v bytes, result says %d", st.Size(), r.Size)
	}
	return path, r
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(x, y) {
		return
	}
	t.Errorf("%s of %d bytes and %s of %d differ", a, len(x), b, len(y))
	for i, n := 0, 0; i < min(len(x), len(y)) && n < 10; i++ {
		if x[i] != y[i] {
			t.Errorf("at %d (sector %d + %d): %02x, %02x", i, i/sectorSize, i%sectorSize, x[i], y[i])
			n++
		}
	}
}

func makeSmall(t testing.TB, tree, out string, more ...string) []byte {
	t.Helper()
	testenv.NeedTool(t, "xorriso")
	args := append([]string{"-as", "mkisofs", "-quiet", "-r", "-J", "-V", "SMALL", "-isohybrid-mbr", isohybridPX, "-partition_offset", "16", "-b", "boot.bin",
		"-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-no-pad", "-o", out}, more...)
	cmd := exec.Command("xorriso", append(args, tree)...)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
