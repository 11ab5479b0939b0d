package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
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

	blacklist map[string]bool     // modules not to load
	modParams map[string][]string // parameters, by module
}

// param is one word of the command line.
type param struct {
	key, value string
	hasValue   bool
}

// splitParams splits a command line as the kernel does (lib/cmdline.c,
// next_arg): at white space outside double quotes, the quotes left out where
// they enclose the whole word or the value. What follows "--" is init's own.
func splitParams(line string) []param {
	var params []param
	for _, word := range splitWords(line) {
		if word == "--" {
			break
		}
		params = append(params, newParam(word))
	}
	return params
}

func splitWords(line string) []string {
	var words []string
	quoted, start := false, -1
	for i := 0; i < len(line); i++ {
		c := line[i]
		space := c == ' ' || (c >= '\t' && c <= '\r')
		switch {
		case space && !quoted && start >= 0:
			words = append(words, line[start:i])
			start = -1
			continue
		case space && !quoted:
			continue
		case c == '"':
			quoted = !quoted
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		words = append(words, line[start:])
	}
	return words
}

func newParam(word string) param {
	if w, ok := strings.CutPrefix(word, `"`); ok {
		word = strings.TrimSuffix(w, `"`)
	}
	key, value, ok := strings.Cut(word, "=")
	if v, quoted := strings.CutPrefix(value, `"`); quoted {
		value = strings.TrimSuffix(v, `"`)
	}
	return param{key, value, ok}
}

// parseCmdline reads what concerns us; of a key that comes again, the last. The
// errors are for people to read, and the config is usable with them.
func parseCmdline(line string) (config, []error) {
	c := config{timeout: defaultTimeout, blacklist: map[string]bool{}, modParams: map[string][]string{}}
	var errs []error
	for _, p := range splitParams(line) {
		if err := c.set(p); err != nil {
			errs = append(errs, err)
		}
	}
	return c, errs
}

func (c *config) set(p param) error {
	switch p.key {
	case "root":
		return c.setRoot(p.value)
	case "init":
		c.init = p.value
	case "panic":
		n, err := strconv.Atoi(p.value)
		if err != nil {
			return fmt.Errorf("panic=%s: not a number of seconds", p.value)
		}
		c.panic = n
	case "isopress.timeout":
		n, err := strconv.Atoi(p.value)
		if err != nil || n < 0 || n > 1<<20 {
			return fmt.Errorf("isopress.timeout=%s: not a number of seconds", p.value)
		}
		c.timeout = time.Duration(n) * time.Second
	case "isopress.debug":
		c.debug = !p.hasValue || p.value != "0"
	case "modprobe.blacklist", "module_blacklist":
		for _, m := range strings.Split(p.value, ",") {
			c.blacklist[moduleKey(m)] = true
		}
	default:
		c.setModule(p)
	}
	return nil
}

func (c *config) setRoot(v string) error {
	c.label, c.device = "", ""
	for _, prefix := range []string{"LABEL=", "/dev/disk/by-label/"} {
		if l, ok := strings.CutPrefix(v, prefix); ok {
			c.label = unescape(l)
			return nil
		}
	}
	d, ok := strings.CutPrefix(v, "/dev/")
	if !ok || d == "" || d == ".." || strings.Contains(d, "/") {
		return fmt.Errorf("root=%s: only root=LABEL=<volume ID> and root=/dev/<name> are understood", v)
	}
	c.device = d
	return nil
}

// setModule keeps module.parameter=value: the kernel passes those to what is
// built in, and leaves them to modprobe for the rest. The kernel splits them
// again, so that white space needs its quotes back.
func (c *config) setModule(p param) {
	mod, name, ok := strings.Cut(p.key, ".")
	if !ok || mod == "" || name == "" || mod == "isopress" {
		return
	}
	if p.hasValue {
		if strings.ContainsAny(p.value, " \t\n\v\f\r") {
			p.value = `"` + p.value + `"`
		}
		name += "=" + p.value
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

// unescape reads udev's \x20 and the like; what is not one stays as it is.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// moduleKey is a module's name as the kernel has it.
func moduleKey(s string) string { return strings.ReplaceAll(s, "-", "_") }
