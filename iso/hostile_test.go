package iso

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// moved has what boots lie behind the squashfs.
var moved = []string{"--sort-weight", "2000000000", "/live"}

// madeImage is a small tree's image.
func madeImage(t *testing.T, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	tree, out := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	makeTree(t, tree)
	xorrisofs(t, tree, out, append([]string{"-r"}, args...)...)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opened(t *testing.T, b []byte) *Image {
	t.Helper()
	im, err := Open(watched{t, b}, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// Images that lie about what a rewrite corrects: it is refused, or right; nothing crashes.
func TestRewriteHostile(t *testing.T) {
	larger := Changes{Replace: map[string]Content{squashfs: contentOf(pattern("n", 5<<20+1))}}
	hybrid := append([]string{"-isohybrid-mbr", isohybridPX, "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4",
		"-boot-info-table", "-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat"}, moved...)
	for _, c := range []struct {
		name    string
		args    []string
		change  func(t *testing.T, im *Image, b []byte) []byte
		changes Changes
		err     error
	}{
		{"an APM entry of no blocks at the files' end", nil, func(t *testing.T, im *Image, b []byte) []byte {
			w := newRewriter(t.Context(), im, new(output))
			w.findContent(im.claims())
			for i := range 2 {
				e := b[blockSize*(i+1):]
				copy(e, "PM")
				be.PutUint32(e[4:], 2)
				be.PutUint32(e[8:], u32(w.content/blockSize))
				be.PutUint32(e[12:], u32(int64(i)))
			}
			return append(b, make([]byte, roundUp(int64(len(b)), 64<<10)-int64(len(b)))...)
		}, larger, nil},
		{"Apple's blocks of one byte", nil, func(t *testing.T, im *Image, b []byte) []byte {
			copy(b, "ER\x00\x01")
			be.PutUint32(b[4:], u32(im.size))
			copy(b[blockSize:], "PM")
			return b
		}, larger, nil},
		{"200 bytes ahead of Rock Ridge", nil, func(t *testing.T, im *Image, b []byte) []byte {
			b[bytes.Index(b, []byte("SP\x07\x01\xBE\xEF"))+6] = 200
			return b
		}, Changes{Add: []Addition{{Path: "new", Content: contentOf([]byte("x"))}}}, ErrUnsupported},
		{"a GPT's entries in a file", hybrid, func(t *testing.T, im *Image, b []byte) []byte {
			x, err := im.Extents(squashfs)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[x[0].Offset:], im.system.gpt.entries)
			le.PutUint64(b[blockSize+72:], uint64(x[0].Offset/blockSize))
			sealGPT(b[blockSize : 2*blockSize])
			return b
		}, larger, ErrUnsupported},
		{"a boot catalog of 70 entries", hybrid, func(t *testing.T, im *Image, b []byte) []byte {
			c := b[im.catalog.pos:]
			c[64], c[65] = 0x91, 0
			le.PutUint16(c[66:], 70)
			for i := range (sectorSize - 96) / 32 {
				copy(c[96+32*i:], c[32:64])
			}
			return b
		}, larger, ErrUnsupported},
		{"HFS without a partition", nil, func(t *testing.T, im *Image, b []byte) []byte { copy(b[1024:], "BD"); return b }, larger, ErrUnsupported},
		{"a media checksum of one fragment", nil, func(t *testing.T, im *Image, b []byte) []byte {
			path := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			run(t, "implantisomd5", path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[bytes.Index(b, []byte("FRAGMENT COUNT = 20;")):], "FRAGMENT COUNT = 1; ")
			return b
		}, larger, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := madeImage(t, c.args...)
			b = c.change(t, opened(t, b), bytes.Clone(b))
			_, err := opened(t, b).Rewrite(t.Context(), new(output), c.changes)
			if !errors.Is(err, c.err) {
				t.Errorf("%v", err)
			}
		})
	}
}

// GRUB's boot image need not be a file of the tree, nor have a boot information table.
func TestRewriteHiddenGRUB(t *testing.T) {
	dir := t.TempDir()
	tree, out := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	makeTree(t, tree)
	xorrisofs(t, tree, out, append([]string{"-r", "--grub2-mbr", grubFile(t, "boot_hybrid.img"), "-c", "/boot.catalog", "-b", "/boot/grub/eltorito.img",
		"-no-emul-boot", "-boot-load-size", "4", "--grub2-boot-info", "-hide", filepath.Join(tree, "boot/grub/eltorito.img")}, moved...)...)
	im := open(t, out)
	if e := im.bootImages()[0]; e.file != nil || e.info || !e.grubInfo {
		t.Fatalf("file %v, table %v, GRUB's %v", e.file, e.info, e.grubInfo)
	}
	path, _ := rewriteTo(t, im, Changes{Replace: map[string]Content{squashfs: contentOf(pattern("new", 5<<20))}})
	if e := open(t, path).bootImages()[0]; e.pos == im.bootImages()[0].pos || !e.grubInfo {
		t.Errorf("the boot image at %d: GRUB's pointer is right: %v", e.pos, e.grubInfo)
	}
}

// rawRecord is a directory's record with system use entries.
func rawRecord(ident string, block, size int64, flags byte, use string) []byte {
	b := make([]byte, roundUp(int64(33+len(ident)), 2))
	b = append(b, use...)
	b = append(b, make([]byte, len(b)%2)...)
	b[0] = byte(len(b))
	putBoth32(b[2:], block)
	putBoth32(b[10:], size)
	b[25], b[28], b[31], b[32] = flags, 1, 1, byte(len(ident))
	copy(b[33:], ident)
	return b
}

// rawImage is an image whose root is at sector 20, of so many bytes.
func rawImage(blocks, root int64) []byte {
	b := make([]byte, 20*sectorSize)
	p := b[systemArea:]
	copy(p, "\x01CD001\x01")
	putBoth32(p[80:], blocks)
	p[120], p[123], p[124], p[127] = 1, 1, 1, 1
	le.PutUint16(p[128:], sectorSize)
	be.PutUint16(p[130:], sectorSize)
	putBoth32(p[132:], 10)
	le.PutUint32(p[140:], 18)
	be.PutUint32(p[148:], 19)
	copy(p[156:], rawRecord(selfIdent, 20, root, 2, "")[:34])
	copy(p[sectorSize:], "\xFFCD001\x01")
	return b
}

// continued is a CE entry that names n bytes of a sector.
func continued(block, n int64) string {
	b := []byte("CE\x1C\x01" + string(make([]byte, 24)))
	putBoth32(b[4:], block)
	putBoth32(b[20:], n)
	return string(b)
}

const rockRidge = "SP\x07\x01\xBE\xEF\x00"

// Names and links that a few bytes make long, again and again: they must end before they take memory and time.
func TestOpenLongNames(t *testing.T) {
	name := strings.Repeat("NM\xFF\x01\x00"+strings.Repeat("n", 250), 250)
	link := strings.Repeat("SL\xFF\x01\x00"+strings.Repeat("\x02\x00", 125), 250)
	for _, use := range []string{name, link} {
		const root = 2 * sectorSize
		d := rawRecord(selfIdent, 20, root, 2, rockRidge)
		d = append(d, rawRecord(parentIdent, 20, root, 2, "")...)
		for i := range 10 {
			d = append(d, rawRecord(fmt.Sprintf("F%d", i), 0, 0, 0, continued(22, int64(len(use))))...)
		}
		b := append(rawImage(60, root), append(d, make([]byte, root-len(d))...)...)
		b = append(b, padded([]byte(use), sectorSize)...)
		if _, err := Open(watched{t, b}, int64(len(b))); !errors.Is(err, ErrDamaged) {
			t.Errorf("%.2s: %v", use, err)
		}
	}
	// Each directory within the last, with names that are allowed: the paths.
	const depth = 40
	b := rawImage(20+depth+1, sectorSize)
	for i := int64(0); i <= depth; i++ {
		use := ""
		if i == 0 {
			use = rockRidge
		}
		d := rawRecord(selfIdent, 20+i, sectorSize, 2, use)
		d = append(d, rawRecord(parentIdent, 20+max(i-1, 0), sectorSize, 2, "")...)
		if i < depth {
			d = append(d, rawRecord("D", 21+i, sectorSize, 2, "NM\xD2\x01\x00"+strings.Repeat("n", 205))...)
		}
		b = append(b, padded(d, sectorSize)...)
	}
	if _, err := Open(watched{t, b}, int64(len(b))); !errors.Is(err, ErrDamaged) {
		t.Errorf("a path of %d bytes: %v", depth*206, err)
	}
}

// More directories than a path table's parent numbers reach.
func TestRewriteManyDirectories(t *testing.T) {
	long(t)
	const dirs = maxDirectories + 1
	const root = (dirs*42/sectorSize + 40) * sectorSize
	first := int64(20 + root/sectorSize)
	var s sectors
	s.add(rawRecord(selfIdent, 20, root, 2, ""))
	s.add(rawRecord(parentIdent, 20, root, 2, ""))
	for i := range int64(dirs) {
		s.add(rawRecord(fmt.Sprintf("D%06d", i), first+i, 68, 2, ""))
	}
	b := append(rawImage(first+dirs, root), append(s, make([]byte, root-len(s))...)...)
	for i := range int64(dirs) {
		b = append(b, padded(append(rawRecord(selfIdent, first+i, 68, 2, ""), rawRecord(parentIdent, 20, root, 2, "")...), sectorSize)...)
	}
	_, err := opened(t, b).Rewrite(t.Context(), new(output), Changes{Remove: []string{"d000000"}})
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// countReader counts how often a position is read.
type countReader struct {
	io.ReaderAt
	pos int64
	n   int
}

func (c *countReader) ReadAt(b []byte, off int64) (int, error) {
	if off == c.pos {
		c.n++
	}
	return c.ReaderAt.ReadAt(b, off)
}

// An HFS+ volume that many partitions name is read once.
func TestOpenHFSOnce(t *testing.T) {
	b := bytes.Clone(hybridImage(t))
	im := opened(t, b)
	v := im.hfs
	be.PutUint32(b[v.forks[0].at+12:], 1<<30) // blocks that are not there
	const entries = 10
	for i := range int64(entries) {
		e := b[(i+1)*im.system.apm:]
		copy(e, "PM")
		be.PutUint32(e[4:], entries)
		be.PutUint32(e[8:], u32(v.start/im.system.apm))
		be.PutUint32(e[12:], u32((v.end-v.start)/im.system.apm))
	}
	c := &countReader{ReaderAt: watched{t, b}, pos: v.catalog.pos}
	im, err := Open(c, int64(len(b)))
	if err != nil || im.hfs != nil || len(im.system.parts) < entries {
		t.Fatalf("%v", err)
	}
	if c.n != 1 {
		t.Errorf("the catalog was read %d times", c.n)
	}
}

// A partition that is a file of the tree, and that El Torito's catalog does not name.
func TestFATsOfPartitions(t *testing.T) {
	b := bytes.Clone(madeImage(t))
	im := opened(t, b)
	x, err := im.Extents("boot/grub/efi.img")
	if err != nil {
		t.Fatal(err)
	}
	e := b[mbrTable:]
	e[4] = 0xEF
	le.PutUint32(e[8:], u32(x[0].Offset/blockSize))
	le.PutUint32(e[12:], u32(x[0].Size/blockSize))
	b[510], b[511] = 0x55, 0xAA
	list, err := opened(t, b).FATs()
	if err != nil || len(list) != 1 || list[0].Name != "boot/grub/efi.img" || list[0].Pos != x[0].Offset {
		t.Errorf("%v, %v", list, err)
	}
}

// An image that lost its end, with an appended partition or the backup GPT, looks whole to who reads the files alone.
func TestRewriteCutOff(t *testing.T) {
	for _, image := range [][]byte{smallImage(t), appendedImage(t), hybridImage(t)} {
		for _, less := range []int{sectorSize, 20 * sectorSize} {
			b := image[:len(image)-less]
			im, err := Open(watched{t, b}, int64(len(b)))
			if errors.Is(err, ErrDamaged) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = im.Rewrite(t.Context(), new(output), Changes{Replace: map[string]Content{"live/x.squashfs": contentOf([]byte("x"))}})
			if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "cut off") {
				t.Errorf("%d bytes less: %v", less, err)
			}
		}
	}
}

// A medium that fails its checksum does not come out as one that passes.
func TestRewriteWrongMediaSum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, madeImage(t), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "implantisomd5", path)
	x, err := open(t, path).Extents("live/vmlinuz")
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, []byte("damage"), x[0].Offset+1000)
	out, r := rewriteTo(t, open(t, path), Changes{Replace: map[string]Content{squashfs: contentOf([]byte("x"))}})
	if r.MediaSum || len(r.Stale) != 1 || !strings.Contains(r.Stale[0], "isomd5sum") {
		t.Errorf("renewed: %v, stale: %q", r.MediaSum, r.Stale)
	}
	if b, err := exec.Command("checkisomd5", out).CombinedOutput(); err == nil {
		t.Errorf("checkisomd5: %s", b)
	}
}
