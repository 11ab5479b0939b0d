package builder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// system is what a NixOS-like top level says of how to boot it; all paths are
// absolute, as the closure itself sees them.
type system struct {
	toplevel string
	kernel   string
	initrd   string // "" where the top level has none
	modules  string // directory with lib/modules/<version>, or ""
	init     string
	params   []string
	secrets  bool   // the initrd is not complete without a program that adds to it
	label    string // what people call it, or ""

	specialisations json.RawMessage // as boot.json has them
}

// specialisation is a variant of a system, with a top level of its own.
type specialisation struct {
	name string
	system
}

// bootspec is the part of NixOS's boot.json that matters here (NixOS RFC 125).
type bootspec struct {
	V1 *struct {
		Kernel        string   `json:"kernel"`
		KernelParams  []string `json:"kernelParams"`
		Initrd        string   `json:"initrd"`
		InitrdSecrets string   `json:"initrdSecrets"`
		Init          string   `json:"init"`
		Label         string   `json:"label"`
		Toplevel      string   `json:"toplevel"`
	} `json:"org.nixos.bootspec.v1"`
	Specialisations json.RawMessage `json:"org.nixos.specialisation.v1"`
}

// maxBootFile bounds boot.json and kernel-params.
const maxBootFile = 1 << 20

// readSystem reads the top level's boot.json, or, where it has none, its links
// kernel and initrd and its files kernel-params and init.
func readSystem(c *Closure, toplevel string) (*system, error) {
	toplevel = path.Clean(toplevel)
	if !c.has(toplevel) {
		return nil, fmt.Errorf("system %s is not in the closure", toplevel)
	}
	s := &system{toplevel: toplevel, kernel: toplevel + "/kernel", init: toplevel + "/init"}
	if c.exists(toplevel + "/kernel-modules") {
		s.modules = toplevel + "/kernel-modules"
	}
	if !c.exists(toplevel+"/boot.json") && !c.exists(s.kernel) {
		return nil, fmt.Errorf("%s is no top level of a system: it has neither boot.json nor kernel", toplevel)
	}
	spec, err := c.readText(toplevel + "/boot.json")
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.readLinks(c)
	}
	if err != nil {
		return nil, err
	}
	if err := s.readBootspec(spec); err != nil {
		return nil, fmt.Errorf("%s/boot.json: %w", toplevel, err)
	}
	return s, nil
}

func (s *system) readBootspec(text []byte) error {
	spec, err := s.setBootspec(text)
	s.specialisations = spec.Specialisations
	return err
}

func (s *system) setBootspec(text []byte) (bootspec, error) {
	var spec bootspec
	if err := json.Unmarshal(text, &spec); err != nil {
		return spec, err
	}
	v1 := spec.V1
	if v1 == nil || v1.Kernel == "" || v1.Init == "" {
		return spec, errors.New("no kernel and init of org.nixos.bootspec.v1")
	}
	s.kernel, s.initrd, s.init, s.params = v1.Kernel, v1.Initrd, v1.Init, v1.KernelParams
	s.secrets, s.label = v1.InitrdSecrets != "", v1.Label
	return spec, nil
}

// readSpecialisations reads the specialisations, each of which has a bootspec of
// its own, sorted by name. They have none in turn, and only a menu has a place
// for them: whoever shows none need not care what is wrong with them.
func (s *system) readSpecialisations() ([]specialisation, error) {
	var texts map[string]json.RawMessage
	if len(s.specialisations) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(s.specialisations, &texts); err != nil {
		return nil, fmt.Errorf("%s/boot.json: org.nixos.specialisation.v1: %w", s.toplevel, err)
	}
	var all []specialisation
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		variant := specialisation{name: name}
		spec, err := variant.setBootspec(texts[name])
		if err != nil {
			return nil, fmt.Errorf("%s/boot.json: specialisation %q: %w", s.toplevel, name, err)
		}
		variant.toplevel = spec.V1.Toplevel
		all = append(all, variant)
	}
	return all, nil
}

func (s *system) readLinks(c *Closure) error {
	params, err := c.readText(s.toplevel + "/kernel-params")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.params = strings.Fields(string(params))
	if c.exists(s.toplevel + "/initrd") {
		s.initrd = s.toplevel + "/initrd"
	}
	return nil
}

// exists reports whether a path of the closure's world is there, be it a link
// that leads nowhere.
func (c *Closure) exists(path string) bool {
	_, err := os.Lstat(c.root.Host(path))
	return err == nil
}

func (c *Closure) readText(path string) ([]byte, error) {
	_, host, err := c.resolve(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(host)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBootFile+1))
	if err == nil && len(b) > maxBootFile {
		err = fmt.Errorf("%s: over %d bytes", path, maxBootFile)
	}
	return b, err
}
