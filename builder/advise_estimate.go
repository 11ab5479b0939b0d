package builder

import (
	"math"
	"slices"

	"github.com/isopress/isopress/internal/codec"
)

// How totals are estimated. What a codec makes of its blocks is divided by what something else makes of the same
// blocks, whose total is better known: the control, or a codec with more draws that it differs less from,
// as the slow ones do from each other. Of large blocks, the total is that of the smallest ones, and what is estimated is how much they
// gain. Errors are those of the mean of what is left of the differences, by those between neighbours, since the draws are
// spaced evenly; and that of the other totals.

// estimate is what a codec makes of all blocks together.
type estimate struct {
	total         float64 // bytes
	error         float64 // standard error of total
	press, expand float64 // seconds of one processor
}

// estimate works out each codec's totals, by those of small, a population of the smallest blocks, where it is not nil.
func (p *population) estimate(small *population) {
	order := slices.Clone(p.codecs)
	slices.SortStableFunc(order, func(a, b *candidate) int { return len(b.seen) - len(a.seen) })
	for i, c := range order {
		if len(c.seen) == 0 {
			continue // a proxy, or there are no blocks
		}
		slices.SortFunc(c.seen, func(a, b observation) int { return a.block - b.block })
		c.press = p.amount(c, func(o observation) float64 { return o.press })
		c.expand = p.expanding(c)
		c.total = p.amount(c, observation.bytes)
		if c.all {
			continue
		}
		_, deviation := p.shareOf(c, observation.bytes)
		c.error = deviation * p.total()
		p.bySmall(c, small)
		for _, hub := range order[:i] {
			p.byHub(c, hub)
		}
	}
}

func (o observation) bytes() float64 { return o.size }

// expanding is the seconds that all blocks take to expand, by those that were.
func (p *population) expanding(c *candidate) float64 {
	var timed candidate
	var raw, seconds float64
	for _, o := range c.seen {
		if o.expand > 0 {
			timed.seen = append(timed.seen, o)
			raw += o.raw
			seconds += o.expand
		}
	}
	if c.all && raw > 0 {
		return seconds / raw * p.raw
	}
	return p.amount(&timed, func(o observation) float64 { return o.expand })
}

// byHub estimates a codec's totals from another's, where that is better.
func (p *population) byHub(c, hub *candidate) {
	if len(hub.seen) < 2*len(c.seen) {
		return // both would be measured with much the same luck
	}
	of := make(map[int]observation, len(hub.seen))
	for _, o := range hub.seen {
		of[o.block] = o
	}
	for _, o := range c.seen {
		if of[o.block].size == 0 {
			return
		}
	}
	ratio := func(f func(observation) float64) float64 {
		return p.meanShare(c, f) / p.meanShare(c, func(o observation) float64 { return f(of[o.block]) })
	}
	r := ratio(observation.bytes)
	_, left := p.shareOf(c, func(o observation) float64 { return o.size - r*of[o.block].size })
	if err := math.Hypot(left*p.total(), r*hub.error); err < c.error {
		c.total, c.error = r*hub.total, err
		c.press = hub.press * ratio(func(o observation) float64 { return o.press })
		if !hub.proxy {
			c.expand = hub.expand * ratio(func(o observation) float64 { return o.expand })
		}
	}
}

// meanShare is what shareOf gives, without the error.
func (p *population) meanShare(c *candidate, f func(observation) float64) float64 {
	mean, _ := p.shareOf(c, f)
	return mean
}

// shareOf is the mean of what f gives divided by the control's size, and its standard error.
func (p *population) shareOf(c *candidate, f func(observation) float64) (mean, deviation float64) {
	n := float64(len(c.seen))
	last := 0.0
	for i, o := range c.seen {
		v := f(o) / p.control[o.block]
		mean += v / n
		if i > 0 {
			deviation += (v - last) * (v - last) / 2
		}
		last = v
	}
	if n > 1 {
		deviation = math.Sqrt(deviation/(n-1)/n) * (1 + 2/n) // that of few is in doubt itself: about Student's t
	}
	return mean, deviation
}

// amount is what f comes to for all blocks.
func (p *population) amount(c *candidate, f func(observation) float64) (sum float64) {
	if !c.all {
		return p.meanShare(c, f) * p.total()
	}
	for _, o := range c.seen {
		sum += f(o)
	}
	return sum
}

// planError is how far apart, as a share, the smallest blocks and pieces of as many bytes of larger ones are: they begin
// elsewhere, and hold other small files.
const planError = 0.003

// bySmall estimates a codec's totals from those of the smallest blocks: times what it made of the blocks that it compressed whole and in
// pieces, the one divided by the other. What is large and repeats itself gains most, with all codecs: so the gain in size is compared with
// the guide's, for which it is known of all blocks, and differs far less from block to block.
func (p *population) bySmall(c *candidate, small *population) {
	var of candidate // what was measured in pieces
	for _, o := range c.seen {
		if o.pieces.size > 0 {
			of.seen = append(of.seen, o)
		}
	}
	if small == nil || len(of.seen) < 2 {
		return
	}
	was := small.codec(c.name)
	expected := func(o observation) float64 { return o.pieces.size }
	known, errors := was.total, []float64{was.error / was.total, planError}
	if guide := p.codec(c.guide); guide != nil {
		guided := small.codec(c.guide)
		gain := guide.gains()
		for _, o := range of.seen {
			if gain[o.block] == 0 {
				return
			}
		}
		expected = func(o observation) float64 { return o.pieces.size * gain[o.block] }
		known *= guide.total / guided.total
		errors = append(errors[:1], guide.error/guide.total, guided.error/guided.total)
	}
	mean := p.meanShare(&of, observation.bytes)
	ratio := mean / p.meanShare(&of, expected)
	_, left := p.shareOf(&of, func(o observation) float64 { return o.size - ratio*expected(o) })
	total, err := ratio*known, (left/mean)*(left/mean)
	for _, e := range errors {
		err += e * e
	}
	if err = total * math.Sqrt(err); err < c.error {
		c.total, c.error = total, err
		c.press = was.press * p.change(&of, func(m measure) float64 { return m.press })
		c.expand = was.expand * p.change(&of, func(m measure) float64 { return m.expand })
	}
}

// gains are a codec's sizes of whole blocks divided by those of their pieces, by block.
func (c *candidate) gains() map[int]float64 {
	gain := map[int]float64{}
	for _, o := range c.seen {
		if o.pieces.size > 0 {
			gain[o.block] = o.size / o.pieces.size
		}
	}
	return gain
}

// change is what f gives of whole blocks, divided by what it gives of their pieces.
func (p *population) change(c *candidate, f func(measure) float64) float64 {
	whole := p.meanShare(c, func(o observation) float64 { return f(o.measure) })
	return whole / p.meanShare(c, func(o observation) float64 { return f(o.pieces) })
}

// codec is the candidate of a name, or nil.
func (p *population) codec(name string) *candidate {
	for _, c := range p.codecs {
		if c.name == name {
			return c
		}
	}
	return nil
}

// What is beside the blocks: the tables are this share of their bound, and a block takes so many bytes in the list of blocks and there
// (of a closure of 1.3 GB 0.12, of 110 MB 0.19; with lz4 half as much again).
const (
	tablesRatio    = 0.15
	tablesRatioLZ4 = 0.25
	listBound      = 40 // bytes a block, in squashfs.Plan.MaxSize
	listEntry      = 27
)

// beside estimates the bytes that are in no block.
func (p *population) beside(c *candidate) float64 {
	n := float64(p.count)
	ratio := tablesRatio
	if c.spec.Algorithm == codec.LZ4 {
		ratio = tablesRatioLZ4
	}
	return max(p.tables-listBound*n, 0)*ratio + listEntry*n + p.uncompressed
}

// predict is what the estimates say of a codec.
func (p *population) predict(c *candidate, workers int) Choice {
	tables := p.beside(c)
	choice := Choice{
		Compression: c.title, BlockSize: p.size, Order: p.order.String(),
		Size:         int64(c.total + tables),
		BuildSeconds: c.press / float64(workers), // and what reading the source takes
		ExpandRate:   kernelRate(p, c),
		Sampled:      c.sampled(),
	}
	if c.total > 0 {
		choice.SizeError = c.error / (c.total + tables)
	}
	return choice
}

// sampled is how many bytes of content were measured.
func (c *candidate) sampled() (bytes int64) {
	last := -1
	for _, o := range c.seen {
		if o.block != last {
			bytes += int64(o.raw)
		}
		last = o.block
	}
	return bytes
}
