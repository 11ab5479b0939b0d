package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// excluder leaves files out by patterns, and notes which of them found one.
type excluder []*excludePattern

type excludePattern struct {
	text     string // as it was given
	glob     string // as doublestar reads it
	anchored bool   // matched against the path from the root, else against the name
	dirOnly  bool
	found    bool
	dirs     bool // a directory among what was found: nothing in it is looked at
}

// newExcluder reads patterns; see [Options.Exclude].
func newExcluder(patterns []string) (excluder, error) {
	var x excluder
	for _, text := range patterns {
		p, err := newExcludePattern(text)
		if err != nil {
			return nil, OptionError{fmt.Errorf("exclude %q: %w", text, err)}
		}
		x = append(x, p)
	}
	return x, nil
}

func newExcludePattern(text string) (*excludePattern, error) {
	p := &excludePattern{text: text}
	glob, dirOnly := strings.CutSuffix(text, "/")
	p.dirOnly = dirOnly
	p.anchored = strings.Contains(glob, "/")
	glob = strings.TrimPrefix(strings.TrimPrefix(glob, "./"), "/")
	switch {
	case glob == "" || glob == ".":
		return nil, errors.New("a pattern for the root itself, or for nothing")
	case strings.HasPrefix(glob, "!"):
		return nil, errors.New(`patterns only leave out: there is none that takes back; a name that begins with ! is \!`)
	case hasIdleName(glob):
		return nil, errors.New("a name in it is empty, . or .., and no path from the root has such: it would match nothing")
	case !doublestar.ValidatePattern(glob):
		return nil, errors.New("not a pattern: a bracket is open, or a backslash ends it")
	}
	// What is below a directory is not the directory.
	if rest, ok := strings.CutSuffix(glob, "/**"); ok {
		glob = rest + "/**/*"
	}
	p.glob = glob
	return p, nil
}

// hasIdleName tells whether a part of a path is one that no file has.
func hasIdleName(glob string) bool {
	for name := range strings.SplitSeq(glob, "/") {
		if name == "" || name == "." || name == ".." {
			return true
		}
	}
	return false
}

// exclude reports whether a file is left out. Each pattern is tried, so that all
// that match one are known to.
func (x excluder) exclude(name string, d fs.DirEntry) bool {
	out := false
	for _, p := range x {
		if p.matches(name, d) {
			p.found, out = true, true
			p.dirs = p.dirs || d.IsDir()
		}
	}
	return out
}

func (p *excludePattern) matches(name string, d fs.DirEntry) bool {
	if p.dirOnly && !d.IsDir() {
		return false
	}
	if !p.anchored {
		name = path.Base(name)
	}
	return doublestar.MatchUnvalidated(p.glob, name)
}

// warnings are about the patterns that found nothing.
func (x excluder) warnings() []string {
	dirs := slices.ContainsFunc(x, func(p *excludePattern) bool { return p.dirs })
	var texts []string
	for _, p := range x {
		if p.found {
			continue
		}
		text := p.text + ": nothing matches"
		if dirs {
			text += " outside the directories that other patterns leave out"
		}
		if p.anchored {
			text += "; a pattern with a slash is a path from the root of what is pressed, **/ at its start means any depth"
		}
		texts = append(texts, text)
	}
	return texts
}
