package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/internal/testenv"
)

// kernel stands for what is in no squashfs.
var kernel = bytes.Repeat([]byte("kernel of the foreign image. "), 3000)

// press makes an image of isolinux, a system partition, a squashfs, checksums and an implanted one. Two that
// differ by the codec differ by what a tool may change.
func press(t *testing.T, codec string, edit func(tree string)) string {
	t.Helper()
	for _, tool := range []string{"xorriso", "mksquashfs", "unsquashfs", "mkfs.vfat", "mcopy", "fsck.fat", "sgdisk", "implantisomd5", "checkisomd5"} {
		testenv.NeedTool(t, tool)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	write("squash/file", bytes.Repeat([]byte("a line of a file\n"), 20000))
	write("squash/dir/other", []byte("other"))
	if edit != nil {
		edit(filepath.Join(dir, "squash"))
	}
	write("iso/boot/kernel", kernel)
	write("iso/dir/deep/file with a long name", []byte("long"))
	write("iso/isolinux/isolinux.bin", bytes.Repeat([]byte("isolinux"), 4096))
	write("mbr.bin", bytes.Repeat([]byte{0x90}, 432))
	sh(t, dir, `find squash -exec touch -d @1600000000 {} +
		mksquashfs squash iso/live.squashfs -noappend -quiet -no-progress -comp `+codec+`
		truncate -s 1M iso/efi.img
		mkfs.vfat --invariant iso/efi.img
		SOURCE_DATE_EPOCH=1600000000 mcopy -i iso/efi.img iso/boot/kernel ::/
		(cd iso && md5sum boot/kernel live.squashfs > md5sum.txt && sha512sum ./live.squashfs > live.sha512)
		find iso -exec touch -d @1600000000 {} +
		xorriso -no_rc -as mkisofs -o out.iso -r -J -V JUDGED --modification-date=2023111422132000 --set_all_file_dates 2023111422132000 \
			--gpt_disk_guid 00112233445566778899aabbccddeeff -isohybrid-mbr mbr.bin -b isolinux/isolinux.bin -c boot.cat \
			-no-emul-boot -boot-load-size 4 -boot-info-table -append_partition 2 0xef iso/efi.img -appended_part_as_gpt \
			-eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot iso
		implantisomd5 -f out.iso`)
	return filepath.Join(dir, "out.iso")
}

func sh(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-e", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func verdict(t *testing.T, before, after string) []string {
	t.Helper()
	j := &judge{squashfs: make(map[[2]string]bool)}
	check(t, j.run(before, after))
	return j.findings
}

// A squashfs of another codec, and everything that goes with it, is no fault.
func TestPasses(t *testing.T) {
	before := press(t, "gzip", nil)
	for _, after := range []string{before, press(t, "xz", nil)} {
		if got := verdict(t, before, after); len(got) > 0 {
			t.Errorf("%s", strings.Join(got, "\n"))
		}
	}
}

func TestOtherTrees(t *testing.T) {
	before := press(t, "gzip", nil)
	for want, edit := range map[string]string{
		`differs "dir/other": m=0644 -> 0600`: "chmod 600 dir/other",
		`missing "dir/other"`:                 "rm dir/other",
		`differs "file"`:                      "echo more >> file",
		`not expected "new"`:                  "touch new",
	} {
		after := press(t, "xz", func(tree string) { sh(t, tree, edit) })
		wantFault(t, verdict(t, before, after), want)
	}
}

func wantFault(t *testing.T, got []string, want string) {
	t.Helper()
	for _, s := range got {
		if strings.Contains(s, want) {
			return
		}
	}
	t.Errorf("no fault tells of %q:\n%s", want, strings.Join(got, "\n"))
}

// What a careless rewriting leaves behind, each by one change of the image.
func TestBroken(t *testing.T) {
	before := press(t, "gzip", nil)
	im, err := openImage(before, t.TempDir())
	check(t, err)
	defer im.Close()
	data, err := io.ReadAll(im)
	check(t, err)
	all, err := im.descriptorsOf()
	check(t, err)
	bios, uefi := im.boot[0].lba*sectorSize, im.boot[1].lba*sectorSize
	squashfs := bytes.Index(data, []byte("hsqs"))
	catalog := sectorSize * int(binary.LittleEndian.Uint32(data[17*sectorSize+71:]))
	add := func(b []byte, at int, n byte) []byte { b[at] += n; return b }
	for name, c := range map[string]struct {
		edit func(b []byte) []byte
		want string
	}{
		"a boot information table":   {func(b []byte) []byte { return add(b, int(bios)+12, 1) }, "the boot information table is not right"},
		"its checksum":               {func(b []byte) []byte { return add(b, int(bios)+20, 1) }, "the boot information table is not right"},
		"a boot loader":              {func(b []byte) []byte { return add(b, int(bios)+5000, 1) }, "isolinux.bin differs"},
		"a file":                     {func(b []byte) []byte { return add(b, bytes.Index(b, kernel)+70, 1) }, "/boot/kernel differs"},
		"a squashfs a sector on":     {func(b []byte) []byte { copy(b[squashfs+sectorSize:], b[squashfs:squashfs+4096]); return b }, "live.squashfs"},
		"a squashfs's byte":          {func(b []byte) []byte { return add(b, squashfs+200, 1) }, "live.squashfs"},
		"the pointer of the MBR":     {func(b []byte) []byte { return add(b, 432, 8) }, "isohybrid's pointer is not right"},
		"the code of the MBR":        {func(b []byte) []byte { return add(b, 100, 1) }, "master boot record's code differs"},
		"an MBR partition":           {func(b []byte) []byte { return add(b, 446+12, 4) }, "MBR partition 1"},
		"a GPT partition":            {func(b []byte) []byte { return add(b, 1024+128+32, 4) }, "GPT partition 2"},
		"no backup GPT":              {func(b []byte) []byte { clear(b[len(b)-33*512:]); return b }, "sgdisk -v"},
		"a volume ID":                {func(b []byte) []byte { return add(b, 16*sectorSize+40, 1) }, "volume descriptor 0 differs"},
		"a Joliet volume ID":         {func(b []byte) []byte { return add(b, 18*sectorSize+41, 1) }, "volume descriptor 2 differs"},
		"a load size":                {func(b []byte) []byte { return add(b, catalog+32+6, 1) }, "boot image 1: 5 units of 512 bytes"},
		"a system partition's place": {func(b []byte) []byte { return add(b, catalog+64+32+8, 1) }, "GPT partition 2"},
		"a system partition":         {func(b []byte) []byte { return add(b, int(uefi)+40000, 1) }, "the system partition differs"},
		"a checksum": {func(b []byte) []byte {
			b[bytes.Index(b, []byte("  boot/kernel\n"))-1] ^= 1 // 0 and 1, 2 and 3, …, a and `
			return b
		}, "md5sum.txt"},
		"a path table": {func(b []byte) []byte {
			return add(b, sectorSize*int(binary.LittleEndian.Uint32(all[0][140:]))+12, 1)
		}, "path tables"},
		"an implanted checksum": {func(b []byte) []byte { return add(b, 64*512-100, 1) }, "checkisomd5 gives 1"},
		"half of the image":     {func(b []byte) []byte { return b[:len(b)/2] }, "unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			after := filepath.Join(t.TempDir(), "after.iso")
			check(t, os.WriteFile(after, c.edit(bytes.Clone(data)), 0o644))
			j := &judge{squashfs: make(map[[2]string]bool)}
			if err := j.run(before, after); err != nil {
				t.Fatal(err)
			}
			wantFault(t, j.findings, c.want)
		})
	}
}
