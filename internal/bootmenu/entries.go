package bootmenu

import (
	"bytes"
	"path"
	"strings"
)

// entries looks for boot loader entries (the Boot Loader Specification's type 1), which systemd-boot and some GRUBs read.
func (e *editor) entries() error {
	for _, name := range e.names(func(dir, base string) bool {
		return path.Ext(base) == ".conf" && (dir == "loader/entries" || strings.HasSuffix(dir, "/loader/entries"))
	}) {
		text, err := e.menu(name, Entries)
		if err == nil {
			err = e.entry(name, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry appends to an entry's options, which may be on several lines and are joined.
func (e *editor) entry(name string, text []byte) error {
	var kernel, last line
	length, linux, initrd, program, options := 0, false, false, false, false
	ended := line{-1, -1} // the first options with a "--"
	for _, l := range lines(text) {
		word, rest := cutWord(text, l)
		switch string(text[word.start:word.end]) {
		case "linux":
			kernel, linux = l, isLinux(string(text[rest.start:rest.end]))
		case "efi":
			kernel, program = l, isLinux(string(text[rest.start:rest.end]))
		case "initrd":
			initrd = true
			length += len(" initrd=") + rest.end - rest.start
		case "options":
			last, options = rest, true
			length += len(" ") + rest.end - rest.start
			if ended.start < 0 && initWords(text[rest.start:rest.end]) >= 0 {
				ended = rest
			}
		}
	}
	if !linux && !(program && initrd) {
		return nil
	}
	if ended.start >= 0 {
		last = ended
	}
	if err := checkLength(name, text, kernel.start, length+len(" ")+len(e.params.Text)); err != nil {
		return err
	}
	if !options {
		at, end := lineEnd(text, kernel.end)
		return e.change(name, at, edit{insert: end + "options " + e.params.Text})
	}
	return e.appendTo(name, text, last.start, last.end, 0)
}

// lineEnd is where the line of a position ends, and what ends it.
func lineEnd(text []byte, pos int) (at int, end string) {
	rest, _, _ := bytes.Cut(text[pos:], []byte("\n"))
	if s, ok := bytes.CutSuffix(rest, []byte("\r")); ok {
		return pos + len(s), "\r\n"
	}
	return pos + len(rest), "\n"
}
