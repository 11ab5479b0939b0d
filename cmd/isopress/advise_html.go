package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/bytesize"
)

//go:embed advise.html
var adviceHTML string

// The plot's size and margins, in pixels.
const (
	plotWidth, plotHeight = 860, 460
	plotLeft, plotBottom  = 70, 50
	plotMargin            = 30
)

// advicePage is what the template shows.
type advicePage struct {
	*builder.Advice
	Rows           []plotPoint // of the table
	Points         []plotPoint // the same, what matters most last: over the others
	Line           string      // through the Pareto-optimal ones
	XTicks, YTicks []plotTick
	Width, Height  int
	Left, Bottom   int
	Right, Top     int
}

type plotPoint struct {
	builder.Choice
	X, Y, Radius   float64
	Label, Tooltip string
	Labelled       bool
	Advised        bool
	Left           bool // the label, of the point
}

// weight is greater of what is drawn later.
func (p plotPoint) weight() int {
	switch {
	case p.Advised:
		return 2
	case p.Pareto:
		return 1
	}
	return 0
}

type plotTick struct {
	At   float64
	Text string
}

// writeAdviceHTML writes a page that needs nothing else: no script, no other file.
func writeAdviceHTML(name string, a *builder.Advice) error {
	t, err := template.New("advice").Funcs(template.FuncMap{
		"bytes": bytesize.Text, "seconds": secondsText,
		"percent": func(f float64) string { return fmt.Sprintf("%.1f %%", 200*f) },
		"rate":    func(f float64) string { return fmt.Sprintf("%.0f MB/s", f/1e6) },
	}).Parse(adviceHTML)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return ofOption("--html", name, err)
	}
	defer os.Remove(f.Name()) // fails once it has its name
	err = t.Execute(f, plot(a))
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	return ofOption("--html", name, err)
}

// plot lays out the points: the size to the right, the time upward.
func plot(a *builder.Advice) *advicePage {
	p := &advicePage{Advice: a, Width: plotWidth, Height: plotHeight, Left: plotLeft, Bottom: plotHeight - plotBottom,
		Right: plotWidth - plotMargin, Top: plotMargin}
	sizes, times := newScale(), newScale()
	for _, c := range a.Choices {
		sizes.add(float64(c.Size) / (1 << 20))
		times.add(c.ReadSeconds)
	}
	sizes.round()
	times.round()
	x := func(v float64) float64 { return float64(p.Left) + sizes.at(v)*float64(p.Right-p.Left) }
	y := func(v float64) float64 { return float64(p.Bottom) - times.at(v)*float64(p.Bottom-p.Top) }
	advised := a.Advised()
	for _, c := range a.Choices {
		label := fmt.Sprintf("%s %s", c.Compression, c.BlockSizeFlag())
		point := plotPoint{Choice: c, X: x(float64(c.Size) / (1 << 20)), Y: y(c.ReadSeconds), Label: label, Radius: 3,
			Tooltip: fmt.Sprintf("%s: %s, read in %s, built in %s", label, bytesize.Text(c.Size), secondsText(c.ReadSeconds), secondsText(c.BuildSeconds))}
		point.Advised = c == advised
		point.Left = point.X > float64(p.Right-labelWidth)
		if c.Pareto || point.Advised {
			point.Radius = 5
		}
		if c.Pareto {
			p.Line += fmt.Sprintf("%.1f,%.1f ", point.X, point.Y) // they come sorted by size
		}
		p.Rows = append(p.Rows, point)
	}
	p.label()
	p.Points = slices.Clone(p.Rows)
	slices.SortStableFunc(p.Points, func(a, b plotPoint) int { return cmp.Compare(a.weight(), b.weight()) })
	for _, v := range sizes.ticks() {
		p.XTicks = append(p.XTicks, plotTick{x(v), fmt.Sprintf("%.6g MiB", v)})
	}
	for _, v := range times.ticks() {
		p.YTicks = append(p.YTicks, plotTick{y(v), fmt.Sprintf("%.6g s", v)})
	}
	return p
}

// How much room a label takes, in pixels.
const labelWidth, labelHeight = 90, 13

// label chooses the points that are labelled: the one that is advised, and the Pareto-optimal ones whose labels
// lie over no other. The table has them all, and so has each point's title.
func (p *advicePage) label() {
	var taken []*plotPoint
	try := func(q *plotPoint) {
		for _, t := range taken {
			if math.Abs(t.X-q.X) < labelWidth && math.Abs(t.Y-q.Y) < labelHeight {
				return
			}
		}
		q.Labelled = true
		taken = append(taken, q)
	}
	for _, advised := range []bool{true, false} {
		for i := range p.Rows {
			if q := &p.Rows[i]; (q.Pareto || advised) && q.Advised == advised {
				try(q)
			}
		}
	}
}

// scale is an axis with round numbers at its ends.
type scale struct{ low, high, step float64 }

func newScale() *scale { return &scale{low: math.Inf(1), high: math.Inf(-1)} }

func (s *scale) add(v float64) { s.low, s.high = min(s.low, v), max(s.high, v) }

// round widens the axis to multiples of a step of 1, 2 or 5 times a power of ten.
func (s *scale) round() {
	span := s.high - s.low
	if !(span > 0) {
		span = max(math.Abs(s.high), 1)
	}
	s.step = math.Pow(10, math.Floor(math.Log10(span/4)))
	for _, m := range []float64{5, 2} {
		if s.step*m <= span/4 {
			s.step *= m
			break
		}
	}
	s.low = math.Floor(s.low/s.step) * s.step
	s.high = math.Ceil(s.high/s.step) * s.step
	if s.high == s.low {
		s.high += s.step
	}
}

func (s *scale) at(v float64) float64 { return (v - s.low) / (s.high - s.low) }

func (s *scale) ticks() []float64 {
	var list []float64
	for i := range int(math.Round((s.high-s.low)/s.step)) + 1 {
		v := s.low + float64(i)*s.step
		list = append(list, math.Round(v/s.step*1e6)/1e6*s.step)
	}
	return list
}
