package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isopress/isopress/internal/kcmdline"
)

// defaultTimeout is for a USB CD or a BMC's virtual medium to appear.
const defaultTimeout = 60 * time.Second

// config is what the kernel command line asks for.
type config struct {
	label   string // volume ID of the medium; or
	device  string // its name, as in /dev/<device>
	init    string // what to run in the new root
	timeout time.Duration
	panic   int // as the kernel's panic=: seconds until a restart, 0 is never, less is at once
	debug   bool
	copy    bool // to RAM

	blacklist map[string]bool     // modules not to load
	modParams map[string][]string // parameters, by module
}

// parseCmdline reads what concerns us; of a key that comes again, the last. The
// errors are for people to read, and the config is usable with them.
func parseCmdline(line string) (config, []error) {
	c := config{timeout: defaultTimeout, blacklist: map[string]bool{}, modParams: map[string][]string{}}
	var errs []error
	for _, p := range kcmdline.Split(line) {
		if err := c.set(p); err != nil {
			errs = append(errs, err)
		}
	}
	return c, errs
}

func (c *config) set(p kcmdline.Param) error {
	switch p.Key {
	case "root":
		return c.setRoot(p.Value)
	case "init":
		c.init = p.Value
	case "panic":
		n, err := strconv.Atoi(p.Value)
		if err != nil {
			return fmt.Errorf("panic=%s: not a number of seconds", p.Value)
		}
		c.panic = n
	case "isopress.timeout":
		n, err := strconv.Atoi(p.Value)
		if err != nil || n < 0 || n > 1<<20 {
			return fmt.Errorf("isopress.timeout=%s: not a number of seconds", p.Value)
		}
		c.timeout = time.Duration(n) * time.Second
	case copyParam:
		return c.setCopy(p)
	case "isopress.debug":
		c.debug = !p.HasValue || p.Value != "0"
	case "modprobe.blacklist", "module_blacklist":
		for _, m := range strings.Split(p.Value, ",") {
			c.blacklist[moduleKey(m)] = true
		}
	default:
		c.setModule(p)
	}
	return nil
}

func (c *config) setRoot(v string) error {
	c.label, c.device = "", ""
	if label, ok := kcmdline.Label(v); ok {
		c.label = label
		return nil
	}
	d, ok := strings.CutPrefix(v, "/dev/")
	if !ok || d == "" || d == ".." || strings.Contains(d, "/") {
		return fmt.Errorf("root=%s: only root=LABEL=<volume ID> and root=/dev/<name> are understood", v)
	}
	c.device = d
	return nil
}

// copyParam is the parameter's name in NixOS and archiso, whose "auto" is to copy
// if memory holds it, as we do anyhow.
const copyParam = "copytoram"

func (c *config) setCopy(p kcmdline.Param) error {
	c.copy = !p.HasValue || slices.Contains([]string{"y", "1", "auto"}, p.Value)
	if !c.copy && p.Value != "n" && p.Value != "0" {
		return fmt.Errorf("%s=%s: neither y nor n", copyParam, p.Value)
	}
	return nil
}

// initArgs is what the kernel has given us, for what comes after us: it hands on
// each word that it does not know, and a shell would take ours for a script.
func initArgs(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == copyParam })
}

// setModule keeps module.parameter=value: the kernel passes those to what is
// built in, and leaves them to modprobe for the rest. The kernel splits them
// again, so that white space needs its quotes back.
func (c *config) setModule(p kcmdline.Param) {
	mod, name, ok := strings.Cut(p.Key, ".")
	if !ok || mod == "" || name == "" || mod == "isopress" {
		return
	}
	if p.HasValue {
		if strings.ContainsAny(p.Value, " \t\n\v\f\r") {
			p.Value = `"` + p.Value + `"`
		}
		name += "=" + p.Value
	}
	mod = moduleKey(mod)
	c.modParams[mod] = append(c.modParams[mod], name)
}

// target says what is looked for.
func (c *config) target() string {
	if c.device != "" {
		return "a medium at /dev/" + c.device
	}
	return fmt.Sprintf("a medium with the volume ID %q", c.label)
}

var errNoRoot = errors.New("the kernel command line has no root=LABEL=<volume ID>")

// check reports what nothing can be done without.
func (c *config) check() error {
	if c.label == "" && c.device == "" {
		return errNoRoot
	}
	return nil
}

// moduleKey is a module's name as the kernel has it.
func moduleKey(s string) string { return strings.ReplaceAll(s, "-", "_") }
