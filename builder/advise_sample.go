package builder

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isopress/isopress/internal/codec"
	"github.com/isopress/isopress/squashfs"
)

// How sizes are predicted. All blocks of the plan are compressed by a quick codec, the control. Blocks are drawn with
// probabilities in proportion to the control's sizes, evenly spaced over the image in its order, so that
// a large file's blocks, which are alike, are in the sample as often as in the image; and
// the mean of a codec's sizes divided by the control's is what the control's total is multiplied by
// (advise_estimate.go). Where a codec would draw most of the blocks, all are taken, and nothing is estimated.

// controlCodec is the control. One that is nearer to the slow ones takes longer than the draws that it saves.
const controlCodec = "zstd:1"

// population is the blocks of one plan.
type population struct {
	size      int // of blocks
	order     squashfs.Order
	pieceSize int // of the pieces that blocks are also compressed in
	plan      *squashfs.Plan
	blocks    []squashfs.Block
	codecs    []*candidate

	control      []float64 // each block's size, compressed by the control
	ends         []float64 // of the control's blocks, laid end to end
	raw          float64
	count        int     // of blocks
	tables       float64 // bound on the bytes that are in no block
	uncompressed float64 // bytes of files that are no blocks
}

// candidate is a compression with what was measured of it.
type candidate struct {
	advisedCodec
	title string
	spec  codec.Spec
	count int // of the draws that there are to be

	all  bool          // blocks are measured: nothing is estimated
	seen []observation // by place in the image
	estimate
}

// observation is one block, pressed and expanded again: whole, and some also in pieces.
type observation struct {
	block int
	raw   float64
	measure
	pieces measure
}

// measure is what a codec makes of something.
type measure struct {
	size          float64
	press, expand float64 // seconds of one processor; 0 is not measured
}

// task is one draw of one codec.
type task struct {
	*population
	*candidate
	block    int
	when     float64 // how far its codec is then
	must     bool    // even when the time is over
	inPieces bool
	timed    bool // the expanding, too
	same     int  // the task that draws the same block, or -1
}

// leastDraws is how many blocks each codec gets, whatever the time.
const leastDraws = 4

// mostPieces is how many blocks of a codec are compressed in pieces.
const mostPieces = 16

// mostTimed is how many blocks of a codec are expanded, to time it.
const mostTimed = 64

// stretch is how much larger the sample is where the time is given, until it is over.
const stretch = 64

// sample measures all codecs of several populations: their draws, or as many as there is time for.
func (a *adviser) sample(ctx context.Context, all []*population, deadline time.Time) error {
	var tasks []task
	for _, p := range all {
		for _, c := range p.codecs {
			tasks = append(tasks, p.draw(c, !deadline.IsZero())...)
		}
	}
	sort.SliceStable(tasks, func(i, j int) bool { return tasks[i].when < tasks[j].when })
	total := markSame(tasks)
	results := make([]*observation, len(tasks))
	done := progressOf(a, "sample", total)
	err := a.parallel(ctx, len(tasks), func(w *adviseWorker, i int) error {
		t := &tasks[i]
		if t.same >= 0 || !t.must && !deadline.IsZero() && time.Now().After(deadline) {
			return nil
		}
		o, err := w.observe(t)
		results[i] = &o
		done(int64(o.raw))
		return err
	})
	if err == nil {
		collect(tasks, results)
	}
	return err
}

// collect gives each codec its observations, up to the first draw that there was no time for.
func collect(tasks []task, results []*observation) {
	over := map[*candidate]bool{}
	for i, t := range tasks {
		o := results[i]
		if t.same >= 0 {
			o = results[t.same]
		}
		if over[t.candidate] = over[t.candidate] || o == nil; !over[t.candidate] {
			t.seen = append(t.seen, *o)
		}
	}
}

// markSame finds draws of what the same codec has drawn before, and adds up the bytes of the others.
func markSame(tasks []task) (bytes int64) {
	type key struct {
		*candidate
		block int
	}
	first := map[key]int{}
	for i := range tasks {
		t := &tasks[i]
		k := key{t.candidate, t.block}
		var again bool
		if t.same, again = first[k]; !again {
			t.same, first[k] = -1, i
			bytes += int64(t.blocks[t.block].Size())
		}
	}
	return bytes
}

// fewBlocks is up to how many blocks all are measured, however slow the codec.
const fewBlocks = 24

// draw lists the blocks that a codec is to be measured on, in such an order that the first of them, too,
// are spread evenly. The draws of one codec are among those of another that has more.
func (p *population) draw(c *candidate, longer bool) []task {
	n := c.count
	if c.proxy && (n == 0 || len(p.blocks) <= fewBlocks) {
		return nil
	}
	if c.all = len(p.blocks) <= max(n+n/2, fewBlocks); c.all {
		n = len(p.blocks)
	} else if longer {
		n *= stretch
	}
	list := make([]task, n)
	for k := range list {
		t := task{population: p, candidate: c, block: k, when: float64(k) / float64(n), must: c.all || k < leastDraws, same: -1}
		if !c.all {
			t.block = p.at(vanDerCorput(uint32(k)) + 1./3) // never near the ends of an interval, whatever n
			t.inPieces = c.pieces && p.size > p.pieceSize && k < mostPieces
		}
		t.timed = !c.proxy && (c.all && k%(n/mostTimed+1) == 0 || !c.all && k < mostTimed)
		list[k] = t
	}
	return list
}

// at is the block that lies at a share of the control's bytes; from 1 on they begin again.
func (p *population) at(share float64) int {
	_, share = math.Modf(share)
	return min(sort.SearchFloat64s(p.ends, share*p.total()), len(p.ends)-1)
}

// total of the control.
func (p *population) total() float64 {
	if len(p.ends) == 0 {
		return 0
	}
	return p.ends[len(p.ends)-1]
}

// vanDerCorput is the k-th number, from 0, of a sequence that fills 0 to 1 evenly; the first 2^n numbers are the
// multiples of 1/2^n.
func vanDerCorput(k uint32) float64 {
	x, f := 0.0, 0.5
	for ; k > 0; k >>= 1 {
		x += f * float64(k&1)
		f /= 2
	}
	return x
}

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
			runtime.LockOSThread() // threadTime is a thread's
			defer runtime.UnlockOSThread()
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

// survey compresses all blocks with the control, but for those whose content it has compressed before.
func (a *adviser) survey(ctx context.Context, p *population, known map[[32]byte]float64) error {
	spec, err := codec.Parse(controlCodec)
	if err != nil {
		return err
	}
	p.control = make([]float64, len(p.blocks))
	p.ends = make([]float64, len(p.blocks))
	var left []int
	for i, b := range p.blocks {
		p.raw += float64(b.Size())
		if p.control[i] = known[p.plan.Digest(b)]; p.control[i] == 0 {
			left = append(left, i)
		}
	}
	done := progressOf(a, "survey", int64(p.raw))
	err = a.parallel(ctx, len(left), func(w *adviseWorker, k int) error {
		i := left[k]
		if err := w.load(p, i); err != nil {
			return err
		}
		m, err := w.press(spec, p.size, w.raw)
		p.control[i] = m.size
		done(int64(len(w.raw)))
		return err
	})
	sum := 0.0
	for i, b := range p.blocks {
		if d := p.plan.Digest(b); d != [32]byte{} {
			known[d] = p.control[i]
		}
		sum += p.control[i]
		p.ends[i] = sum
	}
	return err
}

// progressOf tells of a phase, as its bytes are done; from several goroutines.
func progressOf(a *adviser, phase string, total int64) func(int64) {
	var done int64
	return func(n int64) {
		a.lock.Lock()
		defer a.lock.Unlock()
		done += n
		a.progress(Progress{Phase: phase, Done: min(done, total), Total: total})
	}
}

// adviseWorker has engines of its own.
type adviseWorker struct {
	engines  map[engineKey]codec.Block
	decoders map[codec.Algorithm]codec.Decoder
	read     *population // whose block raw is
	block    int
	raw, out []byte
	back     []byte
	comp     []byte
}

type engineKey struct {
	codec.Spec
	size int // of blocks
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

// load reads a block, if it is not the one that was read last.
func (w *adviseWorker) load(p *population, block int) (err error) {
	if w.read == p && w.block == block {
		return nil
	}
	w.read, w.block = p, block
	if w.raw, err = p.plan.ReadBlock(p.blocks[block], w.raw); err != nil {
		w.read = nil
	}
	return err
}

// observe measures a draw: how small the block becomes, and how long that and expanding it takes.
func (w *adviseWorker) observe(t *task) (observation, error) {
	if err := w.load(t.population, t.block); err != nil {
		return observation{}, err
	}
	o := observation{block: t.block, raw: float64(len(w.raw))}
	var err error
	if o.measure, err = w.measure(t, t.size, w.raw); err != nil || !t.inPieces {
		return o, err
	}
	for piece := range slices.Chunk(w.raw, t.pieceSize) {
		m, err := w.measure(t, t.pieceSize, piece)
		if err != nil {
			return o, err
		}
		o.pieces.size += m.size
		o.pieces.press += m.press
		o.pieces.expand += m.expand
	}
	return o, nil
}

// measure compresses data as a block of a size, and expands it if that is to be timed.
func (w *adviseWorker) measure(t *task, size int, data []byte) (measure, error) {
	m, err := w.press(t.spec, size, data)
	if err == nil && t.timed {
		m.expand, err = w.expand(t.spec.Algorithm, data)
	}
	return m, err
}

// press compresses data as a block of a size.
func (w *adviseWorker) press(spec codec.Spec, size int, data []byte) (m measure, err error) {
	engine, err := w.engine(spec, size)
	if err != nil {
		return m, err
	}
	if bound := codec.Bound(size); cap(w.comp) < bound {
		w.comp = make([]byte, 0, bound)
	}
	m.size = float64(len(data))
	begin := threadTime()
	w.out, err = engine.Compress(w.comp, data)
	m.press = (threadTime() - begin).Seconds()
	if w.out != nil {
		m.size = float64(len(w.out))
	}
	return m, err
}

// A block is expanded so often, and the quickest counts; but not again once it took so many seconds.
const (
	expandings = 3
	longEnough = 0.004
)

// expand measures how long the data that was pressed last takes to expand.
func (w *adviseWorker) expand(a codec.Algorithm, data []byte) (seconds float64, err error) {
	if len(w.back) < len(data) {
		w.back = make([]byte, len(data))
	}
	d := w.decoders[a]
	if d == nil {
		if d, err = codec.NewDecoder(a); err != nil {
			return 0, err
		}
		w.decoders[a] = d
	}
	seconds = math.Inf(1)
	for n := 0; n < expandings && (n == 0 || seconds < longEnough); n++ {
		begin := threadTime()
		if w.out == nil {
			copy(w.back, data)
		} else if _, err := d.Decode(w.back[:len(data)], w.out); err != nil {
			return 0, err
		}
		seconds = min(seconds, (threadTime() - begin).Seconds())
	}
	return seconds, nil
}
