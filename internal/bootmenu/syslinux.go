package bootmenu

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	maxIncluded = 32 << 20 // bytes, of files that are included again as often as they are
	maxNesting  = 16       // syslinux's own
)

// isSyslinux tells from a name in small letters whether syslinux, isolinux or extlinux begin with the file.
func isSyslinux(base string) bool {
	return base == "isolinux.cfg" || base == "syslinux.cfg" || base == "extlinux.conf"
}

// syslinux looks for configuration files and follows what they include: a label without an append has the one that was
// last ahead of a label, maybe in another file.
func (e *editor) syslinux() error {
	s := &syslinux{editor: e, inherits: make(map[place]bool)}
	var dirs []string
	for _, name := range e.names(func(_, base string) bool { return isSyslinux(base) }) {
		dirs = append(dirs, path.Dir(name))
		if err := s.configuration(name, path.Dir(name), true); err != nil {
			return err
		}
	}
	// What nothing that was read leads to may yet be typed in at the prompt.
	for _, name := range e.names(func(_, base string) bool {
		return (path.Ext(base) == ".cfg" || path.Ext(base) == ".conf") && !isGRUB(base) && !slices.Contains(otherMenus, base)
	}) {
		if slices.Contains(dirs, path.Dir(name)) && e.loaders[name] == "" {
			if err := s.configuration(name, path.Dir(name), false); err != nil {
				return err
			}
		}
	}
	for p := range s.inherits {
		delete(e.edits, p)
	}
	return nil
}

// syslinux reads configurations.
type syslinux struct {
	*editor
	included int            // bytes
	inherits map[place]bool // the ends of kernel lines whose labels somewhere have an append from elsewhere
}

// configuration reads one that begins anew, and those that its menu leads to.
func (s *syslinux) configuration(name, dir string, add bool) error {
	todo := []string{name}
	done := map[string]bool{name: true}
	for len(todo) > 0 {
		r := &reading{syslinux: s, dir: dir, add: add}
		if err := r.file(todo[0], 0); err != nil {
			return err
		}
		if err := r.endLabel(); err != nil {
			return err
		}
		todo = todo[1:]
		for _, next := range r.leadsTo {
			if next = r.find(next); next != "" && !done[next] {
				done[next] = true
				todo, add = append(todo, next), true
			}
		}
	}
	return nil
}

// reading is a configuration with what it includes.
type reading struct {
	*syslinux
	dir     string     // of paths that are relative
	add     bool       // labels without an append get one
	global  appendLine // ahead of all labels, or between menus: it is for all labels that end behind it
	label   *label
	help    bool // within a text
	leadsTo []string
}

// appendLine is where an append's value is.
type appendLine struct {
	file  string // "" if there is none
	value line
}

// label is what starts one thing.
type label struct {
	name    string
	command string // kernel, linux …
	kernel  string
	initrd  string
	at      appendLine // the kernel's line
	indent  string
	appends []appendLine
}

// find makes a name absolute.
func (r *reading) find(name string) string {
	if name == "" {
		return ""
	}
	if !path.IsAbs(name) {
		name = path.Join(r.dir, name)
	}
	return r.tree.find(name)
}

func (r *reading) file(name string, depth int) error {
	text, err := r.menu(name, Syslinux)
	if err != nil {
		return err
	}
	const perFile = 4 << 10 // what it takes to begin with one
	if r.included += len(text) + perFile; r.included > maxIncluded || depth > maxNesting {
		return fmt.Errorf("%s: menus include one another too often", name)
	}
	for _, l := range lines(text) {
		if err := r.line(name, text, l, depth); err != nil {
			return err
		}
	}
	r.help = false
	return nil
}

func (r *reading) line(name string, text []byte, l line, depth int) error {
	word, rest := cutWord(text, l)
	command := strings.ToLower(string(text[word.start:word.end]))
	value := string(text[rest.start:rest.end])
	if r.help {
		r.help = command != "endtext"
		return nil
	}
	switch command {
	case "text":
		r.help = true
	case "menu":
		return r.menuLine(name, text, rest, depth)
	case "include":
		return r.include(value, depth)
	case "ui", "default":
		r.lead(value)
	case "label":
		err := r.endLabel()
		r.label = &label{name: value}
		return err
	case "append":
		if at := (appendLine{name, rest}); r.label != nil {
			r.label.appends = append(r.label.appends, at)
		} else {
			r.global = at
		}
	case "initrd":
		if r.label != nil {
			r.label.initrd = value
		}
	case "kernel", "linux", "boot", "bss", "pxe", "fdimage", "comboot", "com32", "config", "localboot":
		if r.label != nil {
			r.label.command, r.label.kernel = command, value
			r.label.at, r.label.indent = appendLine{name, l}, string(text[l.start:word.start])
		}
	}
	return nil
}

func (r *reading) menuLine(name string, text []byte, l line, depth int) error {
	word, rest := cutWord(text, l)
	switch strings.ToLower(string(text[word.start:word.end])) {
	case "include":
		return r.include(string(text[rest.start:rest.end]), depth)
	case "begin", "end":
		return r.endLabel()
	}
	return nil
}

// include reads a file that may not be there: syslinux goes on, too. With a name behind the file's it is a menu of its own.
func (r *reading) include(value string, depth int) error {
	fields := strings.Fields(value)
	if len(fields) == 0 {
		return nil
	}
	ends := len(fields) > 1
	if ends {
		if err := r.endLabel(); err != nil {
			return err
		}
	}
	if name := r.find(fields[0]); name != "" {
		if err := r.file(name, depth+1); err != nil {
			return err
		}
	}
	if ends {
		return r.endLabel()
	}
	return nil
}

// endLabel decides what becomes of the label that ends.
func (r *reading) endLabel() error {
	b := r.label
	r.label = nil
	if b == nil {
		return nil
	}
	r.follow(b)
	if strings.ToLower(path.Base(b.kernel)) == "mboot.c32" {
		r.other = append(r.other, b.at.file)
	}
	if !b.isLinux() {
		return nil
	}
	for _, a := range b.appends {
		if err := r.edit(a, b); err != nil {
			return err
		}
	}
	if len(b.appends) > 0 {
		return nil
	}
	at, end := lineEnd(r.texts[b.at.file], b.at.value.end)
	switch {
	case r.global.file != "":
		r.inherits[place{b.at.file, at}] = true
		return r.edit(r.global, b)
	case r.add:
		return r.change(b.at.file, at, edit{insert: end + b.indent + "append " + r.params.Text})
	}
	return nil
}

// edit changes an append's value, for a label; "-" stands for none.
func (r *reading) edit(a appendLine, b *label) error {
	text := r.texts[a.file]
	if string(text[a.value.start:a.value.end]) == "-" {
		return r.change(a.file, a.value.start, edit{drop: 1, insert: r.params.Text})
	}
	more := len("BOOT_IMAGE= ") + len(cmp.Or(b.kernel, b.name))
	if b.initrd != "" {
		more += len(" initrd=") + len(b.initrd)
	}
	return r.appendTo(a.file, text, a.value.start, a.value.end, more)
}

// follow notes the configurations that a label leads to.
func (r *reading) follow(b *label) {
	switch {
	case b.command == "config":
		r.lead(b.kernel)
	case strings.HasSuffix(strings.ToLower(b.kernel), "menu.c32"):
		for _, a := range b.appends {
			r.lead(string(r.texts[a.file][a.value.start:a.value.end]))
		}
	}
}

// lead notes the configurations among words.
func (r *reading) lead(words string) {
	for _, w := range strings.Fields(words) {
		if ext := strings.ToLower(path.Ext(w)); ext == ".cfg" || ext == ".conf" {
			r.leadsTo = append(r.leadsTo, w)
		}
	}
}

// isLinux tells whether a label starts a kernel: "kernel" goes by the name's extension, and the label's own name
// is that of a kernel if no other is said.
func (b *label) isLinux() bool {
	switch b.command {
	case "linux":
		return isLinux(b.kernel)
	case "":
		return len(b.appends) > 0 && isLinux(b.name)
	case "kernel":
		ext := strings.ToLower(path.Ext(b.kernel))
		return isLinux(b.kernel) && !slices.Contains([]string{".0", ".bin", ".bs", ".bss", ".img"}, ext)
	}
	return false
}
