package initrd

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/hostroot"
)

// maxTreeDepth ends the walk of a tree whose symlinks go round.
const maxTreeDepth = 32

// moduleTree is a lib/modules/<version> directory.
type moduleTree struct {
	root    hostroot.Root
	version string
	files   map[string]*moduleFile
	builtin map[string]bool
	deps    map[string][]string // from modules.dep: in load order
	aliases map[string][]string // those without wildcards: names of algorithms and the like
}

// moduleFile is one module of a tree.
type moduleFile struct {
	rel  string // beneath the <version> directory
	host string // where its content is, symlinks resolved
	size int64  // expanded; set by inspect
}

func openModuleTree(dir, root string) (*moduleTree, error) {
	hr, err := hostroot.New(root)
	if err != nil {
		return nil, wrap(err)
	}
	vdir, version, err := versionDir(hr, dir)
	if err != nil {
		return nil, err
	}
	t := &moduleTree{root: hr, version: version, files: make(map[string]*moduleFile)}
	chosen, err := t.readDeps(vdir)
	if err != nil {
		return nil, err
	}
	if err := t.readBuiltin(vdir); err != nil {
		return nil, err
	}
	if err := t.readAliases(vdir); err != nil {
		return nil, err
	}
	if err := t.walk(vdir, "", chosen, 0); err != nil {
		return nil, err
	}
	if len(t.files) == 0 && len(t.builtin) == 0 {
		return nil, fmt.Errorf("initrd: %s: %w: no .ko file and no modules.builtin in it", dir, ErrModule)
	}
	return t, nil
}

// versionDir finds the one <version> directory that dir is or has.
func versionDir(root hostroot.Root, dir string) (host, version string, err error) {
	for _, sub := range []string{"lib/modules", "usr/lib/modules"} {
		parent, err := root.Resolve(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", "", wrap(err)
		}
		return onlyVersion(root, parent)
	}
	host, err = root.Resolve(dir)
	if err != nil {
		return "", "", wrap(err)
	}
	if isVersionDir(host) {
		abs, err := filepath.Abs(dir)
		return host, filepath.Base(abs), wrap(err)
	}
	return onlyVersion(root, host)
}

// isVersionDir: what depmod or a kernel's modules_install leaves there.
func isVersionDir(host string) bool {
	for _, n := range []string{"kernel", "modules.order", "modules.builtin", "modules.dep"} {
		if _, err := os.Lstat(filepath.Join(host, n)); err == nil {
			return true
		}
	}
	return false
}

// onlyVersion is the single <version> directory in a lib/modules.
func onlyVersion(root hostroot.Root, parent string) (host, version string, err error) {
	list, err := os.ReadDir(parent)
	if err != nil {
		return "", "", fmt.Errorf("initrd: %w: %w", ErrModule, err)
	}
	var versions []string
	for _, d := range list {
		h, err := root.Resolve(filepath.Join(parent, d.Name()))
		if err == nil && isVersionDir(h) {
			host, versions = h, append(versions, d.Name())
		}
	}
	switch len(versions) {
	case 0:
		return "", "", fmt.Errorf("initrd: %s: %w: no lib/modules/<version> in it", parent, ErrModule)
	case 1:
		return host, versions[0], nil
	}
	return "", "", fmt.Errorf("initrd: %s: %w of several versions, %s: give the directory of one", parent, ErrModule, strings.Join(versions, ", "))
}

// walk finds the modules beneath rel. Of two with one name, the one that
// modules.dep lists is taken, else one in updates/, as depmod does, else the
// first by path.
func (t *moduleTree) walk(host, rel string, chosen map[string]string, depth int) error {
	if depth > maxTreeDepth {
		return fmt.Errorf("initrd: %s: %w: more than %d levels deep: do its symlinks go round?", rel, ErrModule, maxTreeDepth)
	}
	list, err := os.ReadDir(host)
	if err != nil {
		return fmt.Errorf("initrd: %w: %w", ErrModule, err)
	}
	for _, d := range list {
		if depth == 0 && (d.Name() == "build" || d.Name() == "source") {
			continue // links to the kernel's source
		}
		if err := t.walkOne(filepath.Join(host, d.Name()), path.Join(rel, d.Name()), d, chosen, depth); err != nil {
			return err
		}
	}
	return nil
}

func (t *moduleTree) walkOne(host, rel string, d fs.DirEntry, chosen map[string]string, depth int) error {
	typ := d.Type()
	if typ&fs.ModeSymlink != 0 {
		h, err := t.root.Resolve(host)
		if err != nil {
			return wrap(err)
		}
		fi, err := os.Stat(h)
		if err != nil {
			return fmt.Errorf("initrd: %w: %w", ErrModule, err)
		}
		host, typ = h, fi.Mode().Type()
	}
	name := moduleName(rel)
	switch {
	case typ.IsDir():
		return t.walk(host, rel, chosen, depth+1)
	case typ.IsRegular() && name != "" && t.better(name, rel, chosen):
		t.files[name] = &moduleFile{rel: rel, host: host}
	}
	return nil
}

func (t *moduleTree) better(name, rel string, chosen map[string]string) bool {
	old := t.files[name]
	switch {
	case old == nil || chosen[name] == rel:
		return true
	case chosen[name] == old.rel:
		return false
	}
	return strings.HasPrefix(rel, "updates/") && !strings.HasPrefix(old.rel, "updates/")
}

// readDeps reads modules.dep; chosen are the paths it names.
func (t *moduleTree) readDeps(dir string) (chosen map[string]string, err error) {
	chosen = make(map[string]string)
	t.deps = make(map[string][]string)
	err = t.lines(dir, "modules.dep", func(line string) {
		file, deps, ok := strings.Cut(line, ":")
		name := moduleName(file)
		if !ok || name == "" {
			return
		}
		chosen[name] = file
		list := []string{}
		for _, d := range strings.Fields(deps) {
			if n := moduleName(d); n != "" {
				list = append(list, n)
			}
		}
		slices.Reverse(list) // modprobe loads them from the last to the first
		t.deps[name] = list
	})
	return chosen, err
}

func (t *moduleTree) readBuiltin(dir string) error {
	t.builtin = make(map[string]bool)
	return t.lines(dir, "modules.builtin", func(line string) {
		if n := moduleName(line); n != "" {
			t.builtin[n] = true
		}
	})
}

// readAliases reads those of modules.alias that are plain names; the patterns
// are for udev to match hardware with.
func (t *moduleTree) readAliases(dir string) error {
	t.aliases = make(map[string][]string)
	return t.lines(dir, "modules.alias", func(line string) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "alias" && !strings.ContainsAny(f[1], "*?[:") {
			n := normalName(f[1])
			t.aliases[n] = append(t.aliases[n], normalName(f[2]))
		}
	})
}

// lines calls fn for each line of a file in dir. A tree may be without the file.
func (t *moduleTree) lines(dir, name string, fn func(string)) error {
	host, err := t.root.Resolve(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return wrap(err)
	}
	f, err := os.Open(host)
	if err != nil {
		return fmt.Errorf("initrd: %w: %w", ErrModule, err)
	}
	defer f.Close() // only read
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		fn(sc.Text())
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("initrd: %s: %w: %w", host, ErrModule, err)
	}
	return nil
}
