package iso

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Without changes, all pointers are computed anew and the image is the same.
func TestRewriteNothing(t *testing.T) {
	for _, s := range styles {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			old := s.image(t)
			im := open(t, old)
			if err := im.Check(); err != nil {
				t.Error(err)
			}
			path, _ := rewriteTo(t, im, Changes{})
			sameFile(t, old, path)
		})
	}
}

// A file that grows or shrinks moves others, and other programs find them all.
func TestRewriteReplace(t *testing.T) {
	long(t)
	for _, s := range styles {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			old := s.image(t)
			im := open(t, old)
			if n := len(espImages(t, old)); n != s.esp {
				t.Errorf("%d partitions hold the EFI system partition, want %d", n, s.esp)
			}
			for _, size := range []int{5<<20 + 777, 1} {
				content := pattern("new", size)
				path, r := rewriteTo(t, im, Changes{Replace: map[string]Content{squashfs: contentOf(content)}})
				if len(r.Files) != 1 || r.Files[0].Size != int64(size) {
					t.Errorf("files %v", r.Files)
				}
				judge(t, old, path, func(c contents) {
					for name := range c {
						if strings.EqualFold(strings.ReplaceAll(name, ";1", ""), squashfs) || strings.HasPrefix(name, "LIVE/FILESYST.SQU") {
							c[name] = content
						}
					}
				})
				if s.name != "no Rock Ridge" {
					checkSums(t, path)
				}
				if r.MediaSum {
					contains(t, run(t, "checkisomd5", path), "PASS")
				}
				if now := open(t, path).bootImages(); s.moves && now[0].pos == im.bootImages()[0].pos {
					t.Error("what boots did not move")
				}
				if r.MediaSum != (s.name == "isohybrid -u") {
					t.Errorf("MediaSum is %v", r.MediaSum)
				}
				// What was written can be read and written again.
				again, _ := rewriteTo(t, open(t, path), Changes{})
				sameFile(t, path, again)
			}
		})
	}
}

var digits = regexp.MustCompile(`\b[0-9]+\b`)

// report is what xorriso says of an image, without the numbers that may move. It names the files that boot and
// partition entries point to.
func report(t *testing.T, path string) string {
	t.Helper()
	out := run(t, "xorriso", "-indev", path, "-report_el_torito", "plain", "-report_system_area", "plain")
	var lines []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "More than one catalog node") || strings.Contains(line, "cat path : /empty") || strings.Contains(line, " : NOTE") || strings.Contains(line, "Media summary") || strings.Contains(line, "Drive current") || strings.Contains(line, "Media current") {
			continue
		}
		for _, bad := range []string{"WARNING", "FAILURE", "SORRY", "MISHAP"} {
			if strings.Contains(line, bad) {
				t.Errorf("xorriso complains: %s", line)
			}
		}
		lines = append(lines, strings.Join(strings.Fields(digits.ReplaceAllString(line, "N")), " "))
	}
	return strings.Join(lines, "\n")
}

// extract reads all files by the names of one tree.
func extract(t *testing.T, path, readFS string) contents {
	t.Helper()
	to := filepath.Join(t.TempDir(), "out")
	run(t, "xorriso", "-read_fs", readFS, "-osirrox", "on", "-indev", path, "-extract", "/", to)
	defer run(t, "chmod", "-R", "u+rwX", to)
	run(t, "chmod", "-R", "u+rwX", to)
	return readTree(t, os.DirFS(to))
}

// readTree reads a tree's files and links.
func readTree(t *testing.T, tree fs.FS) contents {
	t.Helper()
	c := contents{}
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			c[p+"/"] = nil
		case d.Type() == fs.ModeSymlink:
			var to string
			to, err = fs.ReadLink(tree, p)
			c[p] = []byte("-> " + to)
		default:
			c[p], err = fs.ReadFile(tree, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// without leaves out what is meant to change with the place: boot information tables, the boot
// catalog, and checksums, which are looked at elsewhere.
func (c contents) without() contents {
	for name, b := range c {
		low := strings.ToLower(name)
		switch {
		case strings.Contains(low, "sum.txt"), strings.Contains(low, "sha256su"), strings.Contains(low, "boot.cat"):
			c[name] = nil
		case strings.Contains(low, "isolinux.bin") || strings.Contains(low, "eltorito.img"):
			b = bytes.Clone(b)
			clear(b[12:24])
			clear(b[grubBootInfo:][:8])
			c[name] = b
		}
	}
	return c
}

// judge compares an image with the one that it was made of, by other programs.
func judge(t *testing.T, old, path string, change func(contents)) {
	t.Helper()
	if was, is := report(t, old), report(t, path); was != is {
		t.Errorf("xorriso says of the old image:\n%s\nof the new one:\n%s", was, is)
	}
	for _, readFS := range []string{"any", "norock"} {
		want, got := extract(t, old, readFS), extract(t, path, readFS)
		change(want)
		diff(t, readFS, want.without(), got.without())
	}
	im := open(t, path)
	want := readTree(t, open(t, old).FS())
	change(want)
	diff(t, "our reader", want.without(), readTree(t, im.FS()).without())
	if was, is := sorted(run(t, "bsdtar", "-tf", old)), sorted(run(t, "bsdtar", "-tf", path)); !slices.Equal(was, is) {
		t.Errorf("bsdtar listed %q, now %q", was, is)
	}
	judgePartitions(t, old, path)
	judgeBootCode(t, path)
}

func diff(t *testing.T, what string, want, got contents) {
	t.Helper()
	for name := range want {
		if b, ok := got[name]; !ok || !bytes.Equal(b, want[name]) {
			t.Errorf("%s: %s: there %v, %d bytes, want %d", what, name, ok, len(b), len(want[name]))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s should not be there", what, name)
		}
	}
}

var problems = regexp.MustCompile(`Identified ([0-9]+) problems`)

// judgePartitions compares the partitions that hold an EFI system partition's image, as sfdisk and sgdisk find them.
func judgePartitions(t *testing.T, old, path string) {
	t.Helper()
	if was, is := verifyGPT(old), verifyGPT(path); was != is {
		t.Errorf("sgdisk found %q, now %q", was, is)
	}
	was, is := espImages(t, old), espImages(t, path)
	if !maps.EqualFunc(was, is, bytes.Equal) {
		t.Errorf("the EFI system partitions were %v, are %v", slices.Sorted(maps.Keys(was)), slices.Sorted(maps.Keys(is)))
	}
}

func verifyGPT(path string) string {
	out, _ := exec.Command("sgdisk", "-v", path).CombinedOutput()
	if m := problems.Find(out); m != nil {
		return string(m)
	}
	return fmt.Sprint(bytes.Contains(out, []byte("No problems found")))
}

func sorted(text string) []string { return slices.Sorted(strings.Lines(text)) }

var tableLines = map[string]*regexp.Regexp{
	"MBR": regexp.MustCompile(`MBR partition +: +(\d+) +\S+ +\S+ +(\d+) +(\d+)\n`),
	"GPT": regexp.MustCompile(`GPT start and size : +(\d+) +(\d+) +(\d+)\n`),
	"APM": regexp.MustCompile(`APM start and size : +(\d+) +(\d+) +(\d+)\n`),
}

// espImages are the bytes of the partitions that begin with a FAT's boot sector.
func espImages(t *testing.T, path string) map[string][]byte {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string][]byte)
	out := run(t, "xorriso", "-indev", path, "-report_system_area", "plain")
	for table, line := range tableLines {
		unit := blockSize
		if table == "APM" && strings.Contains(out, "APM block size     :      2048") {
			unit = sectorSize
		}
		for _, m := range line.FindAllStringSubmatch(out, -1) {
			var start, size int
			fmt.Sscan(m[2], &start)
			fmt.Sscan(m[3], &size)
			start, size = start*unit, size*unit
			if start > 0 && start+size <= len(image) && size > blockSize && image[start] == 0xEB {
				list[table+m[1]] = image[start:][:size]
			}
		}
	}
	return list
}

var bootImage1 = regexp.MustCompile(`El Torito boot img : +1 +BIOS.* (\d+)\n`)

// judgeBootCode wants the master boot record to name the boot image that xorriso found.
func judgeBootCode(t *testing.T, path string) {
	t.Helper()
	out := run(t, "xorriso", "-indev", path, "-report_el_torito", "plain", "-report_system_area", "plain")
	m := bootImage1.FindStringSubmatch(out)
	if m == nil || !strings.Contains(out, "MBR isohybrid") && !strings.Contains(out, "grub2-mbr") {
		return
	}
	var lba uint64
	fmt.Sscan(m[1], &lba)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mbr := make([]byte, blockSize)
	if _, err := f.ReadAt(mbr, 0); err != nil {
		t.Fatal(err)
	}
	if n := le.Uint64(mbr[432:]); n != lba*4 && n != lba*4+4 {
		t.Errorf("the boot code names block %d, the boot image is at %d", n, lba*4)
	}
}

// checkSums lets coreutils check the checksum files.
func checkSums(t *testing.T, path string) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "out")
	run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", to)
	t.Cleanup(func() { run(t, "chmod", "-R", "u+rwX", to) })
	for _, tool := range []string{"md5sum", "sha256sum"} {
		cmd := exec.Command(tool, "--quiet", "--strict", "-c", tool+".txt")
		cmd.Dir = to
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", tool, err, out)
		}
	}
}
