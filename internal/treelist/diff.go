package treelist

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Diff compares two listings, both in a listing's order, and describes up to limit differences, a
// line each. It also returns how many there are in all and how many entries the first listing has.
// The listings are streamed; one that is cut off is an error.
func Diff(want, got io.Reader, limit int) (differences []string, total, entries int, err error) {
	a, b := newScanner("the expected listing", want), newScanner("the listing", got)
	add := func(format string, args ...any) {
		if total++; total <= limit {
			differences = append(differences, fmt.Sprintf(format, args...))
		}
	}
	if a.header != b.header && a.err == nil && b.err == nil {
		return nil, 0, 0, fmt.Errorf("treelist: listings of other options: %q and %q", a.header, b.header)
	}
	a.next()
	b.next()
	for a.err == nil && b.err == nil && (!a.done || !b.done) {
		switch order := compareHeads(a, b); {
		case order < 0:
			add("missing %s", a.quoted)
			a.next()
		case order > 0:
			add("not expected %s", b.quoted)
			b.next()
		default:
			if a.fields != b.fields {
				add("differs %s: %s", a.quoted, describe(a.fields, b.fields))
			}
			a.next()
			b.next()
		}
	}
	return differences, total, a.entries, errors.Join(a.err, b.err)
}

func compareHeads(a, b *scanner) int {
	switch {
	case a.done:
		return 1
	case b.done:
		return -1
	}
	return comparePaths(a.path, b.path)
}

// comparePaths orders paths as a depth-first walk with sorted names meets them: a slash is less than
// any other byte, and the root is first.
func comparePaths(a, b string) int {
	if a == "." || b == "." {
		return strings.Compare(strings.TrimPrefix(a, "."), strings.TrimPrefix(b, "."))
	}
	low := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
	return strings.Compare(low(a), low(b))
}

// describe names the fields in which two lines differ, as "m=0644 -> 0600".
func describe(want, got string) string {
	w, g := strings.Fields(want), strings.Fields(got)
	var out []string
	for len(w) > 0 && len(g) > 0 {
		wk, wv, _ := strings.Cut(w[0], "=")
		gk, gv, _ := strings.Cut(g[0], "=")
		switch {
		case w[0] == g[0]:
			w, g = w[1:], g[1:]
		case wk == gk:
			out = append(out, fmt.Sprintf("%s=%s -> %s", wk, wv, gv))
			w, g = w[1:], g[1:]
		case len(w) > len(g):
			out = append(out, w[0]+" -> none")
			w = w[1:]
		default:
			out = append(out, "none -> "+g[0])
			g = g[1:]
		}
	}
	for _, f := range w {
		out = append(out, f+" -> none")
	}
	for _, f := range g {
		out = append(out, "none -> "+f)
	}
	return strings.Join(out, ", ")
}

// scanner reads a listing entry by entry.
type scanner struct {
	what    string
	r       *bufio.Reader
	header  string
	entries int
	done    bool
	err     error

	quoted, path, fields string
}

func newScanner(what string, r io.Reader) *scanner {
	s := &scanner{what: what, r: bufio.NewReaderSize(r, 64<<10)}
	s.header = s.line()
	return s
}

func (s *scanner) line() string {
	l, err := s.r.ReadString('\n')
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the last line is known when it comes
	}
	if err != nil {
		s.fail(err)
	}
	return strings.TrimSuffix(l, "\n")
}

func (s *scanner) fail(err error) {
	s.err = fmt.Errorf("treelist: %s, after %d entries: %w", s.what, s.entries, err)
}

// next reads the next entry, or sets done at the last line.
func (s *scanner) next() {
	l := s.line()
	if s.err != nil {
		return
	}
	if strings.HasPrefix(l, "#") {
		s.end(l)
		return
	}
	var err error
	if s.quoted, err = strconv.QuotedPrefix(l); err == nil {
		s.path, err = strconv.Unquote(s.quoted)
	}
	if err != nil {
		s.fail(fmt.Errorf("not an entry: %.80q", l))
		return
	}
	s.fields = strings.TrimPrefix(l[len(s.quoted):], " ")
	s.entries++
}

func (s *scanner) end(line string) {
	s.done = true
	if line != fmt.Sprintf("# %d entries", s.entries) {
		s.fail(fmt.Errorf("it should end there, and says %q", line))
	}
}
