package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const sectorSize = 2048

// image is an ISO image and what xorriso says of it.
type image struct {
	*os.File
	path   string
	work   string // a directory for it
	size   int64
	boot   []bootImage
	report []string // xorriso's lines on the system area
	rest   []string // and those on El Torito that are not boot images' places
	cat    string   // the boot catalog's path, if it has one
}

// bootImage is an entry of El Torito's catalog.
type bootImage struct {
	number   int
	platform string
	fields   string // emulation, load segment and the like
	load     int64  // what is loaded, in units of 512 bytes
	lba      int64
	path     string // in the tree, if there
	sectors  int64  // of 2048 bytes, as xorriso finds it
}

func openImage(name, work string) (*image, error) {
	if err := os.MkdirAll(work, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	im := &image{File: f, path: name, work: work}
	info, err := f.Stat()
	if err == nil {
		im.size = info.Size()
		err = im.readReport()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return im, nil
}

// run runs a program and returns what it prints on stdout.
func run(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// exitCode runs a program; a program that cannot be run is an error.
func exitCode(name string, args ...string) (code int, out []byte, err error) {
	out, err = exec.Command(name, args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out, nil
	}
	return 0, out, err
}

func (im *image) readReport() error {
	out, err := run("xorriso", "-no_rc", "-report_about", "FAILURE", "-indev", im.path,
		"-report_el_torito", "plain", "-report_system_area", "plain")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		key, value, _ := strings.Cut(line, " : ")
		if key, ok := strings.CutPrefix(strings.TrimSpace(key), "El Torito "); ok {
			im.elToritoLine(key, line, strings.Fields(value))
		} else {
			im.report = append(im.report, line)
		}
	}
	return nil
}

func (im *image) elToritoLine(key, line string, f []string) {
	number := func(i int) int64 {
		if i >= len(f) {
			return -1
		}
		n, _ := strconv.ParseInt(f[i], 0, 64)
		return n
	}
	entry := func() *bootImage {
		for i := range im.boot {
			if int64(im.boot[i].number) == number(0) {
				return &im.boot[i]
			}
		}
		return &bootImage{}
	}
	switch {
	case key == "boot img" && len(f) == 8:
		im.boot = append(im.boot, bootImage{number: int(number(0)), platform: f[1],
			fields: strings.Join(f[1:6], " "), load: number(6), lba: number(7)})
	case key == "img path" && len(f) > 1:
		entry().path = strings.Join(f[1:], " ")
		im.rest = append(im.rest, line)
	case key == "img blks" && len(f) > 1:
		entry().sectors = number(1)
	case key == "cat path" && len(f) > 0:
		im.cat = strings.Join(f, " ")
		im.rest = append(im.rest, line)
	case strings.HasPrefix(key, "catalog"), key == "images":
	default:
		im.rest = append(im.rest, line)
	}
}

func (im *image) bytesAt(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off+n > im.size {
		return nil, fmt.Errorf("%s: bytes %d to %d lie behind its end, %d", im.path, off, off+n, im.size)
	}
	b := make([]byte, n)
	_, err := im.ReadAt(b, off)
	return b, err
}

// save writes a part of the image to a file of its directory.
func (im *image) save(name string, off, n int64) (string, error) {
	name = filepath.Join(im.work, name)
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, io.NewSectionReader(im, off, min(n, im.size-off)))
	return name, errors.Join(err, f.Close())
}

// descriptor is a volume descriptor.
type descriptor []byte

func (d descriptor) root() (lba, size int64) {
	return int64(binary.LittleEndian.Uint32(d[158:])), int64(binary.LittleEndian.Uint32(d[166:]))
}

// descriptorsOf reads the set from sector 16 to its terminator.
func (im *image) descriptorsOf() ([]descriptor, error) {
	var all []descriptor
	for sector := int64(16); sector < 48; sector++ {
		d, err := im.bytesAt(sector*sectorSize, sectorSize)
		if err != nil {
			return nil, err
		}
		if string(d[1:6]) != "CD001" {
			return nil, fmt.Errorf("%s: sector %d is no volume descriptor", im.path, sector)
		}
		all = append(all, d)
		if d[0] == 255 {
			return all, nil
		}
	}
	return nil, fmt.Errorf("%s: no end of the volume descriptors", im.path)
}

// directories walks the tree of a volume descriptor and returns how many directories there are at each LBA.
func (im *image) directories(d descriptor) (map[int64]int, error) {
	found := make(map[int64]int)
	lba, size := d.root()
	todo := [][2]int64{{lba, size}}
	for len(todo) > 0 {
		dir := todo[0]
		todo = todo[1:]
		if found[dir[0]]++; found[dir[0]] > 1 {
			continue
		}
		b, err := im.bytesAt(dir[0]*sectorSize, dir[1])
		if err != nil {
			return nil, err
		}
		todo = append(todo, subdirectories(b)...)
	}
	return found, nil
}

func subdirectories(b []byte) (dirs [][2]int64) {
	for at := 0; at < len(b); {
		n := int(b[at])
		if n < 34 || at+n > len(b) {
			at = (at/sectorSize + 1) * sectorSize
			continue
		}
		r := b[at : at+n]
		if r[25]&2 != 0 && (r[32] != 1 || r[33] > 1) {
			dirs = append(dirs, [2]int64{int64(binary.LittleEndian.Uint32(r[2:])), int64(binary.LittleEndian.Uint32(r[10:]))})
		}
		at += n
	}
	return dirs
}

// pathTable returns the LBAs of the directories in a path table.
func (im *image) pathTable(d descriptor, order binary.ByteOrder) (map[int64]int, error) {
	at := int64(order.Uint32(d[140:]))
	if order == binary.ByteOrder(binary.BigEndian) {
		at = int64(order.Uint32(d[148:]))
	}
	b, err := im.bytesAt(at*sectorSize, int64(binary.LittleEndian.Uint32(d[132:])))
	if err != nil {
		return nil, err
	}
	found := make(map[int64]int)
	for len(b) >= 8 {
		found[int64(order.Uint32(b[2:]))]++
		n := 8 + int(b[0]) + int(b[0])%2
		b = b[min(n, len(b)):]
	}
	return found, nil
}
