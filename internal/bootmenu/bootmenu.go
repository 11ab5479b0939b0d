// Package bootmenu finds the boot menus of a medium and appends parameters to the kernel command lines in them:
// those of syslinux (isolinux, extlinux), GRUB, and boot loader entries as systemd-boot reads them.
package bootmenu

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

const (
	maxMenu  = 1 << 20  // bytes; more is no menu
	maxMenus = 32 << 20 // of all together
	maxEdits = 1 << 16

	// MaxCmdline is the x86 kernel's COMMAND_LINE_SIZE, less the NUL.
	MaxCmdline = 2047
)

// Params are what is appended.
type Params struct {
	Text string // as the kernel reads it, without "--"
	GRUB string // the same in GRUB's language
	// GRUBErr is why they cannot be put so; it is an error only where there is a GRUB.
	GRUBErr error
}

// Loader is whose a menu is.
type Loader string

const (
	Syslinux Loader = "syslinux"
	GRUB     Loader = "GRUB"
	Entries  Loader = "boot loader entries"
)

// Menu is a file with kernel command lines.
type Menu struct {
	Path   string
	Loader Loader
	Text   []byte // with the parameters
}

// Found is what a tree has.
type Found struct {
	Menus   []Menu   // sorted by path
	Looked  []string // all files that were read as menus, sorted
	Unified []string // unified kernel images, whose command line is a part of the program; sorted
	Other   []string // menus with what is not understood: other loaders', or Xen's with a kernel as a module; sorted
}

// Append appends parameters to all kernel command lines of a tree's menus. In menus whose only other lines are
// memory tests, other boot loaders and the like nothing changes. Of a line nothing changes but
// that the parameters are added at its end, or ahead of a "--", behind which the words are init's.
func Append(fsys fs.FS, p Params) (*Found, error) {
	t, err := newTree(fsys)
	if err != nil {
		return nil, err
	}
	e := &editor{tree: t, params: p, texts: make(map[string][]byte), edits: make(map[place]edit), loaders: make(map[string]Loader)}
	for _, step := range []func() error{e.syslinux, e.grub, e.entries} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	slices.Sort(t.other)
	found := &Found{Other: slices.Compact(t.other)}
	if found.Unified, err = t.unified(); err != nil {
		return nil, err
	}
	found.Looked = slices.Sorted(maps.Keys(e.texts))
	changed := make(map[string][]int)
	for p := range e.edits {
		changed[p.file] = append(changed[p.file], p.pos)
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		found.Menus = append(found.Menus, Menu{name, e.loaders[name], e.apply(name, changed[name])})
	}
	return found, nil
}

// editor gathers what changes.
type editor struct {
	*tree
	params  Params
	texts   map[string][]byte // of menus
	size    int               // of them
	loaders map[string]Loader
	edits   map[place]edit
}

// place is a position in a file.
type place struct {
	file string
	pos  int
}

// edit takes some bytes out and puts others in.
type edit struct {
	drop   int
	insert string
}

// menu reads a file as a menu.
func (e *editor) menu(name string, l Loader) ([]byte, error) {
	if text, ok := e.texts[name]; ok {
		return text, nil
	}
	text, err := e.read(name)
	if e.size += len(text); err == nil && e.size > maxMenus {
		err = fmt.Errorf("%s: more than %d MiB of boot menus", name, maxMenus>>20)
	}
	if err == nil {
		e.texts[name], e.loaders[name] = text, l
	}
	return text, err
}

// change notes an edit. The same one may come again.
func (e *editor) change(name string, pos int, d edit) error {
	if e.edits[place{name, pos}] = d; len(e.edits) > maxEdits {
		return fmt.Errorf("%s: more than %d kernel command lines", name, maxEdits)
	}
	return nil
}

// apply is a menu's new text; at is where it changes.
func (e *editor) apply(name string, at []int) []byte {
	slices.Sort(at)
	var out []byte
	done := 0
	for _, pos := range at {
		d := e.edits[place{name, pos}]
		out = append(append(out, e.texts[name][done:pos]...), d.insert...)
		done = pos + d.drop
	}
	return append(out, e.texts[name][done:]...)
}

// checkLength refuses a command line that the kernel would cut.
func checkLength(name string, text []byte, pos, length int) error {
	if length > MaxCmdline {
		return fmt.Errorf("%s: line %d: the kernel command line would have %d bytes, the kernel takes %d", name, 1+bytes.Count(text[:pos], []byte("\n")), length, MaxCmdline)
	}
	return nil
}

// appendTo appends the parameters to a command line of a text, to which the loader adds more bytes.
func (e *editor) appendTo(name string, text []byte, start, end, more int) error {
	line := text[start:end]
	at, insert := end, " "+e.params.Text
	switch i := initWords(line); {
	case i >= 0:
		at, insert = start+i, e.params.Text+" "
	case len(line) == 0 && start > 0 && isBlank(text[start-1]):
		insert = e.params.Text
	}
	if err := e.change(name, at, edit{insert: insert}); err != nil {
		return err
	}
	return checkLength(name, text, start, len(line)+len(insert)+more)
}

// initWords is where a command line's word "--" is, or -1.
func initWords(line []byte) int {
	quoted := false
	for i, c := range line {
		if c == '"' {
			quoted = !quoted
		}
		if !quoted && c == '-' && (i == 0 || isBlank(line[i-1])) && bytes.HasPrefix(line[i:], []byte("--")) && (i+2 == len(line) || isBlank(line[i+2])) {
			return i
		}
	}
	return -1
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// What is started as a kernel and takes no kernel parameters, by its name: parts of it, beginnings, and extensions.
var (
	noLinux     = []string{"memtest", "mt86", "memdisk", "ipxe", "gpxe", "freedos", "netboot.xyz"}
	noLinuxBase = []string{"hdt", "grub", "grldr", "plpbt", "sgb"}
	noLinuxExt  = []string{".c32", ".com", ".cbt", ".lkrn", ".exe"}
)

// isLinux tells from a kernel's path whether it is one.
func isLinux(kernel string) bool {
	base := strings.ToLower(path.Base(strings.ReplaceAll(kernel, `\`, "/")))
	return kernel != "" && !slices.Contains(noLinuxExt, path.Ext(base)) &&
		!slices.ContainsFunc(noLinux, func(s string) bool { return strings.Contains(base, s) }) &&
		!slices.ContainsFunc(noLinuxBase, func(s string) bool { return strings.HasPrefix(base, s) })
}

// line is one of a text.
type line struct {
	start, end int // without its end
}

// lines splits a text; a carriage return and blanks at a line's end are none of the line.
func lines(text []byte) (list []line) {
	for start := 0; start < len(text); {
		n := bytes.IndexByte(text[start:], '\n')
		if n < 0 {
			n = len(text) - start
		}
		list = append(list, line{start, start + len(bytes.TrimRight(text[start:start+n], " \t\r"))})
		start += n + 1
	}
	return list
}

// cutWord splits a line's first word off: where the word and the rest begin and end.
func cutWord(text []byte, l line) (word, rest line) {
	for l.start < l.end && isBlank(text[l.start]) {
		l.start++
	}
	word = line{l.start, l.start}
	for word.end < l.end && !isBlank(text[word.end]) {
		word.end++
	}
	rest = line{word.end, l.end}
	for rest.start < rest.end && isBlank(text[rest.start]) {
		rest.start++
	}
	return word, rest
}

// tree is an index of the files.
type tree struct {
	fsys  fs.FS
	sizes map[string]int64
	lower map[string]string // by the name in small letters
	other []string
}

// otherMenus are the names of menus that are not understood.
var otherMenus = []string{"refind.conf", "refind_linux.conf", "limine.conf", "limine.cfg", "menu.lst", "elilo.conf", "yaboot.conf"}

func newTree(fsys fs.FS) (*tree, error) {
	t := &tree{fsys: fsys, sizes: make(map[string]int64), lower: make(map[string]string)}
	return t, fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		t.sizes[name] = info.Size()
		if lower := strings.ToLower(name); t.lower[lower] == "" {
			t.lower[lower] = name
		}
		if slices.Contains(otherMenus, strings.ToLower(d.Name())) {
			t.other = append(t.other, name)
		}
		return nil
	})
}

// names are all files for which ok is true, told of their names in small letters, sorted.
func (t *tree) names(ok func(dir, base string) bool) (list []string) {
	for name, size := range t.sizes {
		lower := strings.ToLower(name)
		if size > 0 && size <= maxMenu && ok(path.Dir(lower), path.Base(lower)) {
			list = append(list, name)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Compare(a, b) })
	return list
}

// find finds a file as loaders do that do not tell capitals from small letters; "" if there is none, or it is no menu.
func (t *tree) find(name string) string {
	name = t.lower[strings.ToLower(strings.TrimPrefix(path.Clean("/"+name), "/"))]
	if size := t.sizes[name]; size == 0 || size > maxMenu {
		return ""
	}
	return name
}

func (t *tree) read(name string) ([]byte, error) {
	f, err := t.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only: nothing is lost with its error
	b, err := io.ReadAll(io.LimitReader(f, maxMenu+1))
	if err == nil && len(b) > maxMenu {
		err = errors.New("a menu of more than 1 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}
