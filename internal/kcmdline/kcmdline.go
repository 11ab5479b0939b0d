// Package kcmdline reads Linux kernel command lines, and the escapes in which
// root=LABEL= holds a volume ID. The builder writes with it what isopress-init reads.
package kcmdline

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Param is one word of the command line.
type Param struct {
	Key, Value string
	HasValue   bool // a "=" follows the key
}

// Split splits a command line as the kernel does (lib/cmdline.c,
// next_arg): at white space outside double quotes, the quotes left out where
// they enclose the whole word or the value. What follows "--" is init's own.
func Split(line string) []Param {
	var params []Param
	for _, word := range Words(line) {
		if word == "--" {
			break
		}
		params = append(params, newParam(word))
	}
	return params
}

// Words splits a command line as [Split] does, but leaves the quotes, and goes on behind "--".
func Words(line string) []string {
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

func newParam(word string) Param {
	if w, ok := strings.CutPrefix(word, `"`); ok {
		word = strings.TrimSuffix(w, `"`)
	}
	key, value, ok := strings.Cut(word, "=")
	if v, quoted := strings.CutPrefix(value, `"`); quoted {
		value = strings.TrimSuffix(v, `"`)
	}
	return Param{key, value, ok}
}

// Root is the value of the last root= of a command line.
func Root(line string) (value string, found bool) {
	for _, p := range Split(line) {
		if p.Key == "root" {
			value, found = p.Value, true
		}
	}
	return value, found
}

// Label is the volume ID that a value of root= names.
func Label(root string) (id string, ok bool) {
	for _, prefix := range []string{"LABEL=", "/dev/disk/by-label/"} {
		if l, ok := strings.CutPrefix(root, prefix); ok {
			return Unescape(l), true
		}
	}
	return "", false
}

// Check refuses a line to which no parameter can be added: one with a quote left open.
func Check(line string) error {
	if strings.Count(line, `"`)%2 != 0 {
		return errors.New("a double quote is left open")
	}
	return nil
}

// Unescape reads udev's \x20 and the like; what is not one stays as it is.
func Unescape(s string) string {
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

// Escape writes what Unescape reads, without white space and quotes.
func Escape(label string) string {
	var b strings.Builder
	for _, c := range []byte(label) {
		if c <= ' ' || c == '"' || c == '\\' || c >= 0x7f {
			fmt.Fprintf(&b, `\x%02x`, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
