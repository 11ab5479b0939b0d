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
	mods := moduleLines(string(list))
	b.modules = modules{count: len(mods)}
	if len(mods) > 0 {
		b.modules.version = versionOf(mods[0].path)
	}
	if b.modules.foreign(release()) {
		say("the modules are those of kernel %s, but this is %s", b.modules.version, release())
	}
	out := make(map[string]bool) // not loaded
	for _, m := range mods {
		name := moduleOf(m.path)
		out[name] = !b.load(name, m, out)
	}
}

// load loads one module, unless it is unwanted or would only make the kernel
// complain about unknown symbols.
func (b *boot) load(name string, m moduleLine, out map[string]bool) bool {
	if b.cfg.blacklist[name] {
		b.debugf("module %s: left out, as the kernel command line says", name)
		return false
	}
	for _, n := range m.needs {
		if out[n] {
			b.debugf("module %s: left out, as %s is", name, n)
			return false
		}
	}
	err := loadModule(m.path, strings.Join(b.cfg.modParams[name], " "))
	switch {
	case err == nil, errors.Is(err, unix.EEXIST):
		b.debugf("module %s", name)
		return true
	case errors.Is(err, unix.ENODEV):
		b.debugf("module %s: its hardware is not there", name)
	default:
		b.moduleFailed(name, err)
	}
	return false
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
