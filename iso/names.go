package iso

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ECMA-119 7.5 and 7.6 at level 3: a file's name and extension together, a directory's name.
const (
	maxISOFile      = 30
	maxISODirectory = 31
	maxISOExtension = 8 // longer ones are no extension: of a version number, say
)

// isoNames makes ISO 9660's names for the children of one directory, which must be sorted, so that
// the outcome does not depend on the order in which they were given. Names that fall together get a
// number at their end.
func isoNames(children []*node) []string {
	taken := make(isoTaken, len(children))
	names := make([]string, len(children))
	for i, n := range children {
		names[i] = taken.name(n.name, n.file == nil)
	}
	return names
}

// isoTaken are the ISO 9660 names of a directory, without versions and with a point, and how often a number was put behind
// them: a file FOO and a directory FOO are one name, too.
type isoTaken map[string]int

// name makes a name that is not taken.
func (taken isoTaken) name(name string, directory bool) string {
	base, ext := splitISOName(name, directory)
	limit := maxISODirectory
	if !directory {
		limit = maxISOFile - len(ext)
	}
	name = base[:min(len(base), limit)]
	key := name + "." + ext
	first := key
	for {
		if _, there := taken[key]; !there {
			break
		}
		taken[first]++
		number := strconv.Itoa(taken[first])
		name = base[:min(len(base), limit-len(number))] + number
		key = name + "." + ext
	}
	taken[key] = 0
	if directory {
		return name
	}
	return key + ";1"
}

// splitISOName maps a name to d-characters and splits a file's into name and extension.
func splitISOName(name string, directory bool) (base, ext string) {
	if i := strings.LastIndexByte(name, '.'); !directory && i > 0 && len(name)-i-1 <= maxISOExtension {
		name, ext = name[:i], name[i+1:]
	}
	return dCharacters(name), dCharacters(ext)
}

// dCharacters maps every byte, not every rune: a name need not be UTF-8.
func dCharacters(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case c >= 'a' && c <= 'z':
			b[i] = c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		default:
			b[i] = '_'
		}
	}
	return string(b)
}

// isoSortKey orders names as ECMA-119 9.3 does: the shorter of two names, and of two extensions, is
// compared as if it were filled up with spaces. Others' names may be longer than the standard's.
func isoSortKey(name string) string {
	name, _, _ = strings.Cut(name, ";")
	base, ext, _ := strings.Cut(name, ".")
	return base + strings.Repeat(" ", max(maxISODirectory-len(base), 0)) + ext
}

// maxJoliet is what fits a directory record, in UCS-2 characters; the specification says 64.
const maxJoliet = 103

// jolietName returns a name in big-endian UCS-2, or why it has none.
func jolietName(name string, directory bool) (string, error) {
	if !utf8.ValidString(name) {
		return "", errors.New("no UTF-8, so it has no Joliet name")
	}
	if i := strings.IndexAny(name, `*/:;?\`); i >= 0 {
		return "", fmt.Errorf("%q cannot be in a Joliet name", name[i])
	}
	units := utf16.Encode([]rune(name))
	if len(units) > maxJoliet {
		return "", fmt.Errorf("%d characters, a Joliet name holds %d", len(units), maxJoliet)
	}
	if !directory {
		units = append(units, ';', '1')
	}
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		if u < ' ' || utf16.IsSurrogate(rune(u)) {
			return "", fmt.Errorf("U+%04X cannot be in a Joliet name", u)
		}
		b = be.AppendUint16(b, u)
	}
	return string(b), nil
}
