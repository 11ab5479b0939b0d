package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isopress/isopress/internal/kcmdline"
)

// modules is what the initrd lists of them.
type modules struct {
	count   int
	version string // of the kernel they are for, "" if their path does not say
}

// foreign: they are another kernel's.
func (m modules) foreign(release string) bool { return m.version != "" && m.version != release }

// hints say what a person can do about an error.
func hints(c *config, err error, devs []device, mods modules, release string) []string {
	var h []string
	if mods.foreign(release) {
		h = append(h, fmt.Sprintf("an initrd with the modules of kernel %s: this one has those of %s", release, mods.version))
	}
	if errors.Is(err, errNoRoot) {
		h = append(h, "root=LABEL=<volume ID of the medium> on the kernel command line")
		return append(h, labelsSeen(c, devs)...)
	}
	var unreadable *readError
	if errors.As(err, &unreadable) {
		return append(h, "another port or drive; writing the medium again, since it is damaged or was cut short",
			"without "+copyParam+", with which every byte is read: what is damaged may not be needed")
	}
	if c.label == "" && c.device == "" || hasMedium(c, devs) {
		return h
	}
	if len(c.label) > pvdIDSize {
		h = append(h, fmt.Sprintf("a shorter volume ID: this one has %d bytes, ISO 9660 holds %d", len(c.label), pvdIDSize))
	}
	h = append(h, labelsSeen(c, devs)...)
	switch {
	case len(devs) == 0 && mods.count == 0:
		h = append(h, "an initrd with kernel modules: this one has none, and the kernel alone found no disk and no CD")
	case len(devs) == 0:
		h = append(h, "an initrd with the module of the controller that the medium is at: no disk and no CD was found")
	default:
		h = append(h, "another port or kind of drive; an initrd with the module of the medium's controller")
	}
	return append(h, "writing the image again as it is (dd): tools that unpack it to a stick lose its volume ID")
}

// labelsSeen proposes the volumes that are there.
func labelsSeen(c *config, devs []device) []string {
	var h []string
	for _, d := range devs {
		if d.state == stateVolume && d.parent == "" && d.label != "" && d.label != c.label {
			h = append(h, fmt.Sprintf("root=LABEL=%s, if /dev/%s is the medium", kcmdline.Escape(d.label), d.name))
		}
	}
	return h
}

// fits: the device is the one that is looked for, whether it can be used or not.
func (c *config) fits(d device) bool {
	if c.device != "" {
		return d.name == c.device
	}
	return d.state == stateVolume && d.label == c.label
}

// hasMedium: a device fits, so that the trouble lies elsewhere.
func hasMedium(c *config, devs []device) bool {
	return slices.ContainsFunc(devs, c.fits)
}

// notFound is why no medium was mounted in time.
func notFound(c *config, devs []device, after time.Duration) error {
	for _, d := range devs {
		if c.fits(d) {
			return fmt.Errorf("%s is there, but cannot be used: %s", c.target(), d)
		}
	}
	return fmt.Errorf("%s was not found in %.0f s", c.target(), after.Seconds())
}
