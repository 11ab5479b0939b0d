package bootmenu

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"
)

// grub looks for GRUB's configuration files: by their names, and in the directories where they are.
func (e *editor) grub() error {
	for _, name := range e.names(func(dir, base string) bool {
		return path.Ext(base) == ".cfg" && !isSyslinux(base) && (isGRUB(base) || slices.ContainsFunc(strings.Split(dir, "/"), func(d string) bool {
			return d == "grub" || d == "grub2" || d == "efi"
		}))
	}) {
		if e.loaders[name] != "" {
			continue // it is syslinux's
		}
		text, err := e.menu(name, GRUB)
		if err == nil {
			err = e.grubMenu(name, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isGRUB tells from a name in small letters.
func isGRUB(base string) bool { return strings.HasPrefix(base, "grub") || base == "loopback.cfg" }

// linuxCommand is the command, or a variable that holds it: distributions have it as linux or linuxefi.
var linuxCommand = regexp.MustCompile(`^(linux(16|efi)?|\$\{?linux\w*\}?)$`)

// multiboot are commands that start Xen, for which a kernel is a module.
var multiboot = []string{"multiboot", "multiboot2", "xen_hypervisor"}

func (e *editor) grubMenu(name string, text []byte) error {
	commands, ok := grubCommands(text)
	if !ok {
		return nil // GRUB would not read it
	}
	for _, words := range commands {
		if slices.Contains(multiboot, words[0].text) && len(words) > 1 && isLinux(words[1].text) {
			e.other = append(e.other, name)
		}
		if len(words) < 2 || !linuxCommand.MatchString(words[0].text) || !isLinux(words[1].text) {
			continue
		}
		if e.params.GRUBErr != nil {
			return e.params.GRUBErr
		}
		last := words[len(words)-1]
		at, insert := last.end, " "+e.params.GRUB
		if i := slices.IndexFunc(words, func(w word) bool { return w.text == "--" }); i >= 2 {
			at, insert = words[i].start, e.params.GRUB+" "
		}
		if err := e.change(name, at, edit{insert: insert}); err != nil {
			return err
		}
		length := len("BOOT_IMAGE=") + len(insert)
		for _, w := range words[1:] {
			length += len(w.text) + len(" ")
		}
		if err := checkLength(name, text, last.start, length-1); err != nil {
			return err
		}
	}
	return nil
}

// word is one of GRUB's language: its text is without quotes, with variables as they are written.
type word struct {
	start, end int
	text       string
}

// grubReserved are words behind which a command begins.
var grubReserved = []string{"then", "else", "do", "if", "elif", "while", "until", "!"}

// grubCommands splits a text into simple commands as GRUB's lexer does (grub-core/script/yylex.l), and tells
// whether all its quotes are closed.
func grubCommands(text []byte) (list [][]word, ok bool) {
	var command []word
	end := func() {
		for len(command) > 0 && slices.Contains(grubReserved, command[0].text) {
			command = command[1:]
		}
		if len(command) > 0 {
			list = append(list, command)
		}
		command = nil
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case isBlank(c):
			i++
		case continues(text[i:]) > 0:
			i += continues(text[i:])
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case strings.IndexByte("\n;{}&|<>", c) >= 0:
			end()
			i++
		default:
			w, closed := grubWord(text, i)
			if !closed {
				return nil, false
			}
			command = append(command, w)
			i = w.end
		}
	}
	end()
	return list, true
}

// continues is the length of a backslash and a line's end, or 0.
func continues(text []byte) int {
	for _, s := range []string{"\\\n", "\\\r\n"} {
		if bytes.HasPrefix(text, []byte(s)) {
			return len(s)
		}
	}
	return 0
}

// grubWord reads a word, and tells whether its quotes are closed.
func grubWord(text []byte, start int) (w word, closed bool) {
	var b strings.Builder
	var quote byte
	i := start
	for i < len(text) {
		c := text[i]
		switch {
		case quote == '\'' && c != '\'':
			b.WriteByte(c)
		case continues(text[i:]) > 0:
			i += continues(text[i:]) - 1
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c == quote && quote != 0:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == '$' && i+1 < len(text) && text[i+1] == '{':
			n := bytes.IndexByte(text[i:min(len(text), i+256)], '}')
			if n < 0 {
				return w, false
			}
			b.Write(text[i : i+n+1])
			i += n
		case quote == 0 && (isBlank(c) || strings.IndexByte("\n;{}&|<>", c) >= 0):
			return word{start, i, b.String()}, true
		default:
			b.WriteByte(c)
		}
		i++
	}
	return word{start, i, b.String()}, quote == 0
}
