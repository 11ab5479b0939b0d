package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a medium holds.
const (
	storeImage = "nix-store.squashfs"
	rootImage  = "rootfs.squashfs"
)

const (
	mediumDir  = "/medium" // where it is mounted until the root is there
	pollEvery  = 100 * time.Millisecond
	quietFor   = 3 * time.Second  // before it is said what is waited for
	repeatWait = 15 * time.Second // and how often it is said again
	// settleFor is how long a device in front of one that fits may take.
	settleFor = time.Second
)

// medium is the ISO, mounted at mediumDir.
type medium struct {
	device string
	store  bool // it holds storeImage, else rootImage
}

// waitForMedium returns when the medium is mounted. When its time is over it
// says so, and goes on looking: a virtual CD may be attached after all.
func (b *boot) waitForMedium() medium {
	w := &wait{boot: b, since: time.Now(), tried: make(map[string]time.Time)}
	w.saySoon = w.since.Add(quietFor)
	for {
		if err := b.devices.scan(); err != nil {
			w.debugf("/sys/class/block: %v", err)
		}
		if m, ok := w.try(b.devices.snapshot()); ok {
			return m
		}
		w.report(time.Now())
		time.Sleep(pollEvery)
	}
}

// look gives the devices time to be read, for the last word to list them.
func (b *boot) look() {
	for end := time.Now().Add(quietFor); time.Now().Before(end); time.Sleep(pollEvery) {
		if err := b.devices.scan(); err != nil {
			say("/sys/class/block: %v", err)
			return
		}
	}
}

// wait is the search for the medium.
type wait struct {
	*boot
	since   time.Time
	saySoon time.Time // when to say again what is waited for
	seen    time.Time // when a device first fitted
	tried   map[string]time.Time
	given   bool // the last word
}

// try mounts the first device that fits and has an image.
func (w *wait) try(devs []device) (medium, bool) {
	found, settled := candidates(&w.cfg, devs)
	if len(found) == 0 {
		return medium{}, false
	}
	if w.seen.IsZero() {
		w.seen = time.Now()
	}
	if !settled && time.Since(w.seen) < settleFor {
		return medium{}, false
	}
	for _, d := range found {
		if time.Since(w.tried[d.name]) < rereadAfter {
			continue
		}
		w.tried[d.name] = time.Now()
		m, err := mountMedium(d)
		if err != nil {
			w.debugf("/dev/%s: %v", d.name, err)
			w.devices.exclude(d.name, err)
			continue
		}
		sayTwins(&w.cfg, d, found)
		say("the medium is /dev/%s, volume ID %q", d.name, d.label)
		return m, true
	}
	return medium{}, false
}

// sayTwins says that several media have the volume ID. A disk and its own
// partitions are one.
func sayTwins(c *config, used device, found []device) {
	var others []string
	for _, d := range found {
		if d.name != used.name && d.parent != used.name && used.parent != d.name {
			others = append(others, "/dev/"+d.name)
		}
	}
	if len(others) > 0 {
		say("the volume ID %q is on %s as well", c.label, strings.Join(others, ", "))
	}
}

func mountMedium(d device) (medium, error) {
	if err := os.MkdirAll(mediumDir, 0o755); err != nil {
		return medium{}, err
	}
	err := unix.Mount(nodeOf(d.name), mediumDir, "iso9660", unix.MS_RDONLY, "")
	if errors.Is(err, unix.ENODEV) {
		return medium{}, errors.New("the kernel has no iso9660: the module isofs is missing")
	}
	if err != nil {
		return medium{}, fmt.Errorf("cannot be mounted: %w", err)
	}
	for _, image := range []string{storeImage, rootImage} {
		if fi, err := os.Stat(mediumDir + "/" + image); err == nil && fi.Mode().IsRegular() {
			return medium{d.name, image == storeImage}, nil
		}
	}
	err = fmt.Errorf("neither /%s nor /%s is on it", storeImage, rootImage)
	return medium{}, errors.Join(err, unix.Unmount(mediumDir, 0))
}

// report says what is waited for, and at the end of the time the last word.
func (w *wait) report(now time.Time) {
	if !w.given && now.Sub(w.since) >= w.cfg.timeout {
		w.given = true
		w.lastWord(notFound(&w.cfg, w.devices.snapshot(), now.Sub(w.since)))
		w.restart()
		say("still looking: the boot goes on as soon as the medium is there")
		return
	}
	if w.given || now.Before(w.saySoon) {
		return
	}
	w.saySoon = now.Add(repeatWait)
	say("waiting for %s, for %.0f s more; so far: %s", w.cfg.target(),
		(w.cfg.timeout - now.Sub(w.since)).Seconds(), inOneLine(w.devices.snapshot()))
}
