package main

import (
	"bytes"
	"encoding/binary"
	"maps"
)

// descriptors compares the volume descriptors: identifiers, dates, and all that does not say where something lies.
func (j *judge) descriptors() error {
	b, err := j.before.descriptorsOf()
	if err != nil {
		return err
	}
	a, err := j.after.descriptorsOf()
	if err != nil {
		return err
	}
	if len(a) != len(b) {
		j.fault("%d volume descriptors, there were %d", len(a), len(b))
		return nil
	}
	for i := range b {
		if !bytes.Equal(steady(b[i]), steady(a[i])) {
			j.fault("volume descriptor %d differs", i)
		}
		if a[i][0] == 1 || a[i][0] == 2 {
			j.volumeSpace(i, a[i])
		}
	}
	return nil
}

func (j *judge) volumeSpace(i int, d descriptor) {
	little, big := binary.LittleEndian.Uint32(d[80:]), binary.BigEndian.Uint32(d[84:])
	if little != big {
		j.fault("volume descriptor %d: its size is %d and %d", i, little, big)
	}
	if int64(little)*sectorSize > j.after.size {
		j.fault("volume descriptor %d: %d sectors, the image is shorter", i, little)
	}
}

// steady blanks what moves: in El Torito's descriptor the catalog's place, in volumes' the size, the path tables'
// size and places, the root directory's place and size, and the application's area, where implantisomd5 writes.
func steady(d descriptor) []byte {
	s := bytes.Clone(d)
	switch d[0] {
	case 0:
		clear(s[71:75])
	case 1, 2:
		clear(s[80:88])
		clear(s[132:156])
		clear(s[158:174])
		clear(s[883:1395])
	}
	return s
}

// pathTables holds the path tables against the directories, which nothing else here reads.
func (j *judge) pathTables() error {
	before, err := j.before.wrongPathTables()
	if err != nil {
		return err
	}
	after, err := j.after.wrongPathTables()
	if err != nil {
		j.fault("%v", err)
		return nil
	}
	if after > before {
		j.fault("%d path tables name directories where there are none, there were %d", after, before)
	}
	return nil
}

func (im *image) wrongPathTables() (n int, err error) {
	all, err := im.descriptorsOf()
	if err != nil {
		return 0, err
	}
	for _, d := range all {
		if d[0] != 1 && d[0] != 2 {
			continue
		}
		dirs, err := im.directories(d)
		if err != nil {
			return 0, err
		}
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			table, err := im.pathTable(d, order)
			if err != nil {
				return 0, err
			}
			if !maps.Equal(table, dirs) {
				n++
			}
		}
	}
	return n, nil
}

// mediaSum holds isomd5sum's implanted checksum against the image.
func (j *judge) mediaSum() error {
	before, _, err := exitCode("checkisomd5", j.before.path)
	if err != nil {
		return err
	}
	after, _, err := exitCode("checkisomd5", j.after.path)
	if err != nil {
		return err
	}
	if before != after {
		j.fault("checkisomd5 gives %d, it was %d (0: right, 1: wrong, 2: there is none)", after, before)
	}
	if after == 0 {
		j.note("the implanted checksum is right")
	}
	return nil
}
