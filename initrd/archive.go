// Package initrd packs an initial RAM file system: a newc cpio archive, by
// default compressed with zstd, that a Linux kernel unpacks before it runs /init.
//
// An [Archive] collects entries in any order and writes them in one: sorted by
// path, owned by root, dated Options.ModTime. The bytes depend on the entries and
// the options, and on nothing else. [Archive.AddModules] takes kernel modules and
// what they depend on from a lib/modules tree, and writes the order to load them
// in to [ModulesPath], where isopress-init reads it.
package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"
)

// Where the kernel and isopress-init look.
const (
	InitPath    = "/init"                 // what the kernel runs
	ModulesPath = "/etc/isopress/modules" // the modules to load, one a line, dependencies first
)

// Limits of the format and of the kernel that unpacks it.
const (
	maxFileSize = math.MaxUint32 // c_filesize is 8 hex digits
	maxName     = 4096 - 1       // PATH_MAX with its NUL, init/initramfs.c: longer ones are skipped in silence
	maxElement  = 255            // NAME_MAX
	trailerName = "TRAILER!!!"   // ends an archive
)

// Errors about a destination, wrapped with it.
var (
	ErrDuplicate = errors.New("is in the initrd already")
	ErrBadPath   = errors.New("not a path for an initrd")
	ErrTooLarge  = errors.New("4 GiB or more, which a newc archive cannot hold")
	ErrChanged   = errors.New("changed while it was being packed")
)

// Options decide how an [Archive] is written.
type Options struct {
	// Compression is zstd:1-22, gzip:1-9 or none; "" is zstd:19.
	Compression string
	// ModTime dates every entry, in whole seconds of 1970 to 2106. The zero
	// Time is 1970-01-01.
	ModTime time.Time
}

// Archive collects the entries of an initrd. The zero value is empty and ready
// to use. Destinations are absolute paths in the initrd; a missing leading slash
// is added, "..", and a destination that is there already, are errors.
type Archive struct {
	// Root is the host directory that stands for "/" where a kernel module tree
	// has absolute symlinks, as a store that lies elsewhere has. "" is "/".
	Root string

	entries map[string]*entry // by path without the leading slash
	modules moduleList
}

// entry is what one path of the archive holds.
type entry struct {
	mode cpio.FileMode // type and permissions
	size int64
	open func() (io.ReadCloser, error) // nil for a directory
}

// AddFile adds the host's file src, which is read when the archive is written.
// Of mode, the permissions and setuid, setgid and sticky are used.
func (a *Archive) AddFile(dst, src string, mode fs.FileMode) error {
	fi, err := os.Stat(src)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("initrd: %s: not a regular file", src)
	}
	if err := checkSize(src, fi.Size()); err != nil {
		return err
	}
	open := func() (io.ReadCloser, error) { return os.Open(src) }
	return a.put(dst, &entry{cpio.TypeReg | permissions(mode), fi.Size(), open})
}

// AddBytes adds a file with this content, which must not be changed afterwards.
func (a *Archive) AddBytes(dst string, content []byte, mode fs.FileMode) error {
	if err := checkSize(dst, int64(len(content))); err != nil {
		return err
	}
	return a.put(dst, bytesEntry(cpio.TypeReg|permissions(mode), content))
}

// AddSymlink adds a symlink; target is kept as it is.
func (a *Archive) AddSymlink(dst, target string) error {
	if target == "" || len(target) > maxName || strings.ContainsRune(target, 0) {
		return fmt.Errorf("initrd: %s: symlink to %q: the target must have 1 to %d bytes, and no NUL", dst, target, maxName)
	}
	return a.put(dst, bytesEntry(cpio.TypeSymlink|0o777, []byte(target)))
}

// AddDir adds a directory. Only those with another mode than 0755, or nothing in
// them, need it: directories that a path implies are added by Write. Adding one
// again with the same mode is no error.
func (a *Archive) AddDir(dst string, mode fs.FileMode) error {
	return a.put(dst, &entry{mode: cpio.TypeDir | permissions(mode)})
}

// AddInit adds src, a static executable, as [InitPath], and what a Go program
// needs to start there.
func (a *Archive) AddInit(src string) error {
	if err := a.AddFile(InitPath, src, 0o755); err != nil {
		return err
	}
	// A kernel whose own initramfs has no /dev/console starts /init without open
	// descriptors; the Go runtime then opens /dev/null for each, and aborts
	// without it (runtime/fds_unix.go). A regular file serves: newc device nodes
	// are beyond the cpio library, and devtmpfs is mounted over it at once.
	return a.AddBytes("/dev/null", nil, 0o666)
}

// AddTree adds the host's file or directory src with all that is in it, with the
// permissions found there. Symlinks within are kept as they are; src itself may
// be one to what is meant. Sockets, pipes and devices are errors.
func (a *Archive) AddTree(dst, src string) error {
	// Before it is joined and so cleaned; the root, too, can take a tree.
	if _, err := cleanName(dst + "/x"); err != nil {
		return err
	}
	top, err := filepath.EvalSymlinks(src)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("initrd: %w", err)
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return fmt.Errorf("initrd: %s: %w", p, err)
		}
		return a.addHost(path.Join("/", dst, filepath.ToSlash(rel)), p, d)
	})
}

// addHost adds one file of the host as what it is.
func (a *Archive) addHost(dst, src string, d fs.DirEntry) error {
	fi, err := d.Info()
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	switch {
	case fi.IsDir() && dst == "/": // the root has no entry of its own
		return nil
	case fi.IsDir():
		return a.AddDir(dst, fi.Mode())
	case fi.Mode().IsRegular():
		return a.AddFile(dst, src, fi.Mode())
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(src)
		if err != nil {
			return fmt.Errorf("initrd: %w", err)
		}
		return a.AddSymlink(dst, target)
	}
	return fmt.Errorf("initrd: %s: %s: neither a file, a directory nor a symlink", src, fi.Mode())
}

func (a *Archive) put(dst string, e *entry) error {
	name, err := cleanName(dst)
	if err != nil {
		return err
	}
	if old, ok := a.entries[name]; ok {
		if isDir(old) && isDir(e) && old.mode == e.mode {
			return nil
		}
		return fmt.Errorf("initrd: /%s: %w", name, ErrDuplicate)
	}
	if a.entries == nil {
		a.entries = make(map[string]*entry)
	}
	a.entries[name] = e
	return nil
}

// cleanName is dst as an archive names it: relative, and without dots.
func cleanName(dst string) (string, error) {
	bad := func(why string) error { return fmt.Errorf("initrd: %q: %w: %s", dst, ErrBadPath, why) }
	for _, el := range strings.Split(dst, "/") {
		if el == ".." {
			return "", bad(`it has ".." in it`)
		}
		if len(el) > maxElement {
			return "", bad("a name in it is longer than 255 bytes")
		}
	}
	name := strings.TrimPrefix(path.Clean("/"+dst), "/")
	switch {
	case name == "":
		return "", bad("it is the root")
	case name == trailerName:
		return "", bad("the name ends a newc archive")
	case strings.ContainsRune(name, 0):
		return "", bad("it has a NUL in it")
	case len(name) > maxName:
		return "", bad("it is longer than 4095 bytes")
	}
	return name, nil
}

func checkSize(name string, size int64) error {
	if size > maxFileSize {
		return fmt.Errorf("initrd: %s: %d bytes: %w", name, size, ErrTooLarge)
	}
	return nil
}

func isDir(e *entry) bool { return e.mode&cpio.ModeType == cpio.TypeDir }

func bytesEntry(mode cpio.FileMode, b []byte) *entry {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	return &entry{mode, int64(len(b)), open}
}

// permissions maps what Go keeps in high bits to Unix's places.
func permissions(m fs.FileMode) cpio.FileMode {
	p := cpio.FileMode(m.Perm())
	for _, b := range []struct {
		from fs.FileMode
		to   cpio.FileMode
	}{{fs.ModeSetuid, cpio.ModeSetuid}, {fs.ModeSetgid, cpio.ModeSetgid}, {fs.ModeSticky, cpio.ModeSticky}} {
		if m&b.from != 0 {
			p |= b.to
		}
	}
	return p
}
