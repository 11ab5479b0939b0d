package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// rereadAfter is how long a device's result stands: a disc may be put in, and
// a drive be ready, later than its device is there.
const rereadAfter = 2 * time.Second

// prober reads the block devices, each in a goroutine of its own, so that a
// dying disk does not hold up the others. The zero value is ready to use.
type prober struct {
	mu      sync.Mutex
	devs    map[string]device
	reading map[string]bool
	readAt  map[string]time.Time
}

// scan looks for new devices and starts to read those that are due.
func (p *prober) scan() error {
	names, err := blockDevices()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(names)
	for _, n := range names {
		if p.reading[n] || time.Since(p.readAt[n]) < rereadAfter && p.devs[n].size == sysfs(n, "size") {
			continue
		}
		d, known := p.devs[n]
		if !known {
			d = device{name: n, parent: parentOf(n)}
		}
		d.size = sysfs(n, "size")
		p.devs[n], p.reading[n] = d, true
		go p.read(d)
	}
	return nil
}

// forget drops the devices that are gone.
func (p *prober) forget(names []string) {
	old := p.devs
	p.devs = make(map[string]device)
	if p.reading == nil {
		p.reading, p.readAt = make(map[string]bool), make(map[string]time.Time)
	}
	for _, n := range names {
		if d, ok := old[n]; ok {
			p.devs[n] = d
		}
	}
}

func (p *prober) read(d device) {
	d = readDevice(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.devs[d.name]; ok {
		p.devs[d.name] = d
	}
	p.reading[d.name], p.readAt[d.name] = false, time.Now()
}

// exclude notes why a volume could not be used.
func (p *prober) exclude(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d, ok := p.devs[name]; ok {
		d.why = err.Error()
		p.devs[name] = d
	}
}

func (p *prober) snapshot() []device {
	p.mu.Lock()
	defer p.mu.Unlock()
	devs := make([]device, 0, len(p.devs))
	for _, d := range p.devs {
		devs = append(devs, d)
	}
	sortDevices(devs)
	return devs
}

// blockDevices are the names in sysfs, without those that never hold a medium.
func blockDevices() ([]string, error) {
	list, err := os.ReadDir("/sys/class/block")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if !ignored(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func sysfs(name, attr string) string {
	b, err := os.ReadFile(filepath.Join("/sys/class/block", name, attr))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// parentOf is the disk that a partition is of.
func parentOf(name string) string {
	if sysfs(name, "partition") == "" {
		return ""
	}
	real, err := filepath.EvalSymlinks(filepath.Join("/sys/class/block", name))
	if err != nil {
		return "?"
	}
	return filepath.Base(filepath.Dir(real))
}

// nodeOf is a device's node; sysfs writes cciss/c0d0 as cciss!c0d0.
func nodeOf(name string) string { return "/dev/" + strings.ReplaceAll(name, "!", "/") }

// readDevice looks for an ISO 9660 volume. It keeps why an earlier try to use
// the same volume failed.
func readDevice(d device) device {
	before := d
	d.state, d.label, d.why = stateUnusable, "", ""
	if d.size == "0" {
		d.why = "is empty"
		return d
	}
	pvd, err := readPVD(nodeOf(d.name))
	switch {
	case errors.Is(err, unix.ENOMEDIUM):
		d.why = "has no disc in it"
		return d
	case err != nil:
		d.why = "cannot be read: " + err.Error()
		return d
	}
	id, ok := volumeID(pvd)
	if !ok {
		d.why = "not ISO 9660"
		return d
	}
	d.state, d.label = stateVolume, id
	if before.state == stateVolume && before.label == id {
		d.why = before.why
	}
	return d
}

func readPVD(node string) ([]byte, error) {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, pvdSize)
	n, err := unix.Pread(fd, buf, pvdOffset)
	return buf[:max(n, 0)], errors.Join(err, unix.Close(fd))
}
