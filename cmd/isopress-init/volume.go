package main

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// The primary volume descriptor (ECMA-119 8.4), of which the first two fields
// and the volume identifier are read.
const (
	pvdOffset   = 16 * 2048
	pvdSize     = 2048
	pvdIDOffset = 40
	pvdIDSize   = 32
)

// volumeID is the identifier in a primary volume descriptor; ok is false for
// what is none.
func volumeID(pvd []byte) (id string, ok bool) {
	if len(pvd) < pvdIDOffset+pvdIDSize || !bytes.HasPrefix(pvd, []byte("\x01CD001")) {
		return "", false
	}
	field := pvd[pvdIDOffset : pvdIDOffset+pvdIDSize]
	return string(bytes.TrimRight(field, " \x00")), true
}

// device is a block device, and what reading it has shown.
type device struct {
	name   string
	parent string // the disk of a partition
	size   string // as sysfs has it
	state  deviceState
	label  string // of an ISO 9660 volume
	why    string // it is not used, for people
}

type deviceState int8

const (
	statePending  deviceState = iota // being read
	stateUnusable                    // not readable, or without a volume descriptor
	stateVolume                      // an ISO 9660 volume
)

// String is a line of the last word.
func (d device) String() string {
	s := d.why
	switch {
	case d.state == statePending:
		s = "is still being read"
	case d.state == stateVolume && d.why != "":
		s = fmt.Sprintf("ISO 9660, volume ID %q: %s", d.label, d.why)
	case d.state == stateVolume:
		s = fmt.Sprintf("ISO 9660, volume ID %q", d.label)
	}
	return d.name + ": " + s
}

// ignored are devices that never hold the medium: those made of memory or of
// other files, and floppies, whose empty drives take seconds to say so.
func ignored(name string) bool {
	return slices.ContainsFunc([]string{"loop", "ram", "zram", "fd", "nbd", "mtdblock"}, func(prefix string) bool {
		rest, ok := strings.CutPrefix(name, prefix)
		return ok && strings.Trim(rest, "0123456789") == ""
	})
}

// sortDevices puts whole disks first, then sda before sdaa: a hybrid image's
// first partition starts where the disk does, and shows the same descriptor.
func sortDevices(devs []device) {
	slices.SortFunc(devs, func(a, b device) int {
		if (a.parent == "") != (b.parent == "") {
			if a.parent == "" {
				return -1
			}
			return 1
		}
		if len(a.name) != len(b.name) {
			return len(a.name) - len(b.name)
		}
		return strings.Compare(a.name, b.name)
	})
}

// candidates are the devices to try, best first. While one that would come
// before another is still being read, settled is false.
func candidates(c *config, devs []device) (found []device, settled bool) {
	sortDevices(devs)
	settled = true
	for _, d := range devs {
		switch {
		case d.state != statePending && c.fits(d):
			found = append(found, d)
		case d.state == statePending && c.device == "" && len(found) == 0:
			settled = false
		}
	}
	return found, settled
}

// moduleOf is the name of the module in a file.
func moduleOf(file string) string {
	return moduleKey(strings.TrimSuffix(path.Base(file), ".ko"))
}

// versionOf is the kernel version in a module's path, "" if there is none.
func versionOf(file string) string {
	rest, ok := strings.CutPrefix(file, "/lib/modules/")
	version, _, found := strings.Cut(rest, "/")
	if !ok || !found {
		return ""
	}
	return version
}

// moduleLine is a module of the initrd's list.
type moduleLine struct {
	path  string
	needs []string // modules that it cannot be loaded without
}

func moduleLines(list string) []moduleLine {
	var mods []moduleLine
	for _, l := range strings.Split(list, "\n") {
		if f := strings.Fields(l); len(f) > 0 {
			mods = append(mods, moduleLine{f[0], f[1:]})
		}
	}
	return mods
}

// threadsOption: squashfs takes threads= from Linux 6.2 on, and complains on the
// console before that.
func threadsOption(release string) bool {
	var major, minor int
	if n, err := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 || err != nil {
		return false
	}
	return major > 6 || major == 6 && minor >= 2
}

// inOneLine lists devices for a message.
func inOneLine(devs []device) string {
	if len(devs) == 0 {
		return "no block device"
	}
	var s []string
	for _, d := range devs {
		s = append(s, d.String())
	}
	return strings.Join(s, "; ")
}
