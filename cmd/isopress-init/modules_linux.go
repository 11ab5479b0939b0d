package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesPath is initrd.ModulesPath; the packages an initrd needs to be packed
// are not for the program in it.
const modulesPath = "/etc/isopress/modules"

// loadModules loads what the initrd lists. What does not load is noted: the
// medium may not need it.
func (b *boot) loadModules() {
	list, err := os.ReadFile(modulesPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.moduleFailed(modulesPath, err)
	}
	paths := moduleLines(string(list))
	b.modules = len(paths)
	for _, p := range paths {
		name := moduleOf(p)
		if b.cfg.blacklist[name] {
			b.debugf("module %s: left out, as modprobe.blacklist= says", name)
			continue
		}
		err := loadModule(p, strings.Join(b.cfg.modParams[name], " "))
		switch {
		case err == nil, errors.Is(err, unix.EEXIST):
			b.debugf("module %s", name)
		case errors.Is(err, unix.ENODEV): // its hardware is not there
			b.debugf("module %s: no such hardware", name)
		default:
			b.moduleFailed(name, err)
		}
	}
}

func (b *boot) moduleFailed(name string, err error) {
	b.failed = append(b.failed, fmt.Sprintf("%s (%v)", name, err))
	say("module %s: %v", name, err)
}

func loadModule(path, params string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.FinitModule(fd, params, 0)
	return errors.Join(err, unix.Close(fd))
}
