package main

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// elTorito compares the boot catalog: entries, load sizes, and what boots.
func (j *judge) elTorito() error {
	b, a := j.before, j.after
	if len(a.boot) != len(b.boot) {
		j.fault("%d boot images, there were %d", len(a.boot), len(b.boot))
		return nil
	}
	if !slices.Equal(a.rest, b.rest) {
		j.fault("El Torito: %q, it was %q", a.rest, b.rest)
	}
	for i := range b.boot {
		x, y := b.boot[i], a.boot[i]
		if x.fields != y.fields || x.path != y.path {
			j.fault("boot image %d: %s %s, it was %s %s", x.number, y.fields, y.path, x.fields, x.path)
		}
		if x.load != y.load && !j.espMayChange(x, y) {
			j.fault("boot image %d: %d units of 512 bytes are loaded, it was %d", x.number, y.load, x.load)
		}
	}
	return nil
}

// espMayChange: the system partition was a whole partition, and is one.
func (j *judge) espMayChange(x, y bootImage) bool {
	return x.platform == "UEFI" && j.mayDiffer.match("esp") &&
		j.before.isPartition(x.lba*4, x.load) && j.after.isPartition(y.lba*4, y.load)
}

// bootInfo checks what boot images and the master boot record say of where they lie.
func (j *judge) bootInfo() error {
	for i, x := range j.before.boot {
		if i >= len(j.after.boot) || x.platform != "BIOS" {
			continue
		}
		before, err := j.before.selfReferences(x)
		if err != nil {
			return err
		}
		after, err := j.after.selfReferences(j.after.boot[i])
		if err != nil {
			j.fault("boot image %d: %v", x.number, err)
			continue
		}
		for _, what := range before {
			if !slices.Contains(after, what) {
				j.fault("boot image %d: %s is not right any more", x.number, what)
			}
		}
	}
	return nil
}

// selfReferences names what is right of the boot information table (at byte 8 of a boot image), GRUB 2's
// (at 2548) and the master boot record's pointer (at 432 of the image).
func (im *image) selfReferences(b bootImage) (right []string, err error) {
	size := b.sectors * sectorSize
	if b.path != "" {
		if size, err = im.fileSize(b); err != nil {
			return nil, err
		}
	}
	data, err := im.bytesAt(b.lba*sectorSize, size)
	if err != nil || len(data) < 64 {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(data[8:]) == 16 && int64(le.Uint32(data[12:])) == b.lba && int64(le.Uint32(data[16:])) == size &&
		le.Uint32(data[20:]) == checksum(data[64:]) {
		right = append(right, "the boot information table")
	}
	if len(data) >= 2556 && int64(le.Uint64(data[2548:])) == b.lba*4+5 {
		right = append(right, "GRUB's boot information")
	}
	mbr, err := im.bytesAt(0, 512)
	if err != nil {
		return nil, err
	}
	switch int64(le.Uint64(mbr[432:])) {
	case b.lba * 4:
		right = append(right, "isohybrid's pointer")
	case b.lba*4 + 4:
		right = append(right, "GRUB's pointer")
	}
	return right, nil
}

// fileSize asks xorriso for a boot image's size.
func (im *image) fileSize(b bootImage) (int64, error) {
	out, err := run("xorriso", "-no_rc", "-report_about", "FAILURE", "-indev", im.path, "-find", b.path, "-exec", "report_lba", "--")
	if err != nil {
		return 0, err
	}
	var size int64
	for line := range bytes.Lines(out) {
		if f := bytes.Split(line, []byte(",")); bytes.HasPrefix(line, []byte("File data lba:")) && len(f) > 3 {
			for _, c := range bytes.TrimSpace(f[3]) {
				size = size*10 + int64(c-'0')
			}
		}
	}
	return size, nil
}

// checksum adds little-endian words; the last one is filled up with zeros.
func checksum(b []byte) (sum uint32) {
	for len(b) >= 4 {
		sum += binary.LittleEndian.Uint32(b)
		b = b[4:]
	}
	var last [4]byte
	copy(last[:], b)
	return sum + binary.LittleEndian.Uint32(last[:])
}
