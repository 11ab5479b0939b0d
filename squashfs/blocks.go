package squashfs

import (
	"context"
	"hash/crc32"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/isopress/isopress/internal/codec"
)

// Contents flow through five kinds of goroutine. One asks for the blocks, in the order of
// the plan; some look up what caches have of them; one deals out the others, in order; the
// workers read, check and compress; one writes, in order again, and alone knows positions.
// The buffers, a fixed number made in advance, bound the memory: a block is asked for only
// once one is free.

// job is one block on its way. Whoever has taken it from the last queue owns it.
type job struct {
	raw, comp []byte // buffers of the block size; raw is made when it is wanted
	n         int    // bytes of content in raw
	parts     []part // what it is made of
	content   *content
	file      *sharedFile // where the content is read from; nil where raw has it, or for a fragment block

	key      [32]byte      // of the block, where there is a cache
	out      []byte        // what to write
	check    uint32        // CRC-32C of it, for the block list
	stored   bool          // out is the content as it is
	made     bool          // out is a cache's
	based    bool          // comp is a block of the base, to be looked at
	finished chan struct{} // once looked up, and again once pressed
}

// pipeline writes the runs of a plan.
type pipeline struct {
	plan      *Plan
	w         io.WriterAt
	pos       uint64
	free      chan *job
	lookup    chan *job
	asked     chan *job
	work      chan *job
	ordered   chan *job
	fragments []blockAt // the fragment blocks
	list      []listEntry
	keys      blockKeys
	read      int64
	rawed     int64
}

// blockAt is an entry of the fragment table.
type blockAt struct {
	start uint64
	size  uint32
}

// maxInFlight bounds the blocks in flight: more than a few a worker do not help.
const maxInFlight = 4

func newPipeline(p *Plan, w io.WriterAt, pos uint64) *pipeline {
	size := int64(p.opts.BlockSize)
	n := min(p.opts.Memory/(2*size), int64(maxInFlight*p.opts.Workers))
	n = max(n, int64(p.opts.Workers)+1)
	l := &pipeline{plan: p, w: w, pos: pos, keys: newBlockKeys(&p.opts),
		free: make(chan *job, n), lookup: make(chan *job, n), asked: make(chan *job, n),
		work: make(chan *job, n), ordered: make(chan *job, n)}
	for range n {
		l.free <- &job{finished: make(chan struct{}, 1)}
	}
	return l
}

// writeBlocks presses all contents; pos is then the end of the data.
func (l *pipeline) writeBlocks(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(l.lookup)
		defer close(l.asked)
		return l.ask(ctx)
	})
	g.Go(func() error {
		defer close(l.work)
		defer close(l.ordered)
		return l.deal(ctx)
	})
	for range l.plan.opts.Workers {
		g.Go(func() error { return l.look(ctx) })
		g.Go(func() error { return l.compress(ctx) })
	}
	g.Go(func() error { return l.write(ctx) })
	err := g.Wait()
	for j := range l.work { // what an error left
		j.file.release()
	}
	return err
}

// take waits for a free job.
func (l *pipeline) take(ctx context.Context) (*job, error) {
	select {
	case j := <-l.free:
		if j.comp == nil {
			j.comp = make([]byte, 0, 1+codec.Bound(l.plan.opts.BlockSize))
		}
		j.parts, j.content, j.file, j.n, j.stored, j.made, j.based = j.parts[:0], nil, nil, 0, false, false, false
		return j, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// send queues a job for the writer before it queues it for a worker, so that
// the writer meets the jobs in the order in which they were dealt. Neither send
// blocks: the channels hold as many jobs as there are.
func (l *pipeline) send(j *job) {
	l.ordered <- j
	l.work <- j
}

// sendMade queues a job that needs no worker.
func (l *pipeline) sendMade(j *job) {
	j.finished <- struct{}{}
	l.ordered <- j
}

// compress is one worker.
func (l *pipeline) compress(ctx context.Context) error {
	block, err := l.plan.opts.newBlock()
	if err != nil {
		return err
	}
	defer block.Close()
	var v verifier
	for j := range l.work {
		if ctx.Err() != nil {
			j.file.release()
			return ctx.Err()
		}
		if err := l.press(j, block, &v); err != nil {
			return err
		}
		l.sum(j)
		j.finished <- struct{}{}
	}
	return nil
}

// sum makes the checksum that the block list has of a compressed block.
func (l *pipeline) sum(j *job) {
	if l.plan.opts.BlockList && !j.stored {
		j.check = crc32.Checksum(j.out, castagnoli)
	}
}

// press reads a block, checks it against the index, and compresses it.
func (l *pipeline) press(j *job, block codec.Block, v *verifier) error {
	if j.based {
		if done, err := l.verified(j, v); err != nil {
			return err
		} else if done {
			l.keep(j)
			return nil
		}
	} else {
		err := l.plan.read(j)
		j.file.release()
		if err != nil {
			return err
		}
	}
	at := 0
	for _, p := range j.parts {
		n := l.plan.partLen(p)
		if !p.digest().matches(j.raw[at : at+n]) {
			return p.content.source.fail(errChanged)
		}
		at += n
	}
	if j.stored || l.plan.isRaw(j) {
		j.stored, j.out = true, j.raw[:j.n]
		return nil
	}
	out, err := block.Compress(j.comp, j.raw[:j.n])
	if err != nil {
		return j.parts[0].content.source.fail(err)
	}
	// The kernel takes a compressed block that is not smaller for an error.
	if j.stored = out == nil; j.stored {
		j.out = j.raw[:j.n]
	} else {
		j.comp, j.out = out[:0], out
	}
	l.keep(j)
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
	if l.plan.isRaw(j) && j.parts[0].index == 0 {
		if err := l.align(); err != nil {
			return err
		}
	}
	if _, err := l.w.WriteAt(j.out, int64(l.pos)); err != nil {
		return err
	}
	size := uint32(len(j.out))
	if l.plan.opts.BlockList && !j.stored {
		l.list = append(l.list, listEntry{j.key, blockAt{l.pos, size}, j.check})
	}
	if j.stored {
		size |= blockRaw
		l.rawed++
	}
	if j.content != nil {
		b := j.content.blocks
		if b.start == 0 {
			b.start = l.pos
		}
		b.sizes[j.parts[0].index] = size
	} else {
		l.fragments = append(l.fragments, blockAt{l.pos, size})
	}
	l.pos += uint64(len(j.out))
	l.read += int64(j.n)
	l.plan.report.progress(Progress{Stage: StageWrite, Done: l.read,
		Total: l.plan.stats.PlannedBytes, Written: int64(l.pos)})
	return nil
}

// align writes zeros up to where a raw file may lie.
func (l *pipeline) align() error {
	end := uint64(roundUp(int64(l.pos), l.plan.opts.RawAlign))
	_, err := l.w.WriteAt(make([]byte, end-l.pos), int64(l.pos))
	l.pos = end
	return err
}
