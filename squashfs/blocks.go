package squashfs

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"github.com/isopress/isopress/internal/codec"
)

// Contents flow through three kinds of goroutine. One reads, in the order of the
// plan; the workers check and compress; one writes, in the order of the plan
// again, and alone knows positions. The buffers, a fixed number made in advance,
// bound the memory: a block is read only once one is free.

// job is one block on its way. The reader owns it, then a worker, then the writer.
type job struct {
	raw, comp []byte // buffers of the block size
	n         int    // bytes of content in raw
	parts     []part // what it is made of
	run       *run
	index     int // of the block in the run's content
	last      bool

	out      []byte // what to write
	stored   bool   // out is the content as it is
	finished chan struct{}
}

// pipeline writes the runs of a plan.
type pipeline struct {
	plan    *Plan
	w       io.WriterAt
	pos     uint64
	free    chan *job
	work    chan *job
	ordered chan *job
	tails   []blockAt // of the fragment blocks
	read    int64
	rawed   int64
}

// blockAt is an entry of the fragment table.
type blockAt struct {
	start uint64
	size  uint32
}

// maxInFlight bounds the blocks in flight: more than a few a worker do not help.
const maxInFlight = 8

func newPipeline(p *Plan, w io.WriterAt, pos uint64) *pipeline {
	size := int64(p.opts.BlockSize)
	n := min(p.opts.Memory/(2*size), int64(maxInFlight*p.opts.Workers))
	n = max(n, int64(p.opts.Workers)+1)
	l := &pipeline{plan: p, w: w, pos: pos,
		free: make(chan *job, n), work: make(chan *job, n), ordered: make(chan *job, n)}
	for range n {
		l.free <- &job{finished: make(chan struct{}, 1)}
	}
	return l
}

// writeBlocks presses all contents; pos is then the end of the data.
func (l *pipeline) writeBlocks(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(l.work)
		defer close(l.ordered)
		r := reader{ctx: ctx, pipeline: l}
		defer r.close()
		return r.readRuns()
	})
	for range l.plan.opts.Workers {
		g.Go(func() error { return l.compress(ctx) })
	}
	g.Go(func() error { return l.write(ctx) })
	return g.Wait()
}

// take waits for a free job.
func (l *pipeline) take(ctx context.Context) (*job, error) {
	select {
	case j := <-l.free:
		if j.raw == nil {
			j.raw = make([]byte, l.plan.opts.BlockSize)
			j.comp = make([]byte, 0, codec.Bound(l.plan.opts.BlockSize))
		}
		j.parts, j.last = j.parts[:0], false
		return j, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// send queues a job for the writer before it queues it for a worker, so that
// the writer meets the jobs in the order in which they were read. Neither send
// blocks: the channels hold as many jobs as there are.
func (l *pipeline) send(j *job) {
	l.ordered <- j
	l.work <- j
}

// compress is one worker.
func (l *pipeline) compress(ctx context.Context) error {
	block, err := l.plan.opts.newBlock()
	if err != nil {
		return err
	}
	defer block.Close()
	for j := range l.work {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := j.press(block); err != nil {
			return err
		}
		j.finished <- struct{}{}
	}
	return nil
}

// press checks a block against the index, and compresses it.
func (j *job) press(block codec.Block) error {
	at := 0
	for _, p := range j.parts {
		if digestOf(j.raw[at:at+p.size]) != p.digest {
			return p.source.fail(errChanged)
		}
		at += p.size
	}
	out, err := block.Compress(j.comp, j.raw[:j.n])
	if err != nil {
		return j.parts[0].source.fail(err)
	}
	// The kernel takes a compressed block that is not smaller for an error.
	j.stored = out == nil
	if j.stored {
		j.out = j.raw[:j.n]
		return nil
	}
	j.comp, j.out = out[:0], out
	return nil
}

// write is the one goroutine that owns the output.
func (l *pipeline) write(ctx context.Context) error {
	for j := range l.ordered {
		select {
		case <-j.finished:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := l.writeBlock(j); err != nil {
			return err
		}
		l.free <- j
	}
	return nil
}

func (l *pipeline) writeBlock(j *job) error {
	if _, err := l.w.WriteAt(j.out, int64(l.pos)); err != nil {
		return err
	}
	size := uint32(len(j.out))
	if j.stored {
		size |= blockRaw
		l.rawed++
	}
	if c := j.run.content; c != nil {
		if c.start == 0 {
			c.start = l.pos
		}
		c.blocks[j.index] = size
	} else {
		l.tails = append(l.tails, blockAt{l.pos, size})
	}
	l.pos += uint64(len(j.out))
	l.read += int64(j.n)
	l.plan.report.progress(Progress{Stage: StageWrite, Done: l.read,
		Total: l.plan.stats.PlannedBytes, Written: int64(l.pos)})
	return nil
}

// reader reads contents in the order of the plan, a file at a time.
type reader struct {
	ctx      context.Context
	pipeline *pipeline
	file     fs.File
	source   *inode
	pos      int64 // in file
}

func (r *reader) readRuns() error {
	for i := range r.pipeline.plan.runs {
		run := &r.pipeline.plan.runs[i]
		var err error
		if run.content != nil {
			err = r.readContent(run)
		} else {
			err = r.readFragment(run)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readContent sends the blocks of a content that are not zero.
func (r *reader) readContent(run *run) error {
	c := run.content
	size := r.pipeline.plan.opts.BlockSize
	for i := range c.whole {
		if c.source.digests[i] == (digest{}) {
			continue
		}
		p := part{source: c.source, offset: int64(i) * int64(size),
			size: blockLen(c.size, i, size), digest: c.source.digests[i]}
		j, err := r.pipeline.take(r.ctx)
		if err != nil {
			return err
		}
		j.run, j.index = run, i
		if err := r.fill(j, p); err != nil {
			return err
		}
		r.pipeline.send(j)
	}
	return nil
}

// readFragment sends one fragment block.
func (r *reader) readFragment(run *run) error {
	j, err := r.pipeline.take(r.ctx)
	if err != nil {
		return err
	}
	j.run, j.n = run, 0
	for _, p := range run.parts {
		if err := r.fill(j, p); err != nil {
			return err
		}
	}
	r.pipeline.send(j)
	return nil
}

// fill appends one part to a job.
func (r *reader) fill(j *job, p part) error {
	at := 0
	if len(j.parts) > 0 {
		at = j.n
	}
	if err := r.read(p, j.raw[at:at+p.size]); err != nil {
		return p.source.fail(err)
	}
	j.n = at + p.size
	j.parts = append(j.parts, p)
	return nil
}

// read fills b with the part's bytes, from the file that is open where it is
// the right one.
func (r *reader) read(p part, b []byte) error {
	if r.source != p.source || r.pos > p.offset {
		r.close()
		f, err := openRegular(r.pipeline.plan.fsys, p.source.path())
		if err != nil {
			return err
		}
		r.file, r.source, r.pos = f, p.source, 0
	}
	if err := r.skip(p.offset - r.pos); err != nil {
		return err
	}
	r.pos = p.offset
	err := readFull(r.file, b)
	r.pos += int64(len(b))
	if err == nil && r.pos == p.source.size {
		return atEnd(r.file)
	}
	return err
}

// skip moves on by n bytes, reading them where the file cannot seek.
func (r *reader) skip(n int64) error {
	if n == 0 {
		return nil
	}
	if s, ok := r.file.(io.Seeker); ok {
		_, err := s.Seek(n, io.SeekCurrent)
		return err
	}
	_, err := io.CopyN(io.Discard, r.file, n)
	if errors.Is(err, io.EOF) {
		return errShrunk
	}
	return err
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close() // read only: nothing is lost with its error
		r.file, r.source = nil, nil
	}
}
