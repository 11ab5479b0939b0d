package iso

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What would not survive is refused, with a reason, and before anything is written.
func TestRewriteRefuse(t *testing.T) {
	plain := []string{"-r", "-V", "X", "-quiet"}
	for _, c := range []struct {
		name, want string
		make       func(t *testing.T, tree, out string)
	}{
		{"HFS+ over the files, with a free block", "whose file system says where it lies", func(t *testing.T, tree, out string) {
			run(t, "grub-mkrescue", "-o", out, tree)
			overwrite(t, out, []byte{1}, open(t, out).hfs.start+hfsHeader+hfsTotalBlocks+7)
		}},
		{"UDF", "UDF", func(t *testing.T, tree, out string) { run(t, "genisoimage", append(plain, "-udf", "-o", out, tree)...) }},
		{"two sessions", "several sessions", func(t *testing.T, tree, out string) {
			run(t, "xorriso", "-outdev", out, "-map", tree, "/", "-commit", "-map", isolinuxBin, "/second", "-commit", "-end")
		}},
		{"xorriso's checksums", "-md5", func(t *testing.T, tree, out string) { xorrisofs(t, tree, out, "-r", "--md5") }},
		{"zisofs", "zisofs", func(t *testing.T, tree, out string) {
			run(t, "xorriso", "-outdev", out, "-map", tree, "/", "-set_filter_r", "--zisofs", "/live/filesystem.squashfs", "--")
		}},
		{"a partition beyond the end", "beyond", func(t *testing.T, tree, out string) {
			xorrisofs(t, tree, out, "-r", "-b", "isolinux/isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-isohybrid-mbr", isohybridPX)
			overwrite(t, out, []byte{0xFF}, 446+15)
		}},
		{"unknown boot code", "neither isolinux's nor GRUB's", func(t *testing.T, tree, out string) {
			xorrisofs(t, tree, out, "-r", "-b", "zz/behind", "-no-emul-boot", "-boot-load-size", "4", "--sort-weight", "2000000000", "/live")
			overwrite(t, out, append(append(pattern("code", 440), make([]byte, 70)...), 0x55, 0xAA), 0)
		}},
		{"MIPS", "MIPS", func(t *testing.T, tree, out string) { xorrisofs(t, tree, out, "-r", "-mips-boot", "live/vmlinuz") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			tree, out := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
			makeTree(t, tree)
			if c.name == "zisofs" {
				zeros := filepath.Join(tree, squashfs)
				if err := os.WriteFile(zeros, make([]byte, 1<<20), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			c.make(t, tree, out)
			im := open(t, out)
			dst := new(output)
			for _, ch := range []Changes{
				{Replace: map[string]Content{squashfs: contentOf(pattern("new", 1000))}},
				{Remove: []string{"empty"}, Replace: map[string]Content{squashfs: contentOf(nil)}},
			} {
				_, err := im.Rewrite(t.Context(), dst, ch)
				if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
			}
			if len(dst.b) > 0 {
				t.Errorf("%d bytes were written", len(dst.b))
			}
			// Nothing moves without changes.
			same, _ := rewriteTo(t, im, Changes{})
			sameFile(t, out, same)
		})
	}
}

func overwrite(t *testing.T, path string, b []byte, pos int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, pos); err != nil {
		t.Fatal(err)
	}
}

// Changes that cannot be made.
func TestRewriteWrong(t *testing.T) {
	im := open(t, styles[0].image(t))
	one := contentOf([]byte("1"))
	for _, c := range []struct {
		ch   Changes
		want error
		text string
	}{
		{Changes{Replace: map[string]Content{"none": one}}, fs.ErrNotExist, "none"},
		{Changes{Replace: map[string]Content{"live": one}}, fs.ErrInvalid, "regular"},
		{Changes{Replace: map[string]Content{"empty": one}}, ErrUnsupported, "empty"},
		{Changes{Replace: map[string]Content{"live/vmlinuz": one, "live/vmlinuz-6.1": one}}, fs.ErrInvalid, "extents"},
		{Changes{Replace: map[string]Content{"live/vmlinuz": one}, Remove: []string{"live"}}, fs.ErrInvalid, "removed"},
		{Changes{Replace: map[string]Content{"isolinux/boot.cat": one}}, ErrUnsupported, "boot catalog"},
		{Changes{Remove: []string{"none"}}, fs.ErrNotExist, "none"},
		{Changes{Remove: []string{"."}}, fs.ErrInvalid, "root"},
		{Changes{Remove: []string{"isolinux/isolinux.bin"}}, ErrUnsupported, "isolinux.bin"},
		{Changes{Remove: []string{"boot/grub/efi.img"}}, ErrUnsupported, "efi.img"},
		{Changes{Add: []Addition{{Path: "empty", Content: one}}}, fs.ErrExist, "empty"},
		{Changes{Add: []Addition{{Path: "empty/x", Content: one}}}, fs.ErrExist, "no directory"},
		{Changes{Add: []Addition{{Path: "x", Content: one}, {Path: "x", Content: one}}}, fs.ErrExist, "x"},
		{Changes{Add: []Addition{{Path: "../x", Content: one}}}, fs.ErrInvalid, ""},
		{Changes{Add: []Addition{{Path: "a:b", Content: one}}}, nil, "Joliet"},
		{Changes{Replace: map[string]Content{squashfs: {Size: 1, Write: contentOf([]byte("22")).Write}}}, ErrSize, squashfs},
		{Changes{Replace: map[string]Content{squashfs: {Size: 1 << 43}}}, nil, "ISO 9660 holds"},
		{Changes{Replace: map[string]Content{squashfs: {Size: 9, Write: func(io.WriterAt) (int64, error) { return 0, io.ErrClosedPipe }}}}, io.ErrClosedPipe, squashfs},
	} {
		_, err := im.Rewrite(t.Context(), new(output), c.ch)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	deep := open(t, styles[6].image(t)) // genisoimage relocates deep directories
	for _, path := range []string{"a", "a/b/c/d/e/f/g/h", "rr_moved"} {
		if _, err := deep.Rewrite(t.Context(), new(output), Changes{Remove: []string{path}}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "relocated") {
			t.Errorf("%s: %v", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := im.Rewrite(ctx, new(output), Changes{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// Checksum files of several kinds, one that names another, and signatures.
func TestRewriteSums(t *testing.T) {
	dir := t.TempDir()
	tree, out := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	c := contents{
		"arch/x.sfs": pattern("old", 10000), "arch/x.sfs.sig": []byte("signature"), "arch/y.sfs": pattern("y", 3000), "other.sig": []byte("s"),
		"wrong.md5": []byte(strings.Repeat("0", 32) + "  arch/x.sfs\n"),
	}
	write := func(c contents) {
		for path, b := range c {
			path = filepath.Join(tree, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(c)
	sh := func(dir, script string) string { return run(t, "sh", "-c", "cd "+dir+" && "+script) }
	sh(tree, `(cd arch && sha512sum x.sfs >x.sha512) && md5sum --tag ./arch/x.sfs arch/y.sfs >MD5SUMS && sha1sum <arch/x.sfs | cut -c1-40 >arch/x.sfs.sha1 &&
		sha256sum -b MD5SUMS arch/* | tr a-f A-F | sed 's/  *\*/ */; s/ARCH/arch/' >CHECKSUMS; sha256sum MD5SUMS arch/x.sha512 arch/y.sfs | unix2dos >SHA256SUMS 2>/dev/null || sha256sum MD5SUMS arch/x.sha512 arch/y.sfs >SHA256SUMS`)
	xorrisofs(t, tree, out, "-r", "-J")
	path, r := rewriteTo(t, open(t, out), Changes{Replace: map[string]Content{"arch/x.sfs": contentOf(pattern("new", 20000))}})
	if got := strings.Join(r.Sums, " "); got != "MD5SUMS SHA256SUMS arch/x.sfs.sha1 arch/x.sha512" && got != "CHECKSUMS MD5SUMS SHA256SUMS arch/x.sfs.sha1 arch/x.sha512" {
		t.Errorf("corrected %q", got)
	}
	if got := strings.Join(r.Stale, " "); got != "arch/x.sfs.sig wrong.md5" {
		t.Errorf("stale: %q", got)
	}
	to := filepath.Join(dir, "out")
	run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", to)
	defer run(t, "chmod", "-R", "u+w", to)
	sh(to, `md5sum -c MD5SUMS && tr -d '\r' <SHA256SUMS | sha256sum -c && (cd arch && sha512sum -c x.sha512) && test "$(sha1sum <arch/x.sfs | cut -c1-40)" = "$(cat arch/x.sfs.sha1)"`)
}
