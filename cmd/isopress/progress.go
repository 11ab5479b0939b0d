package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/bytesize"
)

// progress draws one line on a terminal, and nothing elsewhere. Warnings come
// through either way.
type progress struct {
	a     *app
	live  bool
	quiet bool

	mu    sync.Mutex
	width int       // of the line that is drawn
	drawn time.Time // last time
	phase string
	begin time.Time // of the phase
}

// redraw is how often the line changes.
const redraw = 100 * time.Millisecond

func (a *app) newProgress(quiet bool) *progress {
	p := &progress{a: a, quiet: quiet}
	if f, ok := a.stderr.(*os.File); ok {
		p.live = !quiet && term.IsTerminal(int(f.Fd()))
	}
	return p
}

func (p *progress) update(s builder.Progress) {
	if !p.live {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if s.Phase != p.phase {
		p.phase, p.begin = s.Phase, now
	} else if now.Sub(p.drawn) < redraw {
		return
	}
	p.drawn = now
	line := progressText(s, now.Sub(p.begin))
	if width, _, err := term.GetSize(int(p.a.stderr.(*os.File).Fd())); err == nil && width > 0 {
		line = line[:min(len(line), width-1)] // a line that wraps cannot be redrawn
	}
	p.draw(line)
}

// draw replaces the line.
func (p *progress) draw(line string) {
	fmt.Fprintf(p.a.stderr, "\r%s%s", line, strings.Repeat(" ", max(p.width-len(line), 0)))
	p.width = len(line)
}

// end takes the line away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live && p.width > 0 {
		p.draw("")
		fmt.Fprint(p.a.stderr, "\r")
	}
}

func (p *progress) warn(msg string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live && p.width > 0 {
		p.draw("")
		fmt.Fprint(p.a.stderr, "\r")
	}
	fmt.Fprintf(p.a.stderr, "isopress: warning: %s\n", msg)
}

// progressText is one line: what is done, how much of it, what came of it and
// how long it will still take.
func progressText(s builder.Progress, elapsed time.Duration) string {
	if s.Phase == "scan" {
		return fmt.Sprintf("scan   %d files", s.Done)
	}
	if s.Phase == "spool" && s.Total == 0 {
		return "spool  " + bytesize.Text(s.Done)
	}
	percent := 100.0
	if s.Total > 0 {
		percent = 100 * float64(s.Done) / float64(s.Total)
	}
	line := fmt.Sprintf("%-6s %3.0f %%  %s of %s", s.Phase, percent, bytesize.Text(s.Done), bytesize.Text(s.Total))
	if s.Phase == "press" && s.Done > 0 {
		line += fmt.Sprintf(", ratio %.3f", float64(s.Written)/float64(s.Done))
	}
	if left, ok := timeLeft(s, elapsed); ok {
		line += fmt.Sprintf(", %s left", left)
	}
	return line
}

// timeLeft is not told in the first moments, when it would only jump about.
func timeLeft(s builder.Progress, elapsed time.Duration) (time.Duration, bool) {
	const settle = 2 * time.Second
	if s.Done == 0 || s.Total == 0 || elapsed < settle {
		return 0, false
	}
	left := float64(elapsed) * float64(s.Total-s.Done) / float64(s.Done)
	return time.Duration(left).Round(time.Second), true
}

// summary says in one line what was written.
func (p *progress) summary(r *builder.Result) {
	fmt.Fprintf(p.a.stderr, "%s: %s", r.Output, bytesize.Text(r.Size))
	for _, f := range r.Files {
		s := f.Squashfs
		if s == nil {
			continue
		}
		if len(r.Files) > 1 {
			fmt.Fprintf(p.a.stderr, ", of which %s takes %s", f.Path, bytesize.Text(s.Size))
		}
		fmt.Fprintf(p.a.stderr, " for %s in %s", bytesize.Text(s.Bytes), counted(s.Files, "file"))
		if n := len(r.StorePaths); n > 0 {
			fmt.Fprintf(p.a.stderr, " of %s", counted(n, "store path"))
		}
		if s.Bytes > 0 {
			fmt.Fprintf(p.a.stderr, ", ratio %.3f", float64(s.Size)/float64(s.Bytes))
		}
		if s.DuplicateFiles > 0 {
			fmt.Fprintf(p.a.stderr, ", %s in %s were duplicates", bytesize.Text(s.DuplicateBytes), counted(s.DuplicateFiles, "file"))
		}
	}
	fmt.Fprintln(p.a.stderr)
}

// counted is a number of things for people.
func counted[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
