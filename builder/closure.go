package builder

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/hostroot"
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/squashfs"
)

// Closure is a set of store paths, where the host has them, and what Nix's
// database knows of them.
type Closure struct {
	paths        []string // sorted
	registration []nix.PathInfo
	root         hostroot.Root
}

// NewClosure checks a list of store paths, each on a line of its own, as
// `nix-store -qR` writes it. storeRoot is the directory that /nix/store lies in,
// "" for the host's own.
func NewClosure(list io.Reader, storeRoot string) (*Closure, error) {
	root, err := hostroot.New(storeRoot)
	if err != nil {
		return nil, named("--store-root", storeRoot, err)
	}
	if real, err := root.Resolve(root.Host(nix.StoreDir)); err == nil && real != root.Host(nix.StoreDir) {
		return nil, fmt.Errorf("--store-root: %s is a link, to %s: give the directory that really has nix/store in it with --store-root", root.Host(nix.StoreDir), real)
	}
	c := &Closure{root: root}
	lines := bufio.NewScanner(list)
	seen := map[string]int{}
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), "\r")
		if line == "" {
			continue
		}
		line = strings.TrimRight(line, "/")
		if err := nix.CheckStorePath(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if first := seen[line]; first > 0 {
			return nil, fmt.Errorf("line %d: %s is listed twice, in line %d first", n, line, first)
		}
		seen[line] = n
		if err := c.checkPath(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		c.paths = append(c.paths, line)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(c.paths) == 0 {
		return nil, errors.New("no store path in the list")
	}
	slices.Sort(c.paths)
	return c, nil
}

// checkPath finds what is missing or closed to us before any work is done.
func (c *Closure) checkPath(path string) error {
	host := c.root.Host(path)
	info, err := os.Lstat(host)
	if errors.Is(err, fs.ErrNotExist) {
		if c.root == "/" {
			return fmt.Errorf("%s: no such store path on this machine; fetch it (nix-store -r), or say where the store is with --store-root", path)
		}
		return fmt.Errorf("%s: no such store path: %s does not exist", path, host)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if info.Mode().Type() == fs.ModeSymlink {
		return nil
	}
	if _, err := narMode(info.Mode()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.Open(host)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Close()
}

// Paths are the store paths, sorted.
func (c *Closure) Paths() []string { return c.paths }

// has reports whether an absolute path lies in one of the store paths.
func (c *Closure) has(path string) bool {
	base, _, _ := strings.Cut(nix.Base(path), "/")
	_, found := slices.BinarySearch(c.paths, nix.StoreDir+"/"+base)
	return found
}

// checkOutside refuses an output within one of the store paths.
func (c *Closure) checkOutside(t target) error {
	if strings.HasPrefix(t.dir(), c.root.Host(nix.StoreDir)+string(filepath.Separator)) && c.has(c.root.Inside(t.dir())) {
		return t.within("a store path of the closure")
	}
	return nil
}

// SetRegistration reads the closure's registration (see [nix.ParseRegistration]).
// It must tell of every path of the closure, and of nothing that the closure
// lacks but is referred to; what it has beyond is left out.
func (c *Closure) SetRegistration(r io.Reader) error {
	infos, err := nix.ParseRegistration(r)
	if err != nil {
		return err
	}
	known := map[string]nix.PathInfo{}
	for _, i := range infos {
		if _, twice := known[i.Path]; twice {
			return fmt.Errorf("%s is in the registration twice", i.Path)
		}
		known[i.Path] = i
	}
	c.registration = nil
	for _, p := range c.paths {
		info, ok := known[p]
		if !ok {
			return fmt.Errorf("nothing about %s, which is in the closure", p)
		}
		if err := c.checkReferences(info); err != nil {
			return err
		}
		c.registration = append(c.registration, info)
	}
	return nil
}

func (c *Closure) checkReferences(info nix.PathInfo) error {
	for _, ref := range info.References {
		if !c.has(ref) {
			return fmt.Errorf("%s refers to %s, which is not in the closure; list it with nix-store -qR", info.Path, ref)
		}
	}
	slices.SortFunc(info.References, cmp.Compare[string])
	return nil
}

// registrationFile is the name of the registration in the store, where NixOS
// looks for it when it starts.
const registrationFile = "nix-path-registration"

// FS is the root of the squashfs: the store paths by base name, and the
// registration.
func (c *Closure) FS() fs.FS {
	s := &storeFS{paths: map[string]fs.FS{}}
	for _, p := range c.paths {
		s.paths[nix.Base(p)] = squashfs.DirFS(c.root.Host(p))
		s.names = append(s.names, nix.Base(p))
	}
	if c.registration != nil {
		s.names = append(s.names, registrationFile)
		s.registration = nix.FormatRegistration(c.registration)
	}
	slices.Sort(s.names)
	return s
}

// resolve follows the symlinks of an absolute path of the closure's own world,
// and returns where it ends, there and on the host: in the closure, or it would
// be another machine's file.
func (c *Closure) resolve(path string) (inside, host string, err error) {
	host, err = c.root.Resolve(c.root.Host(path))
	if err != nil {
		return "", "", err
	}
	inside = c.root.Inside(filepath.ToSlash(host))
	if !c.has(inside) {
		return "", "", fmt.Errorf("%s is not in the closure", inside)
	}
	return inside, host, nil
}
