package qemu

import (
	"bytes"
	"regexp"
)

const (
	maxLine = 16 << 10 // bytes of a line that are kept for matching
	maxTail = 8 << 10  // bytes of finished lines that are kept for error messages
)

// The last words that end a run: the kernel's, and those of isopress's own loaders and initrd, which wait for ever.
var (
	panicMark = []byte("Kernel panic - not syncing")
	stopMark  = []byte("isopress: THE BOOT STOPS HERE")
)

// console cuts the serial stream into lines of plain text and looks for what ends a run. Its memory
// is bounded: an overlong line is looked at in overlapping halves.
type console struct {
	expect *regexp.Regexp
	strip  stripper
	line   []byte
	tail   []byte

	matchLine, match string
	matched          bool
	failLine         string // with a last word
	fail             error  // ErrPanic or ErrStopped
}

// write takes more of the stream. It reports whether there is a reason to end the run: a match, with
// which it takes no more, or a last word, of which the rest may follow.
func (c *console) write(p []byte) bool {
	for _, b := range p {
		b, ok := c.strip.next(b)
		switch {
		case !ok:
		case b == '\n':
			c.endLine()
		default:
			c.line = append(c.line, b)
			if len(c.line) >= maxLine {
				c.look()
				c.line = append(c.line[:0], c.line[maxLine/2:]...)
			}
		}
		if c.matched {
			break
		}
	}
	return c.done()
}

func (c *console) done() bool { return c.matched || c.fail != nil }

// endLine looks at the finished line and remembers it. A serial console ends lines with "\r\n" or
// even "\r\r\n"; the carriage return alone redraws a line, and counts as an end, too.
func (c *console) endLine() {
	if len(c.line) == 0 {
		return
	}
	c.look()
	c.remember()
	c.line = c.line[:0]
}

// look tries the current line, finished or not. What is expected comes before a panic, so that a
// panic can be what is expected.
func (c *console) look() bool {
	if c.expect != nil && len(c.line) > 0 {
		if m := c.expect.FindIndex(c.line); m != nil {
			c.matched = true
			c.matchLine, c.match = string(c.line), string(c.line[m[0]:m[1]])
			return true
		}
	}
	switch {
	case bytes.Contains(c.line, panicMark):
		c.failLine, c.fail = string(c.line), ErrPanic
	case bytes.HasPrefix(c.line, stopMark):
		c.failLine, c.fail = string(c.line), ErrStopped
	}
	return c.done()
}

func (c *console) remember() {
	c.tail = append(append(c.tail, c.line...), '\n')
	if len(c.tail) > 2*maxTail {
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-maxTail:]...)
	}
}

// text is the end of what the console said.
func (c *console) text() string {
	all := append(bytes.Clone(c.tail), c.line...)
	if len(all) > maxTail {
		all = all[len(all)-maxTail:]
		if i := bytes.IndexByte(all, '\n'); i >= 0 {
			all = all[i+1:]
		}
	}
	return string(all)
}

// stripper removes ECMA-48 escape sequences and control characters, a byte at a time.
type stripper struct{ state stripState }

type stripState int

const (
	plain   stripState = iota
	escaped            // after ESC
	csi                // in ESC [ parameters, till a byte of 0x40-0x7e
	osc                // in ESC ] and the other strings, till BEL or ESC \
	oscEsc             // after an ESC in one
	charset            // one more byte follows, as in ESC ( B
)

// next returns the byte to keep, if it is one: text, a tab, or '\n' for a line's end.
func (s *stripper) next(b byte) (byte, bool) {
	if s.state == plain {
		return s.inText(b)
	}
	s.inEscape(b)
	return 0, false
}

func (s *stripper) inText(b byte) (byte, bool) {
	switch {
	case b == 0x1b:
		s.state = escaped
		return 0, false
	case b == '\r' || b == '\n':
		return '\n', true
	}
	return b, b >= ' ' && b != 0x7f || b == '\t'
}

func (s *stripper) inEscape(b byte) {
	switch s.state {
	case escaped:
		s.state = afterEscape(b)
	case csi:
		if b >= 0x40 && b <= 0x7e {
			s.state = plain
		}
	case osc:
		if b == 0x07 || b == '\n' { // a line's end in a string is a stray ESC's doing
			s.state = plain
		} else if b == 0x1b {
			s.state = oscEsc
		}
	case oscEsc, charset:
		s.state = plain
	}
}

func afterEscape(b byte) stripState {
	switch b {
	case '[':
		return csi
	case ']', 'P', 'X', '^', '_':
		return osc
	case '(', ')', '*', '+', '#', '%', ' ':
		return charset
	case 0x1b:
		return escaped
	}
	return plain
}
