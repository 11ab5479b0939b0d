package builder

import (
	"context"
	"math"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isopress/isopress/internal/codec"
	"github.com/isopress/isopress/squashfs"
)

// How sizes are predicted. All blocks of the plan are compressed by a quick codec, the control. Blocks are drawn with
// probabilities in proportion to the control's sizes, evenly spread over the image, so that
// a large file's blocks, which are alike, are in the sample as often as in the image; and
// the mean of a codec's sizes divided by the control's is what the control's total is multiplied by. A codec that
// is compared on few blocks is compared with one that has many (the hub) where that varies less.

// population is the blocks of one plan.
type population struct {
	size    int // of blocks
	order   squashfs.Order
	plan    *squashfs.Plan
	prepare time.Duration
	blocks  []squashfs.Block
	codecs  []*candidate

	control []float64 // each block's size, compressed by the control
	total   float64
	raw     float64
	draws   []int // the sample: indexes into blocks
}

// candidate is a compression with what was measured of it.
type candidate struct {
	name string
	spec codec.Spec
	mib  int

	target int // of samples
	seen   []observation
	share  float64 // of the control's total; once estimated
}

// observation is one block, pressed and expanded again. All are divided by the control's size, by which the
// block was drawn.
type observation struct {
	draw          int // index into population.draws
	size          float64
	press, expand float64 // seconds
	raw           float64
}

// controls by order: those of the quick compressions that this order is for, and for the large
// blocks one that is nearer to the slow ones.
func (p *population) controlSpec() string {
	switch {
	case p.order == squashfs.OrderDirectory:
		return "lz4"
	case p.size == squashfs.MaxBlockSize:
		return "zstd:3"
	}
	return "zstd:1"
}

// sample measures all codecs of several populations, until the deadline or until there is enough.
func (a *adviser) sample(ctx context.Context, all []*population, share float64, deadline time.Time) error {
	type draw struct {
		p    *population
		k    int
		when float64 // how far p is then
	}
	var tasks []draw
	for _, p := range all {
		if err := a.measureControl(ctx, p); err != nil {
			return err
		}
		for k := range p.drawSample(share) {
			tasks = append(tasks, draw{p, k, float64(k) / float64(len(p.draws))})
		}
	}
	sort.SliceStable(tasks, func(i, j int) bool { return tasks[i].when < tasks[j].when })
	results := make([][]observation, len(tasks)) // by task and codec
	err := a.parallel(ctx, len(tasks), func(w *adviseWorker, i int) error {
		t := tasks[i]
		if t.k >= leastDraws && time.Now().After(deadline) {
			return nil
		}
		var err error
		results[i], err = w.observe(t.p, t.k)
		return err
	})
	if err != nil {
		return err
	}
	for i, r := range results {
		for c, o := range r {
			if o.size > 0 {
				tasks[i].p.codecs[c].seen = append(tasks[i].p.codecs[c].seen, o)
			}
		}
	}
	for _, p := range all {
		p.estimate()
	}
	return nil
}

// leastDraws is how many blocks each codec gets, whatever the time.
const leastDraws = 8

// parallel calls f for 0 to n-1, in their order, each worker with its own engines.
func (a *adviser) parallel(ctx context.Context, n int, f func(w *adviseWorker, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	g.Go(func() error {
		defer close(next)
		for i := range n {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range a.advice.Workers {
		g.Go(func() error {
			w := &adviseWorker{engines: map[engineKey]codec.Block{}, decoders: map[codec.Algorithm]codec.Decoder{}}
			defer w.close()
			for i := range next {
				if err := f(w, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// measureControl compresses all blocks with the control.
func (a *adviser) measureControl(ctx context.Context, p *population) error {
	spec, err := codec.Parse(p.controlSpec())
	if err != nil {
		return err
	}
	p.control = make([]float64, len(p.blocks))
	err = a.parallel(ctx, len(p.blocks), func(w *adviseWorker, i int) error {
		o, err := w.press(p, p.blocks[i], spec)
		p.control[i] = o.size
		return err
	})
	for i, b := range p.blocks {
		p.total += p.control[i]
		p.raw += float64(b.Size())
	}
	return err
}

// drawSample draws blocks such that any first of them are spread evenly over the control's bytes: by
// van der Corput's sequence.
func (p *population) drawSample(share float64) []int {
	most := 0
	mean := p.raw / max(float64(len(p.blocks)), 1)
	for _, c := range p.codecs {
		c.target = min(int(math.Ceil(float64(c.mib)*share*(1<<20)/mean)), maxDraws)
		if most < c.target {
			most = c.target
		}
	}
	if len(p.blocks) == 0 {
		return nil
	}
	ends := make([]float64, len(p.blocks))
	sum := 0.0
	for i, c := range p.control {
		sum += c
		ends[i] = sum
	}
	for k := range most {
		i := sort.SearchFloat64s(ends, vanDerCorput(uint32(k))*sum)
		p.draws = append(p.draws, min(i, len(ends)-1))
	}
	return p.draws
}

// maxDraws bounds the sample where blocks are small.
const maxDraws = 4096

// vanDerCorput is the k-th number of a sequence that fills 0 to 1 evenly, at any length.
func vanDerCorput(k uint32) float64 {
	x, f := 0.0, 0.5
	for k++; k > 0; k >>= 1 {
		x += f * float64(k&1)
		f /= 2
	}
	return x
}

// adviseWorker has engines of its own.
type adviseWorker struct {
	engines  map[engineKey]codec.Block
	decoders map[codec.Algorithm]codec.Decoder
	raw, out []byte
	back     []byte
	comp     []byte
}

type engineKey struct {
	spec codec.Spec
	size int
}

func (w *adviseWorker) close() {
	for _, b := range w.engines {
		b.Close()
	}
}

func (w *adviseWorker) engine(spec codec.Spec, size int) (codec.Block, error) {
	key := engineKey{spec, size}
	if b := w.engines[key]; b != nil {
		return b, nil
	}
	b, err := codec.NewBlock(spec, size)
	if err == nil {
		w.engines[key] = b
	}
	return b, err
}

// press reads a block and compresses it.
func (w *adviseWorker) press(p *population, b squashfs.Block, spec codec.Spec) (observation, error) {
	var err error
	if w.raw, err = p.plan.ReadBlock(b, w.raw); err != nil {
		return observation{}, err
	}
	return w.pressRead(p, spec)
}

// pressRead compresses what was read.
func (w *adviseWorker) pressRead(p *population, spec codec.Spec) (observation, error) {
	o := observation{raw: float64(len(w.raw))}
	engine, err := w.engine(spec, p.size)
	if err != nil {
		return o, err
	}
	if w.comp == nil {
		w.comp = make([]byte, 0, codec.Bound(squashfs.MaxBlockSize))
	}
	begin := time.Now()
	w.out, err = engine.Compress(w.comp, w.raw)
	o.press = time.Since(begin).Seconds()
	o.size = float64(len(w.out))
	if w.out == nil {
		o.size = o.raw
	}
	return o, err
}

// observe measures a block with all codecs that want it.
func (w *adviseWorker) observe(p *population, k int) ([]observation, error) {
	i := p.draws[k]
	var err error
	if w.raw, err = p.plan.ReadBlock(p.blocks[i], w.raw); err != nil {
		return nil, err
	}
	list := make([]observation, len(p.codecs))
	for c, candidate := range p.codecs {
		if k >= max(candidate.target, leastDraws) {
			continue
		}
		o, err := w.pressRead(p, candidate.spec)
		if err == nil {
			err = w.expand(candidate.spec.Algorithm, &o)
		}
		if err != nil {
			return nil, err
		}
		n := p.control[i]
		list[c] = observation{k, o.size / n, o.press / n, o.expand / n, o.raw / n}
	}
	return list, nil
}

// expandings is how often a block is expanded; the quickest counts.
const expandings = 3

// expand measures how long the block that was pressed last takes to expand.
func (w *adviseWorker) expand(a codec.Algorithm, o *observation) error {
	if w.back == nil {
		w.back = make([]byte, squashfs.MaxBlockSize)
	}
	d := w.decoders[a]
	if d == nil {
		var err error
		if d, err = codec.NewDecoder(a); err != nil {
			return err
		}
		w.decoders[a] = d
	}
	o.expand = math.Inf(1)
	for range expandings {
		begin := time.Now()
		if w.out == nil {
			copy(w.back, w.raw)
		} else if _, err := d.Decode(w.back[:len(w.raw)], w.out); err != nil {
			return err
		}
		o.expand = min(o.expand, time.Since(begin).Seconds())
	}
	return nil
}

// estimate works out each codec's share of the control's total.
func (p *population) estimate() {
	for _, c := range p.codecs {
		c.share, _ = p.shareOf(c)
	}
}

// shareOf is the mean size divided by the control's, and its standard error: plainly, or by way of the hub,
// whichever varies less.
func (p *population) shareOf(c *candidate) (share, deviation float64) {
	share, deviation = mean(c.seen, func(o observation) float64 { return o.size })
	hub := p.hub()
	if hub == nil || hub == c || len(hub.seen) <= len(c.seen) || len(c.seen) < leastDraws {
		return share, deviation
	}
	ofHub := make(map[int]float64, len(hub.seen))
	for _, o := range hub.seen {
		ofHub[o.draw] = o.size
	}
	hubHere, _ := mean(c.seen, func(o observation) float64 { return ofHub[o.draw] })
	hubAll, hubDeviation := mean(hub.seen, func(o observation) float64 { return o.size })
	if hubHere == 0 {
		return share, deviation
	}
	ratio := share / hubHere
	_, left := mean(c.seen, func(o observation) float64 { return o.size - ratio*ofHub[o.draw] })
	if by := math.Hypot(left, ratio*hubDeviation); by < deviation {
		return ratio * hubAll, by
	}
	return share, deviation
}

func (p *population) hub() *candidate {
	for _, c := range p.codecs {
		if c.name == hubCodec {
			return c
		}
	}
	return nil
}

// mean of what f gives, with its standard error.
func mean(seen []observation, f func(observation) float64) (m, deviation float64) {
	n := float64(len(seen))
	if n == 0 {
		return 0, 0
	}
	for _, o := range seen {
		m += f(o) / n
	}
	for _, o := range seen {
		d := f(o) - m
		deviation += d * d
	}
	if n > 1 {
		deviation = math.Sqrt(deviation / (n - 1) / n)
	}
	return m, deviation
}

// tablesRatio is what is left of the tables, mostly.
const tablesRatio = 0.35

// predict is what the samples say of a codec.
func (p *population) predict(c *candidate, workers int) Choice {
	share, deviation := p.shareOf(c)
	press, _ := mean(c.seen, func(o observation) float64 { return o.press })
	expand, _ := mean(c.seen, func(o observation) float64 { return o.expand })
	raw, _ := mean(c.seen, func(o observation) float64 { return o.raw })
	data := share * p.total
	tables := float64(p.plan.MaxSize()-p.plan.Stats().PlannedBytes) * tablesRatio
	choice := Choice{
		Compression: c.name, BlockSize: p.size, Order: p.order.String(),
		Size:         int64(data + tables),
		BuildSeconds: p.prepare.Seconds() + press*p.total/float64(workers),
		Sampled:      int64(len(c.seen)) * int64(p.size),
	}
	if data > 0 {
		choice.SizeError = deviation * p.total / (data + tables)
	}
	if expand > 0 {
		choice.ExpandRate = raw / expand * kernelSpeed[c.spec.Algorithm]
	}
	return choice
}
