package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// partition is an entry of a partition table.
type partition struct {
	table         string // MBR, GPT or APM
	number        string
	kind          string // what does not say where it is
	start, blocks int64  // of 512 bytes
}

// partitions finds them in xorriso's report, whose other lines are returned with what is in them of places left out.
func (im *image) partitions() (parts []partition, rest []string) {
	unit := int64(512)
	for _, line := range im.report {
		key, value, ok := strings.Cut(line, ":")
		key, f := strings.TrimSpace(key), strings.Fields(value)
		switch {
		case !ok || strings.HasSuffix(key, "path"), strings.HasPrefix(key, "ISO image size"), strings.Contains(value, "Type        Start"):
		case key == "MBR partition" && len(f) == 5:
			parts = append(parts, partition{"MBR", f[0], f[1] + " " + f[2], number(f[3]), number(f[4])})
		case key == "GPT start and size" && len(f) == 3:
			parts = append(parts, partition{"GPT", f[0], "", number(f[1]), number(f[2])})
		case key == "GPT lba range" && len(f) == 3:
			parts = append(parts, partition{"GPT", "range", "", number(f[0]), number(f[1]) - number(f[0]) + 1},
				partition{"GPT", "backup", "", number(f[2]), 1})
		case key == "APM block size" && len(f) == 1:
			unit = number(f[0])
			rest = append(rest, line)
		case key == "APM start and size" && len(f) == 3:
			parts = append(parts, partition{"APM", f[0], "", number(f[1]) * unit / 512, number(f[2]) * unit / 512})
		default:
			rest = append(rest, line)
		}
	}
	return parts, rest
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 0, 64)
	return n
}

func (im *image) isPartition(start, blocks int64) bool {
	parts, _ := im.partitions()
	return slices.ContainsFunc(parts, func(p partition) bool { return p.start == start && p.blocks == blocks })
}

// systemArea compares boot code and partition tables. A partition's place is compared by what it has to
// do with: boot images, other partitions, the ends of the volume and of the image.
func (j *judge) systemArea() error {
	if err := j.bootCode(); err != nil {
		return err
	}
	b, restBefore := j.before.partitions()
	a, restAfter := j.after.partitions()
	for i := range max(len(restBefore), len(restAfter)) {
		x, y := lineAt(restBefore, i), lineAt(restAfter, i)
		switch {
		case x == y:
		case j.mayDiffer.match("guids") && isGUID(x) && isGUID(y):
		case strings.HasPrefix(x, "MBR heads") || strings.HasPrefix(x, "MBR secs"): // guessed from where partitions end
			j.note("xorriso reads %q, it was %q", y, x)
		default:
			j.fault("the system area: %q, it was %q", y, x)
		}
	}
	if len(a) != len(b) {
		j.fault("%d entries of partition tables, there were %d", len(a), len(b))
		return nil
	}
	for i := range b {
		j.comparePartitions(b[i], a[i], b, a)
	}
	return nil
}

// isGUID: a line that tells of the GPT's GUID, or of a partition's.
func isGUID(line string) bool {
	return strings.HasPrefix(line, "GPT disk GUID ") || strings.HasPrefix(line, "GPT partition GUID ")
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "nothing"
}

func (j *judge) comparePartitions(x, y partition, b, a []partition) {
	name := x.table + " partition " + x.number
	if x.table != y.table || x.number != y.number || x.kind != y.kind {
		j.fault("%s: %v, it was %v", name, y, x)
	}
	if (y.start+y.blocks)*512 > j.after.size+511 && (x.start+x.blocks)*512 <= j.before.size+511 {
		j.fault("%s: sectors %d to %d, the image is shorter", name, y.start, y.start+y.blocks)
	}
	check := func(end string, was, is []string) {
		kept := func(s string) bool { return slices.Contains(is, s) }
		boots := func(s string) bool { return strings.HasPrefix(s, "the start of boot image") && !kept(s) }
		if !slices.ContainsFunc(was, kept) || slices.ContainsFunc(was, boots) {
			j.fault("%s: sectors %d to %d, it was %d to %d: its %s was %s", name, y.start, y.start+y.blocks,
				x.start, x.start+x.blocks, end, strings.Join(was, ", "))
		}
	}
	check("start", j.before.places(x.start, x, b), j.after.places(y.start, y, a))
	if x.blocks != y.blocks || len(j.before.places(x.start+x.blocks, x, b)) > 1 {
		check("end", j.before.places(x.start+x.blocks, x, b), j.after.places(y.start+y.blocks, y, a))
	}
}

// places names what lies at a sector. Its bare number tells only where nothing else does, and never
// behind the system area, where all may move.
func (im *image) places(sector int64, of partition, parts []partition) (names []string) {
	for _, b := range im.boot {
		if sector == b.lba*4 {
			names = append(names, fmt.Sprintf("the start of boot image %d", b.number))
		}
		if b.sectors > 0 && sector == (b.lba+b.sectors)*4 {
			names = append(names, fmt.Sprintf("the end of boot image %d", b.number))
		}
	}
	if end := (im.size + 511) / 512; end-sector < 4096 && sector > 64 {
		names = append(names, fmt.Sprintf("%d sectors before the end", end-sector))
	}
	if d, err := im.descriptorsOf(); err == nil && sector > 64 {
		if space := int64(d[0][80]) | int64(d[0][81])<<8 | int64(d[0][82])<<16 | int64(d[0][83])<<24; sector == space*4 {
			names = append(names, "the end of the volume")
		}
	}
	for _, p := range parts {
		if sector > 64 && (p.table != of.table || p.number != of.number) && p.number != "range" {
			if sector == p.start {
				names = append(names, "the start of "+p.table+" "+p.number)
			}
			if sector == p.start+p.blocks {
				names = append(names, "the end of "+p.table+" "+p.number)
			}
		}
	}
	if sector <= 64 {
		names = append(names, fmt.Sprintf("sector %d", sector))
	}
	return names
}

// bootCode compares the code and the disk signature of the master boot record, but for the pointer, which bootInfo checks.
func (j *judge) bootCode() error {
	b, err := j.before.bytesAt(0, 446)
	if err != nil {
		return err
	}
	a, err := j.after.bytesAt(0, 446)
	if err != nil {
		return err
	}
	for _, mbr := range [][]byte{a, b} {
		clear(mbr[432:440])
	}
	switch {
	case bytes.Equal(a, b):
	case j.mayDiffer.match("boot-code"):
		j.note("the master boot record's code differs, as it may")
	default:
		j.fault("the master boot record's code differs")
	}
	return nil
}

var digits = regexp.MustCompile(`[0-9]+`)

// gpt has sgdisk verify both. What it complains of may not be more, numbers apart.
func (j *judge) gpt() error {
	complaints := func(im *image) (map[string]bool, error) {
		_, out, err := exitCode("sgdisk", "-v", im.path)
		found := make(map[string]bool)
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(digits.ReplaceAllString(line, "N"))
			if line != "" && !strings.Contains(line, "free space") && !strings.HasPrefix(line, "sectors") && !strings.HasPrefix(line, "segments") {
				found[line] = true
			}
		}
		return found, err
	}
	b, err := complaints(j.before)
	if err != nil {
		return err
	}
	a, err := complaints(j.after)
	if err != nil {
		return err
	}
	for _, line := range slices.Sorted(maps.Keys(a)) {
		if !b[line] {
			j.fault("sgdisk -v: %s", line)
		}
	}
	if clean := "No problems found. N free sectors (N.N MiB) available in N"; a[clean] {
		j.note("sgdisk finds no problems")
	}
	return nil
}

// systemPartitions compares what UEFI boots: the bytes, or else the files in them.
func (j *judge) systemPartitions() error {
	for i, x := range j.before.boot {
		if x.platform != "UEFI" || i >= len(j.after.boot) {
			continue
		}
		b, err := j.before.save("esp.img", x.lba*sectorSize, j.before.espSize(x))
		if err != nil {
			return err
		}
		y := j.after.boot[i]
		a, err := j.after.save("esp.img", y.lba*sectorSize, j.after.espSize(y))
		if err != nil {
			return err
		}
		if err := j.compareFAT(b, a); err != nil {
			return err
		}
	}
	return nil
}

// espSize is the size in bytes that the FAT itself says, which is more than is loaded of some.
func (im *image) espSize(b bootImage) int64 {
	d, err := im.bytesAt(b.lba*sectorSize, 512)
	if err != nil {
		return b.sectors * sectorSize
	}
	n := int64(d[19]) | int64(d[20])<<8
	if n == 0 {
		n = int64(d[32]) | int64(d[33])<<8 | int64(d[34])<<16 | int64(d[35])<<24
	}
	return n * (int64(d[11]) | int64(d[12])<<8)
}

func (j *judge) compareFAT(before, after string) error {
	x, err := digest(before)
	if err != nil {
		return err
	}
	y, err := digest(after)
	if err != nil || x == y {
		return err
	}
	if !j.mayDiffer.match("esp") {
		j.fault("the system partition differs")
	}
	was, _, err := exitCode("fsck.fat", "-n", before)
	if err != nil {
		return err
	}
	is, out, err := exitCode("fsck.fat", "-n", after)
	if err != nil {
		return err
	}
	if was == 0 && is != 0 {
		j.fault("fsck.fat finds fault with the system partition: %q", out)
	}
	b, err := readFAT(before)
	if err != nil {
		return err
	}
	a, err := readFAT(after)
	if err != nil {
		j.fault("the system partition: %v", err)
		return nil
	}
	return j.compareFATTrees(b, a)
}

func readFAT(name string) (tree, error) {
	dir := filepath.Join(filepath.Dir(name), "fat")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := run("mcopy", "-s", "-m", "-i", name, "::/*", dir); err != nil {
		return nil, err
	}
	return listTree(dir)
}

func (j *judge) compareFATTrees(b, a tree) error {
	if !slices.Equal(slices.Sorted(maps.Keys(b)), slices.Sorted(maps.Keys(a))) {
		j.fault("the system partition's files: %q, they were %q", slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if b[name].digest != a[name].digest && !j.mayDiffer.match(name) {
			j.fault("the system partition: %s differs", name)
		}
	}
	return nil
}
