package builder

import (
	"math"
	"slices"

	"github.com/isopress/isopress/internal/codec"
	"github.com/isopress/isopress/squashfs"
)

// How totals are estimated. What a codec makes of its blocks is divided by what something else makes of the same
// blocks, whose total is better known: the control, or a codec with more draws that it differs less from,
// as the slow ones do from each other. Errors are those of the mean of what is left of the differences,
// by those between neighbours, since the draws are spaced evenly; and that of the other total. A slow
// codec is not measured at all at the middle block size: its ratio to a quick one is taken from between those at the others.

// estimate is what a codec makes of all blocks together.
type estimate struct {
	total         float64 // bytes
	error         float64 // standard error of total
	press, expand float64 // seconds of one processor
}

// estimate works out each codec's totals, apart from those that have no draws.
func (p *population) estimate() {
	order := slices.Clone(p.codecs)
	slices.SortStableFunc(order, func(a, b *candidate) int { return len(b.seen) - len(a.seen) })
	for i, c := range order {
		slices.SortFunc(c.seen, func(a, b observation) int { return a.block - b.block })
		c.press = p.amount(c, func(o observation) float64 { return o.press })
		c.expand = p.amount(c, func(o observation) float64 { return o.expand })
		c.total = p.amount(c, observation.bytes)
		if c.all {
			continue
		}
		_, deviation := p.shareOf(c, observation.bytes)
		c.error = deviation * p.total()
		for _, hub := range order[:i] {
			if total, err := p.byHub(c, hub); err < c.error {
				c.total, c.error = total, err
			}
		}
	}
}

func (o observation) bytes() float64 { return o.size }

// byHub estimates a codec's total from another's.
func (p *population) byHub(c, hub *candidate) (total, err float64) {
	if len(hub.seen) < 2*len(c.seen) {
		return 0, math.Inf(1) // both would be measured with much the same luck
	}
	of := make(map[int]float64, len(hub.seen))
	for _, o := range hub.seen {
		of[o.block] = o.size
	}
	for _, o := range c.seen {
		if of[o.block] == 0 {
			return 0, math.Inf(1)
		}
	}
	mean, _ := p.shareOf(c, observation.bytes)
	hubMean, _ := p.shareOf(c, func(o observation) float64 { return of[o.block] })
	ratio := mean / hubMean
	_, left := p.shareOf(c, func(o observation) float64 { return o.size - ratio*of[o.block] })
	return ratio * hub.total, math.Hypot(left*p.total(), ratio*hub.error)
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
		deviation = math.Sqrt(deviation / (n - 1) / n)
	}
	return mean, deviation
}

// amount is what f comes to for all blocks.
func (p *population) amount(c *candidate, f func(observation) float64) (sum float64) {
	if !c.all {
		share, _ := p.shareOf(c, f)
		return share * p.total()
	}
	for _, o := range c.seen {
		sum += f(o)
	}
	return sum
}

// Ratios to the anchor of an order, a quick codec that is measured at all block sizes, change little and evenly with the
// logarithm of the block size: betweenError is how far off that is, as a share.
var anchors = map[squashfs.Order]string{squashfs.OrderSimilar: "zstd:3", squashfs.OrderDirectory: "lz4"}

const betweenError = 0.007

// likeSmall is a level at which libzstd searches blocks of up to 256 KiB in a better way than larger ones
// (ZSTD_defaultCParameters): there the ratio is that of the smaller blocks.
const likeSmall = "zstd:15"

// between estimates the codecs of p that have no draws, from populations of a larger and a smaller block size.
func (p *population) between(large, small *population) {
	at := math.Log2(float64(p.size)/float64(small.size)) / math.Log2(float64(large.size)/float64(small.size))
	anchor, l, s := p.anchor(), large.anchor(), small.anchor()
	for i, c := range p.codecs {
		if len(c.seen) > 0 || len(p.blocks) == 0 {
			continue
		}
		cl, cs, at := large.codecs[i], small.codecs[i], at
		if c.name == likeSmall {
			at = 0
		}
		ratio := func(f func(*candidate) float64) float64 {
			return f(anchor) * math.Pow(f(cl)/f(l), at) * math.Pow(f(cs)/f(s), 1-at)
		}
		c.total = ratio(func(c *candidate) float64 { return c.total })
		c.press = ratio(func(c *candidate) float64 { return c.press })
		c.expand = ratio(func(c *candidate) float64 { return c.expand })
		c.error = c.total * math.Hypot(betweenError, math.Hypot(at*cl.error/cl.total, (1-at)*cs.error/cs.total))
	}
}

func (p *population) anchor() *candidate {
	for _, c := range p.codecs {
		if c.name == anchors[p.order] {
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
	return max(p.tables-listBound*n, 0)*ratio + listEntry*n
}

// predict is what the estimates say of a codec.
func (p *population) predict(c *candidate, workers int) Choice {
	tables := p.beside(c)
	choice := Choice{
		Compression: c.name, BlockSize: p.size, Order: p.order.String(),
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
