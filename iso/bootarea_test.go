package iso

import (
	"bytes"
	"debug/pe"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/isopress/isopress/internal/testenv"
)

// inPlace is the sample with kernel and initrd where a squashfs has them.
func inPlace(kernel, initrd int64) (Options, contents) {
	opts, c := sample()
	store := pattern("store", 10<<20)
	for i := range opts.Files {
		f := &opts.Files[i]
		switch f.Path {
		case "nix-store.squashfs":
			f.Size, f.Grow = 32<<20, true
		case "boot/kernel":
			f.Within, f.Offset = "nix-store.squashfs", kernel
			copy(store[kernel:], c[f.Path])
		case "boot/initrd":
			f.Within, f.Offset = "nix-store.squashfs", initrd
			copy(store[initrd:], c[f.Path])
		}
	}
	c["nix-store.squashfs"] = store
	return opts, c
}

// BOOTX64.EFI is a chain that jumps into another file, for every kind of FAT, and whatever of kernel
// and initrd lies there, and in which order; the ISO shows the same file.
func TestChainJumps(t *testing.T) {
	testenv.NeedTool(t, "fsck.fat", "mcopy")
	const outside = -1
	for name, tt := range map[string]struct {
		kernel, initrd int64
		fat32          bool
		pieces         int
	}{
		"both":               {4 << 20, 2048, false, 3},
		"both, side by side": {2048 + 3<<20 + 2048, 2048, false, 2},
		"kernel first":       {2048, 6 << 20, false, 3},
		"FAT32":              {4 << 20, 2048, true, 3},
		"only the kernel":    {2048, outside, false, 2},
		"only the initrd":    {outside, 1 << 20, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			opts, c := inPlace(max(tt.kernel, 2048), max(tt.initrd, 2048))
			for i := range opts.Files {
				f := &opts.Files[i]
				if f.Path == "boot/kernel" && tt.kernel == outside || f.Path == "boot/initrd" && tt.initrd == outside {
					f.Within, f.Offset = "", 0
				}
			}
			opts.Boot.FAT32 = tt.fat32
			if tt.kernel == outside || tt.initrd == outside {
				c["nix-store.squashfs"] = pattern("other", 10<<20)
				for _, f := range opts.Files {
					if f.Within != "" {
						copy(c["nix-store.squashfs"][f.Offset:], c[f.Path])
					}
				}
			}
			path, r := makeImage(t, opts, c)
			if len(r.EFI) != tt.pieces {
				t.Errorf("BOOTX64.EFI lies at %v, want %d pieces", r.EFI, tt.pieces)
			}
			checkPartition(t, path, r, c, tt.fat32)
			contains(t, run(t, "sgdisk", "-v", path), "No problems found")
		})
	}
}

// checkPartition compares what others read of the EFI system partition and of the ISO.
func checkPartition(t *testing.T, path string, r *Result, c contents, is32 bool) {
	t.Helper()
	esp := cut(t, path, r.ESP)
	kind := "2 FATs, 16 bit entries"
	if is32 {
		kind = "2 FATs, 32 bit entries"
	}
	contains(t, run(t, "fsck.fat", "-n", "-v", esp), kind)
	efi := filepath.Join(t.TempDir(), "BOOTX64.EFI")
	run(t, "mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", efi)
	checkSections(t, efi, c)
	want, err := os.ReadFile(efi)
	if err != nil {
		t.Fatal(err)
	}
	if got := diskfsEFI(t, esp, is32); !bytes.Equal(got, want) {
		t.Errorf("go-diskfs reads %d other bytes of BOOTX64.EFI", len(got))
	}
	to := filepath.Join(t.TempDir(), "iso")
	t.Cleanup(func() { run(t, "chmod", "-R", "u+w", to) })
	run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", to)
	all := maps.Clone(c)
	all[bootEFI] = want
	for name, want := range all {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("xorriso extracts %d bytes of %s, want %d others; %v", len(got), name, len(want), err)
		}
	}
}

func checkSections(t *testing.T, efi string, c contents) {
	t.Helper()
	f, err := pe.Open(efi)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for section, name := range map[string]string{".linux": "boot/kernel", ".initrd": "boot/initrd"} {
		s := f.Section(section)
		if s == nil {
			t.Errorf("no section %s", section)
		} else if !bytes.Equal(sectionData(t, s), c[name]) {
			t.Errorf("%s is not %s", section, name)
		}
	}
}

// diskfsEFI reads BOOTX64.EFI with go-diskfs.
func diskfsEFI(t *testing.T, esp string, is32 bool) []byte {
	t.Helper()
	storage, err := file.OpenFromPath(esp, true)
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	st, err := os.Stat(esp)
	if err != nil {
		t.Fatal(err)
	}
	var fsys filesystem.FileSystem
	if is32 {
		fsys, err = fat32.Read(storage, st.Size(), 0, blockSize)
	} else {
		fsys, err = fat16.Read(storage, st.Size(), 0, blockSize)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.OpenFile("/"+bootEFI, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Stage 2 finds kernel and initrd where they lie within another file.
func TestBIOSFindsFilesWithin(t *testing.T) {
	opts, c := inPlace(4<<20, 2048)
	dst := &memory{}
	w, err := NewWriter(dst, opts)
	if err != nil {
		t.Fatal(err)
	}
	r := write(t, w, c)
	for _, f := range r.Files {
		if !bytes.Equal(dst.b[f.Offset:][:f.Size], c[f.Path]) {
			t.Errorf("%v: other bytes", f)
		}
	}
	catalog := dst.b[int64(le.Uint32(dst.b[17*sectorSize+71:]))*sectorSize:]
	p := dst.b[int64(le.Uint32(catalog[32+8:]))*sectorSize+stage2Parameters:]
	for i, name := range []string{"boot/kernel", "boot/initrd"} {
		pos, size := int64(le.Uint32(p[8*i:]))*sectorSize, le.Uint32(p[8*i+4:])
		if !bytes.Equal(dst.b[pos:][:size], c[name]) {
			t.Errorf("stage 2 does not find %s", name)
		}
	}
}

// Clusters are as large as the span asks for, and never larger than ClusterSize says before
// anything is laid out.
func TestClusterSizes(t *testing.T) {
	for _, is32 := range []bool{false, true} {
		for _, size := range []int64{1 << 20, 30 << 20, 33 << 20, 60 << 20, 120 << 20, 127 << 20, 128 << 20, 400 << 20, 1000 << 20, 2000 << 20} {
			t.Run(fmt.Sprint(is32, size>>20), func(t *testing.T) {
				unit := ClusterSize(size, is32)
				opts := Options{VolumeID: "X", Boot: &Boot{Kernel: "k", Initrd: "i", FAT32: is32}, Files: []File{
					{Path: "k", Size: size / 4, Within: "s", Offset: roundUp(unit+size/4*3, unit)},
					{Path: "i", Size: size / 4 * 3, Within: "s", Offset: unit},
					{Path: "s", Size: size + 1<<20, Grow: true},
				}}
				w, err := NewWriter(nil, opts)
				if err != nil {
					t.Fatal(err)
				}
				e := w.boot.esp
				if got := e.clusterBlocks * blockSize; got > unit || unit > 64<<10 {
					t.Errorf("clusters of %d, ClusterSize said %d", got, unit)
				}
				if e.size()%sectorSize != 0 || e.headSize()%sectorSize != 0 {
					t.Errorf("a partition of %d bytes, its head of %d: no whole sectors", e.size(), e.headSize())
				}
				if is32 && (e.clusters < 65525 || 2*e.fatBlocks*blockSize > 1200<<10) || !is32 && (e.clusters < 4085 || e.clusters > 65524) {
					t.Errorf("%d clusters, FATs of %d blocks", e.clusters, e.fatBlocks)
				}
			})
		}
	}
}

func TestWithinErrors(t *testing.T) {
	within := func(path string, size int64, in string, off int64) File {
		return File{Path: path, Size: size, Within: in, Offset: off}
	}
	file := func(path string, size int64) File { return File{Path: path, Size: size} }
	for name, tt := range map[string]struct {
		files []File
		boot  *Boot
		want  string
	}{
		"no such file":   {[]File{within("a", 1, "b", 0)}, nil, `lies within "b", which is none`},
		"in itself":      {[]File{within("a", 1, "a", 0)}, nil, "lies within another file itself"},
		"nested":         {[]File{within("a", 1, "b", 0), within("b", 1, "c", 0), file("c", 9)}, nil, "a: lies within b, which lies within another file itself"},
		"beyond the end": {[]File{within("a", 2, "b", 2048), file("b", 2049)}, nil, "a: ends beyond b"},
		"overflow":       {[]File{within("a", 1, "b", 1<<62), file("b", 2049)}, nil, "a: ends beyond b"},
		"offset":         {[]File{within("a", 1, "b", 512), file("b", 2049)}, nil, "no multiple of 2048"},
		"negative":       {[]File{within("a", 1, "b", -2048), file("b", 2049)}, nil, "no multiple of 2048"},
		"offset alone":   {[]File{{Path: "a", Offset: 2048}}, nil, "goes with Within"},
		"align":          {[]File{{Path: "a", Align: 2048, Within: "b"}, file("b", 1)}, nil, "Align do not"},
		"grow":           {[]File{{Path: "a", Grow: true, Within: "b"}, file("b", 1)}, nil, "Align do not"},
		"two files": {[]File{within("k", 1, "a", 0), within("i", 1, "b", 0), file("a", 9), file("b", 9)},
			&Boot{Kernel: "k", Initrd: "i"}, "lie within two files: a and b"},
		"overlap": {[]File{within("k", 4096, "a", 0), within("i", 1, "a", 2048), file("a", 8192)},
			&Boot{Kernel: "k", Initrd: "i"}, "have bytes in common"},
		"clusters": {[]File{within("k", 200<<20, "a", 2048), file("a", 1<<30)}, &Boot{Kernel: "k"}, "no multiple of the EFI system partition's clusters of 4096"},
		"too far":  {[]File{within("k", 1, "a", 3<<30), file("a", 4<<30)}, &Boot{Kernel: "k"}, "EFI system partition holds"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewWriter(nil, Options{VolumeID: "X", Files: tt.files, Boot: tt.boot})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A file that holds others must be as long as they need, and they are not written themselves.
func TestWriteWithin(t *testing.T) {
	opts := Options{VolumeID: "X", Files: []File{
		{Path: "part", Size: 10, Within: "all", Offset: 2048}, {Path: "all", Size: 1 << 20, Grow: true}}}
	w, err := NewWriter(&memory{}, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteFile("part", strings.NewReader("0123456789")); err == nil || !strings.Contains(err.Error(), "is written with all") {
		t.Errorf("got %v", err)
	}
	if e := w.Extent("part"); e.Size != 0 {
		t.Errorf("part lies at %v before it is written", e)
	}
	err = w.WriteFile("all", bytes.NewReader(make([]byte, 2057)))
	if err == nil || !strings.Contains(err.Error(), "ends before part") {
		t.Errorf("got %v", err)
	}
	if _, err := w.Finish(testSeed); err == nil {
		t.Error("an image with half a file is finished")
	}
}

// fakeGRUB has the sizes of the real one.
func fakeGRUB() *GRUB {
	return &GRUB{MBR: append(pattern("mbr", 510), 0x55, 0xAA), ElTorito: pattern("eltorito", 150_001), EFI: uefiStub}
}

// GRUB's parts are told where they lie as xorriso does it.
func TestGRUBLayout(t *testing.T) {
	testenv.NeedTool(t, "xorriso")
	opts, c := inPlace(4<<20, 2048)
	g := fakeGRUB()
	opts.Boot = &Boot{GRUB: g}
	path, r := makeImage(t, opts, c)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := run(t, "xorriso", "-indev", path, "-report_el_torito", "plain", "-report_system_area", "plain")
	contains(t, out, "System area summary: MBR protective-msdos-label grub2-mbr",
		"El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4 ", "El Torito boot img :   2  UEFI")
	catalog := image[int64(le.Uint32(image[17*sectorSize+71:]))*sectorSize:]
	lba := le.Uint32(catalog[32+8:])
	core := image[int64(lba)*sectorSize:][:len(g.ElTorito)]
	if got := le.Uint64(image[grubMBRLoader:]); got != uint64(lba)*4+4 {
		t.Errorf("the boot sector loads block %d, the image's sector is %d", got, lba)
	}
	if got := le.Uint64(core[grubBootInfo:]); got != uint64(lba)*4+5 {
		t.Errorf("the image goes on at block %d, its sector is %d", got, lba)
	}
	var sum uint32
	for i := 64; i < len(core); i += 4 {
		sum += le.Uint32(append(slices.Clone(core[i:min(i+4, len(core))]), 0, 0, 0))
	}
	for i, want := range []uint32{16, lba, uint32(len(core)), sum} {
		if got := le.Uint32(core[8+4*i:]); got != want {
			t.Errorf("boot info table, word %d: %#x, want %#x", i, got, want)
		}
	}
	if got, err := os.ReadFile(cut(t, path, r.EFI...)); err != nil || !bytes.Equal(got, g.EFI) {
		t.Errorf("BOOTX64.EFI has %d other bytes, %v", len(got), err)
	}
	contains(t, run(t, "fsck.fat", "-n", "-v", cut(t, path, r.ESP)), "16 bit entries")
	if err := (&Boot{GRUB: g, Kernel: "k"}).checkGRUB(); err == nil {
		t.Error("GRUB and a kernel for the stubs are no error")
	}
	for _, broken := range []GRUB{{}, {MBR: g.MBR, ElTorito: g.ElTorito[:2000], EFI: g.EFI}, {MBR: g.MBR, ElTorito: g.ElTorito}} {
		if err := (&Boot{GRUB: &broken}).checkGRUB(); err == nil {
			t.Errorf("parts of %d, %d and %d bytes are no error", len(broken.MBR), len(broken.ElTorito), len(broken.EFI))
		}
	}
}

// Neither Windows nor a desktop is to show the partitions, mount them unasked or write to them.
func TestPartitionAttributes(t *testing.T) {
	opts, c := sample()
	path, _ := makeImage(t, opts, c)
	for i := 1; i <= 3; i++ {
		contains(t, run(t, "sgdisk", "-i", fmt.Sprint(i), path), "Attribute flags: D000000000000000")
	}
}

// No size of kernel and initrd is more than an error.
func TestHugeBootFiles(t *testing.T) {
	const gib = 1 << 30
	for _, is32 := range []bool{false, true} {
		for _, tt := range []struct {
			kernel, initrd int64
			within         int64 // where the initrd lies in a larger file, if it does
			want           string
		}{
			{gib, gib - 8<<20, 0, ""},
			{maxUKI, maxUKI, 0, "kernel and initrd: 4292411392 bytes, the EFI system partition holds"},
			{gib, gib, 0, "kernel and initrd: 2147483648 bytes"},
			{1, 3 * gib, 0, "initrd i: 3221225472 bytes"},
			{1, gib, 4 << 40, "kernel and initrd reach over"},
			{1, gib, gib, "kernel and initrd reach over"},
		} {
			t.Run(fmt.Sprint(is32, tt), func(t *testing.T) {
				files := []File{{Path: "k", Size: tt.kernel}, {Path: "i", Size: tt.initrd}, {Path: "s", Size: 5 << 40, Grow: true}}
				if tt.within > 0 {
					files[1].Within, files[1].Offset = "s", tt.within
				}
				w, err := NewWriter(nil, Options{VolumeID: "X", Files: files, Boot: &Boot{Kernel: "k", Initrd: "i", FAT32: is32}})
				if tt.want == "" {
					if err != nil || w.boot.esp.clusters*w.boot.esp.clusterBlocks*blockSize > 2*gib+64<<20 {
						t.Error(err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		}
	}
}
