package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// The tree as package fs sees it.
func TestImageFS(t *testing.T) {
	small := smallImage(t)
	im, err := Open(bytes.NewReader(small), int64(len(small)))
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(im.FS(), "live/x.squashfs", "a/b/c/d/e/f/g/h/i/deep", "md5sum.txt", strings.Repeat("long", 60)); err != nil {
		t.Error(err)
	}
	for _, s := range []style{styles[0], styles[6], styles[9]} {
		t.Run(s.name, func(t *testing.T) {
			im := open(t, s.image(t))
			for dir, file := range map[string]string{"a": "b/c/d/e/f/g/h/i/j/deep", "many": "file-number-099.dat"} {
				sub, err := fs.Sub(im.FS(), dir)
				if err != nil {
					t.Fatal(err)
				}
				if err := fstest.TestFS(sub, file); err != nil {
					t.Error(err)
				}
			}
			if b, err := fs.ReadFile(im.FS(), squashfs); err != nil || !bytes.Equal(b, pattern("squashfs", 3<<20+1234)) {
				t.Errorf("the squashfs: %d bytes, %v", len(b), err)
			}
			e, err := im.Extents(squashfs)
			if err != nil || len(e) != 1 || e[0].Size != 3<<20+1234 {
				t.Errorf("%v, %v", e, err)
			}
		})
	}
}

func TestImageLinks(t *testing.T) {
	im := open(t, styles[0].image(t))
	fsys := im.FS()
	for _, name := range []string{"zz/link", "debian/debian/zz/link", "zz/../live"} {
		b, err := fs.ReadFile(fsys, name)
		if ok := name != "zz/../live"; ok != (err == nil) || ok && len(b) != 3<<20+1234 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if to, err := fs.ReadLink(fsys, "zz/dangling"); err != nil || to != "/no/such/../thing" {
		t.Errorf("%q, %v", to, err)
	}
	if to, err := fs.ReadLink(fsys, "zz/link"); err != nil || to != "../live/filesystem.squashfs" {
		t.Errorf("%q, %v", to, err)
	}
	if _, err := fs.Stat(fsys, "zz/dangling"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dangling link: %v", err)
	}
	if list, err := fs.ReadDir(fsys, "debian/a/b/c"); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

// Our own images: what the writer says comes back.
func TestImageOwn(t *testing.T) {
	opts, c := sample()
	path, r := makeImage(t, opts, c)
	im := open(t, path)
	if im.VolumeID() != opts.VolumeID || im.Size() != r.Size {
		t.Errorf("%q of %d bytes", im.VolumeID(), im.Size())
	}
	for name, b := range c {
		got, err := fs.ReadFile(im.FS(), name)
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		info, err := fs.Stat(im.FS(), name)
		if err != nil || info.Mode() != 0o444 || !info.ModTime().Equal(testTime) {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	same, _ := rewriteTo(t, im, Changes{})
	sameFile(t, path, same)
	for _, name := range []string{"boot/kernel", "EFI/BOOT/BOOTX64.EFI"} {
		_, err := im.Rewrite(t.Context(), new(output), Changes{Replace: map[string]Content{name: contentOf(nil)}})
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// output is an image in memory that can be read back.
type output struct{ memory }

func (o *output) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(o.b).ReadAt(b, off) }

// A kernel within the squashfs: neither of them can be replaced alone.
func TestImageWithin(t *testing.T) {
	opts, c := inPlace(4<<20, 2048)
	path, _ := makeImage(t, opts, c)
	im := open(t, path)
	same, _ := rewriteTo(t, im, Changes{})
	sameFile(t, path, same)
	_, err := im.Rewrite(t.Context(), new(output), Changes{Replace: map[string]Content{opts.Boot.Kernel: contentOf([]byte("x"))}})
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v", err)
	}
	for _, f := range opts.Files {
		if f.Path == opts.Boot.Kernel {
			_, err = im.Rewrite(t.Context(), new(output), Changes{Replace: map[string]Content{f.Within: contentOf([]byte("x"))}})
		}
	}
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// smallImage is an image of some directories, Joliet and Rock Ridge, with boot catalog, MBR, GPT and APM, whose metadata
// is most of it.
func smallImage(t testing.TB) []byte {
	return makeSmall(t, smallTree(t), filepath.Join(t.TempDir(), "image.iso"),
		"-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat", "-isohybrid-apm-hfsplus")
}

// appendedImage is one whose EFI system partition lies behind the files.
func appendedImage(t testing.TB) []byte {
	tree := smallTree(t)
	return makeSmall(t, tree, filepath.Join(t.TempDir(), "image.iso"),
		"-append_partition", "2", "0xef", filepath.Join(tree, "efi.img"), "-appended_part_as_gpt",
		"-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot")
}

// hybridImage is one with an HFS+ volume over its files.
func hybridImage(t testing.TB) []byte {
	return makeSmall(t, smallTree(t), filepath.Join(t.TempDir(), "image.iso"), "-hfsplus")
}

func smallTree(t testing.TB) string {
	tree := t.TempDir()
	isolinux, err := os.ReadFile(isolinuxBin)
	if err != nil {
		t.Skip(err)
	}
	for path, b := range (contents{
		"boot.bin": isolinux[:4096], "efi.img": append([]byte{0xEB}, make([]byte, 4095)...), "live/x.squashfs": pattern("x", 5000), "a/b/c/d/e/f/g/h/i/deep": []byte("deep"),
		"md5sum.txt": []byte("d41d8cd98f00b204e9800998ecf8427e  ./live/x.squashfs\n"), strings.Repeat("long", 60): []byte("x"),
	}) {
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../live", filepath.Join(tree, "a/link")); err != nil {
		t.Fatal(err)
	}
	return tree
}

// hostileImages are images that lie.
var hostileImages = []struct {
	name   string
	change func(im *Image, b []byte)
	err    error
}{
	{"no descriptors", func(im *Image, b []byte) { b[systemArea+1] = 'X' }, ErrNotISO},
	{"no end of descriptors", func(im *Image, b []byte) { b[systemArea+bytes.Index(b[systemArea:], []byte("\xFFCD001"))+1] = 'X' }, ErrDamaged},
	{"root behind the end", func(im *Image, b []byte) { le.PutUint32(b[systemArea+158:], 1<<30) }, ErrDamaged},
	{"root too large", func(im *Image, b []byte) { le.PutUint32(b[systemArea+166:], 1<<31) }, ErrDamaged},
	{"blocks of 512 bytes", func(im *Image, b []byte) { le.PutUint16(b[systemArea+128:], 512) }, ErrUnsupported},
	{"path table behind the end", func(im *Image, b []byte) { le.PutUint32(b[systemArea+140:], 1<<30) }, ErrDamaged},
	{"path table too large", func(im *Image, b []byte) { le.PutUint32(b[systemArea+132:], 1<<31) }, ErrDamaged},
	{"a directory that is its own parent's", func(im *Image, b []byte) {
		d := im.trees[0].dirs[1]
		copy(b[d.pos+int64(d.recs[2].at)+2:][:8], b[im.trees[0].dirs[0].pos+2:][:8])
	}, ErrDamaged},
	{"a directory twice", func(im *Image, b []byte) {
		top := im.trees[0].dirs[0]
		var dirs []int32
		for _, e := range top.entries {
			if e.dir != nil {
				dirs = append(dirs, top.recs[e.first].at)
			}
		}
		copy(b[top.pos+int64(dirs[0])+2:][:8], b[top.pos+int64(dirs[1])+2:][:8])
	}, ErrDamaged},
	{"a record beyond its sector", func(im *Image, b []byte) {
		d := im.trees[0].dirs[0]
		b[d.pos+int64(d.recs[len(d.recs)-1].at)] = 255
		clear(b[d.pos+sectorSize:][:1])
	}, nil},
	{"a record with a long name", func(im *Image, b []byte) { d := im.trees[0].dirs[0]; b[d.pos+int64(d.recs[2].at)+32] = 255 }, ErrDamaged},
	{"a file behind the end", func(im *Image, b []byte) {
		d := im.trees[0].dirs[0]
		for _, e := range d.entries {
			if e.file != nil {
				le.PutUint32(b[d.pos+int64(d.recs[e.first].at)+10:], 1<<31)
			}
		}
	}, ErrDamaged},
	{"a continuation area that is its own continuation", func(im *Image, b []byte) {
		d := im.trees[0].dirs[0]
		for i := range d.recs {
			rec := b[d.pos+int64(d.recs[i].at):][:d.recs[i].n]
			if at := bytes.Index(rec, []byte("CE\x1C\x01")); at > 0 {
				pos := int64(le.Uint32(rec[at+4:]))*sectorSize + int64(le.Uint32(rec[at+12:]))
				copy(b[pos:], rec[at:at+28])
				le.PutUint32(b[pos+20:], 28)
			}
		}
	}, ErrDamaged},
	{"a continuation area behind the end", func(im *Image, b []byte) {
		d := im.trees[0].dirs[0]
		at := bytes.Index(b[d.pos:], []byte("CE\x1C\x01"))
		le.PutUint32(b[d.pos+int64(at)+20:], 1<<31)
	}, ErrDamaged},
	{"a boot catalog behind the end", func(im *Image, b []byte) { le.PutUint32(b[im.catalog.records[0]+71:], 1<<30) }, ErrDamaged},
	{"a boot catalog that is none", func(im *Image, b []byte) { b[im.catalog.pos] = 2 }, ErrDamaged},
	{"a boot image behind the end", func(im *Image, b []byte) { le.PutUint32(b[im.catalog.pos+40:], 1<<30) }, ErrDamaged},
	{"a GPT of 4 billion entries", func(im *Image, b []byte) {
		le.PutUint32(b[blockSize+80:], 1<<32-1)
		sealGPT(b[blockSize : 2*blockSize])
	}, ErrDamaged},
	{"a GPT of large entries", func(im *Image, b []byte) { le.PutUint32(b[blockSize+84:], 1<<31); sealGPT(b[blockSize : 2*blockSize]) }, ErrDamaged},
	{"a GPT's table behind the end", func(im *Image, b []byte) { le.PutUint64(b[blockSize+72:], 1<<63); sealGPT(b[blockSize : 2*blockSize]) }, ErrDamaged},
}

func TestOpenHostile(t *testing.T) {
	image := smallImage(t)
	im, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hostileImages {
		b := bytes.Clone(image)
		h.change(im, b)
		if bytes.Equal(b, image) {
			t.Errorf("%s: nothing changed", h.name)
		}
		if _, err := Open(bytes.NewReader(b), int64(len(b))); h.err != nil && !errors.Is(err, h.err) {
			t.Errorf("%s: %v", h.name, err)
		}
	}
	for n := 0; n < len(image); n += 509 {
		_, err := Open(bytes.NewReader(image[:n]), int64(n))
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotISO) {
			t.Errorf("cut off at %d: %v", n, err)
		}
	}
	// A reader that ends before the size that was told.
	if _, err := Open(bytes.NewReader(image[:40000]), int64(len(image))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short reader: %v", err)
	}
}

// FuzzOpen opens images and changes what can be changed. Nothing may crash or read outside the image, and what
// comes out is an image again.
func FuzzOpen(f *testing.F) {
	images := [][]byte{smallImage(f), appendedImage(f), hybridImage(f)}
	im, err := Open(bytes.NewReader(images[0]), int64(len(images[0])))
	if err != nil {
		f.Fatal(err)
	}
	if im, err := Open(bytes.NewReader(images[2]), int64(len(images[2]))); err != nil || im.hfs == nil {
		f.Fatalf("no HFS+: %v", err)
	}
	for _, h := range hostileImages {
		b := bytes.Clone(images[0])
		h.change(im, b)
		for i := range b {
			if b[i] != images[0][i] {
				for which := range images {
					f.Add(uint8(which), b[i:min(i+8, len(b))], uint32(i), uint64(0))
				}
				break
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, patch []byte, at uint32, more uint64) {
		b := bytes.Clone(images[int(which)%len(images)])
		copy(b[int(at)%len(b):], patch)
		// A second change of 4 bytes, to where metadata is.
		if more != 0 {
			pos := int(more>>32) % min(len(b)-4, 120*sectorSize)
			binary.LittleEndian.PutUint32(b[pos:], uint32(more))
		}
		fuzzImage(t, b)
	})
}

// watched fails a test that reads outside of it.
type watched struct {
	t *testing.T
	b []byte
}

func (w watched) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(w.b)) || int64(len(p)) > int64(len(w.b))-off {
		w.t.Errorf("%d bytes are read at %d, the image has %d", len(p), off, len(w.b))
	}
	return bytes.NewReader(w.b).ReadAt(p, off)
}

func fuzzImage(t *testing.T, b []byte) {
	im, err := Open(watched{t, b}, int64(len(b)))
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotISO) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v", err)
		}
		return
	}
	n := 0
	err = fs.WalkDir(im.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if d.Type().IsRegular() {
			if _, err := im.Extents(p); err != nil {
				t.Errorf("%s: %v", p, err)
			}
			if b, err := fs.ReadFile(im.FS(), p); err == nil && len(b) > 1<<30 {
				t.Errorf("%s: %d bytes", p, len(b))
			}
		}
		n++
		return err
	})
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, ch := range []Changes{
		{},
		{Replace: map[string]Content{"live/x.squashfs": contentOf(pattern("y", 9000))}},
		{Remove: []string{"live"}, Add: []Addition{{Path: "a/b/new/" + strings.Repeat("n", 80), Content: contentOf([]byte("new"))}}},
	} {
		dst := new(output)
		r, err := im.Rewrite(t.Context(), dst, ch)
		if err != nil || r.Size != int64(len(dst.b)) {
			continue
		}
		if _, err := Open(bytes.NewReader(dst.b), r.Size); err != nil && im.Check() == nil {
			t.Errorf("%d files; the new image: %v", n, err)
		}
	}
}
