package iso

import (
	"bytes"
	"debug/pe"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/isopress/isopress/internal/testenv"
)

// xorriso agrees on what boots, and extracts the files as they went in.
func TestXorriso(t *testing.T) {
	opts, c := sample()
	path, r := makeImage(t, opts, c)
	out := run(t, "xorriso", "-indev", path, "-report_el_torito", "plain", "-report_system_area", "plain")
	contains(t, out,
		"Volume id    : 'nixos-minimal-26.05-x86_64'",
		"El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4 ",
		fmt.Sprintf("El Torito boot img :   2  UEFI  y   none  0x0000  0x00  %d %11d", r.ESP.Size/blockSize, r.ESP.Offset/sectorSize),
		"System area summary: MBR protective-msdos-label cyl-align-off GPT",
		"MBR partition      :   1   0x00  0xee            1 ",
		"MBR partition      :   2   0x80  0x00            0            1",
		fmt.Sprintf("ISO image size/512 : %d", r.Size/blockSize),
		"GPT partname local :   2  EFI system partition",
	)
	for _, not := range []string{"WARNING", "FAILURE", "SORRY", "MISHAP"} {
		if strings.Contains(out, not) {
			t.Errorf("xorriso complains:\n%s", out)
		}
	}
	to := filepath.Join(t.TempDir(), "out")
	run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", to)
	got := contents{}
	err := filepath.WalkDir(to, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o444)
		if d.IsDir() {
			want = fs.ModeDir | 0o555
		}
		if p != to && (info.Mode() != want || !info.ModTime().Equal(testTime)) {
			t.Errorf("%s: mode %v, date %v", p, info.Mode(), info.ModTime())
		}
		if d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(to, p)
		if err != nil {
			return err
		}
		got[filepath.ToSlash(rel)], err = os.ReadFile(p)
		return err
	})
	// The directories are read-only, also for t.TempDir's cleaning up.
	t.Cleanup(func() { run(t, "chmod", "-R", "u+w", to) })
	if err != nil {
		t.Fatal(err)
	}
	delete(got, bootEFI)
	delete(got, biosLoader)
	if !maps.EqualFunc(got, c, bytes.Equal) {
		t.Errorf("extracted %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(c)))
	}
}

func TestIsoinfo(t *testing.T) {
	opts, c := sample()
	delete(c, longName)
	c[strings.Repeat("é", maxJoliet)] = []byte("Joliet")
	opts.Files = c.files()
	opts.Joliet = true
	path, r := makeImage(t, opts, c)
	rockRidge := run(t, "isoinfo", "-i", path, "-R", "-f")
	joliet := run(t, "isoinfo", "-i", path, "-j", "iso8859-1", "-J", "-f")
	for p := range c {
		contains(t, rockRidge, "/"+p+"\n")
		contains(t, joliet, "/"+strings.ReplaceAll(p, "é", "\xE9")+";1\n")
	}
	contains(t, run(t, "isoinfo", "-i", path, "-R", "-l"), "-r--r--r--   1    0    0", "dr-xr-xr-x   3    0    0", "Feb 29 2024")
	contains(t, run(t, "isoinfo", "-d", "-i", path),
		"Volume id: nixos-minimal-26.05-x86_64",
		fmt.Sprintf("Volume size is: %d", r.Size/sectorSize),
		"Joliet with UCS level 3 found",
		"Rock Ridge signatures version 1 found",
		"Eltorito validation header:",
		"Boot media 0 (No Emulation Boot)",
	)
	// Without Rock Ridge: ISO 9660's own names.
	contains(t, run(t, "isoinfo", "-i", path, "-f"), "/NIX_STORE.SQUASHFS;1\n", "/A/B/C/D/E/F/G/H/I/J/DEEP.;1\n")
}

// Without Boot there is nothing but the file system.
func TestPlain(t *testing.T) {
	for _, c := range []contents{{}, {"a": []byte("a"), "empty at the end": {}}} {
		path, r := makeImage(t, Options{VolumeID: "PLAIN", ModTime: testTime, Files: c.files()}, c)
		out := run(t, "xorriso", "-indev", path, "-report_system_area", "plain", "-report_el_torito", "plain", "-find", "/", "-type", "f")
		contains(t, out, "Volume id    : 'PLAIN'")
		contains(t, run(t, "isoinfo", "-d", "-i", path), fmt.Sprintf("Volume size is: %d\n", r.Size/sectorSize))
		for p := range c {
			contains(t, out, "'/"+p+"'")
		}
		for _, not := range []string{"MBR", "GPT", "El Torito img", "WARNING", "FAILURE"} {
			if strings.Contains(out, not) {
				t.Errorf("%s in:\n%s", not, out)
			}
		}
		if r.ESP != (Extent{}) || r.EFI != nil {
			t.Errorf("result has an EFI system partition: %v", r)
		}
	}
}

// The partition tables are valid, and no sector behind the volume descriptors is free.
func TestPartitions(t *testing.T) {
	opts, c := sample()
	path, r := makeImage(t, opts, c)
	out := run(t, "sgdisk", "-v", path)
	contains(t, out, "No problems found. 30 free sectors (15.0 KiB) available in 1\nsegments")

	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(f, blockSize, blockSize)
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Verify(file.New(f, true), uint64(r.Size)); err != nil {
		t.Error(err)
	}
	var got []string
	ids := map[string]bool{table.GUID: true}
	end := uint64(systemArea)
	for _, p := range table.Partitions {
		if p.Type == gpt.Unused {
			continue
		}
		got = append(got, p.Name)
		ids[p.GUID] = true
		if p.Start*blockSize != end {
			t.Errorf("%s begins at %d, want %d", p.Name, p.Start*blockSize, end)
		}
		end = (p.End + 1) * blockSize
		if p.GUID[14] != '8' {
			t.Errorf("%s: GUID %s is not of version 8", p.Name, p.GUID)
		}
	}
	if want := []string{"ISO head", "EFI system partition", "ISO data"}; !slices.Equal(got, want) {
		t.Errorf("partitions %q, want %q", got, want)
	}
	if end != uint64(r.Size)-gptSize {
		t.Errorf("partitions end at %d, the backup table begins at %d", end, r.Size-gptSize)
	}
	if len(ids) != 4 {
		t.Errorf("GUIDs are not unique: %v", ids)
	}
	if r.Size%espAlign != 0 {
		t.Errorf("size %d is no multiple of %d", r.Size, espAlign)
	}
}

// cut copies parts of a file to another.
func cut(t *testing.T, path string, parts ...Extent) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b []byte
	for _, e := range parts {
		part, err := io.ReadAll(io.NewSectionReader(f, e.Offset, e.Size))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	to := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// The EFI system partition is sound at every size of cluster, and its file is the sectors behind it.
func TestESP(t *testing.T) {
	testenv.NeedTool(t, "fsck.fat", "mcopy")
	for _, size := range []int{4096, 1 << 20, 2<<20 + 1, 5 << 20, 9<<20 + 512, 130 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c := contents{"k": fakeKernel(size), "x": []byte("x")}
			opts := Options{VolumeID: "ESP", ModTime: testTime, Files: c.files(), Boot: &Boot{Kernel: "k"}}
			path, r := makeImage(t, opts, c)
			esp := cut(t, path, r.ESP)
			out := run(t, "fsck.fat", "-n", "-v", esp)
			contains(t, out, "2 FATs, 16 bit entries", "part: 4 files, ")
			efi := filepath.Join(t.TempDir(), "BOOTX64.EFI")
			run(t, "mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", efi)
			got, err := os.ReadFile(efi)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(cut(t, path, r.EFI...))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error("BOOTX64.EFI is not what lies in the image")
			}
			// Nothing can be added to it.
			if out := run(t, "mdir", "-i", esp, "::/"); !strings.Contains(out, " 0 bytes free") {
				t.Errorf("space looks free:\n%s", out)
			}
		})
	}
}

// The unified kernel image's sections are the command line and the ISO's files.
func TestUKI(t *testing.T) {
	tests := []struct {
		name  string
		align int64
		want  []string
	}{
		{"both", 0, []string{".text", ".data", ".reloc", ".cmdline", ".initrd", ".linux"}},
		{"no initrd", 0, []string{".text", ".data", ".reloc", ".cmdline", ".linux"}},
		{"no command line", 0, []string{".text", ".data", ".reloc", ".initrd", ".linux"}},
		{"aligned", 1 << 20, []string{".text", ".data", ".reloc", ".cmdline", ".initrd", ".linux"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts, c := sample()
			if !slices.Contains(tt.want, ".initrd") {
				opts.Boot.Initrd = ""
			}
			if !slices.Contains(tt.want, ".cmdline") {
				opts.Boot.Cmdline = ""
			}
			for i := range opts.Files {
				opts.Files[i].Align = tt.align
			}
			path, r := makeImage(t, opts, c)
			f, err := pe.Open(cut(t, path, r.EFI...))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var names []string
			end := uint32(0)
			for _, s := range f.Sections {
				names = append(names, s.Name)
				if s.VirtualAddress < end || s.VirtualAddress%peVirtualAlign != 0 {
					t.Errorf("%s lies at %#x in memory, the one before ends at %#x", s.Name, s.VirtualAddress, end)
				}
				end = s.VirtualAddress + s.VirtualSize
				want := map[string][]byte{".linux": c["boot/kernel"], ".initrd": c["boot/initrd"], ".cmdline": []byte(opts.Boot.Cmdline)}[s.Name]
				if got := sectionData(t, s); want != nil && !bytes.Equal(got, want) {
					t.Errorf("%s: %d other bytes", s.Name, len(got))
				}
			}
			if !slices.Equal(names, tt.want) {
				t.Errorf("sections %q, want %q", names, tt.want)
			}
			if size := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage; size < end || size%peVirtualAlign != 0 {
				t.Errorf("SizeOfImage %#x, sections end at %#x", size, end)
			}
		})
	}
}

func sectionData(t *testing.T, s *pe.Section) []byte {
	t.Helper()
	b := make([]byte, min(s.Size, s.VirtualSize))
	if _, err := s.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// Another implementation in Go reads what we write.
func TestDiskfs(t *testing.T) {
	opts, c := sample()
	delete(c, longName) // it gives up on continuation areas
	opts.Files = c.files()
	path, r := makeImage(t, opts, c)
	storage, err := file.OpenFromPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	image, err := iso9660.Read(storage, r.Size, 0, sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	if got := image.Label(); strings.TrimRight(got, " ") != opts.VolumeID {
		t.Errorf("label %q", got)
	}
	for p, want := range c {
		got, err := image.ReadFile(p)
		if err != nil {
			t.Errorf("%s: %v", p, err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s: %d other bytes", p, len(got))
		}
	}
}
