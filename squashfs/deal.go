package squashfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
)

// ask sets out all blocks of the plan, in its order, for what caches have of them to be
// looked up by several goroutines at once.
func (l *pipeline) ask(ctx context.Context) error {
	for i := range l.plan.runs {
		run := &l.plan.runs[i]
		if run.parts != nil {
			if err := l.askFor(ctx, nil, run.parts...); err != nil {
				return err
			}
			continue
		}
		c := run.first
		c.blocks.sizes = make([]uint32, len(c.blocks.digests))
		for i, d := range c.blocks.digests {
			if d == (digest{}) && !c.raw {
				continue // zero bytes are not stored
			}
			if err := l.askFor(ctx, c, part{c, i}); err != nil {
				return err
			}
		}
	}
	return nil
}

// askFor queues a job for the dealer before it queues it to be looked up, as send does.
func (l *pipeline) askFor(ctx context.Context, c *content, parts ...part) error {
	j, err := l.take(ctx)
	if err != nil {
		return err
	}
	j.content = c
	j.parts = append(j.parts, parts...)
	l.asked <- j
	l.lookup <- j
	return nil
}

// look is one of the goroutines that look up blocks.
func (l *pipeline) look(ctx context.Context) error {
	for j := range l.lookup {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if j.made = l.cached(j); !j.made {
			j.based = l.fromBase(j)
		}
		j.finished <- struct{}{}
	}
	return nil
}

// deal sends the blocks that were looked up on, in their order: those that a cache has to
// the writer, and others to the workers. The workers read the file of a content, several
// blocks at a time, where it can be read anywhere; else it is read here from its start on.
func (l *pipeline) deal(ctx context.Context) error {
	f := contentFile{plan: l.plan}
	defer func() { f.close() }()
	for j := range l.asked {
		select {
		case <-j.finished:
		case <-ctx.Done():
			return ctx.Err()
		}
		if j.made {
			l.sendMade(j)
			continue
		}
		if j.content != f.content {
			f.close()
			f = contentFile{plan: l.plan, content: j.content}
		}
		if j.content != nil && !j.based {
			if err := f.give(j); err != nil {
				return j.content.source.fail(err)
			}
		}
		l.send(j)
	}
	return nil
}

// contentFile is the file of a content while its blocks are dealt out. It is opened
// when the first block wants it.
type contentFile struct {
	plan    *Plan
	content *content
	shared  *sharedFile // nil until then
	pos     int64       // of a file that is read from its start on
}

// give lets the job read its block from the file, or reads it for it.
func (f *contentFile) give(j *job) error {
	if f.shared == nil {
		file, err := openRegular(f.plan.fsys, f.content.source.path())
		if err != nil {
			return err
		}
		f.shared = &sharedFile{File: file}
		f.shared.users.Store(1)
	}
	if _, anywhere := f.shared.File.(io.ReaderAt); anywhere {
		f.shared.users.Add(1)
		j.file = f.shared
		return nil
	}
	j.n = f.plan.partLen(j.parts[0])
	offset := f.plan.partOffset(j.parts[0])
	last := offset+int64(j.n) == f.content.size
	f.plan.makeRaw(j)
	if err := readForward(f.shared.File, f.pos, offset, j.raw[:j.n], last); err != nil {
		return err
	}
	f.pos = offset + int64(j.n)
	return nil
}

func (f *contentFile) close() { f.shared.release() }

// sharedFile is open for the blocks of it that are on their way.
type sharedFile struct {
	fs.File
	users atomic.Int32
}

// release closes the file once nobody needs it. A nil one is none.
func (f *sharedFile) release() {
	if f != nil && f.users.Add(-1) == 0 {
		f.Close() // read only: nothing is lost with its error
	}
}

// partOffset and partLen say where in its file a part lies, in bytes.
func (p *Plan) partOffset(t part) int64 { return int64(t.index) * int64(p.opts.BlockSize) }
func (p *Plan) partLen(t part) int      { return blockLen(t.content.size, t.index, p.opts.BlockSize) }

// read fills a job's raw buffer, where that is not done.
func (p *Plan) read(j *job) error {
	if j.content != nil {
		if j.file == nil {
			return nil
		}
		j.n = p.partLen(j.parts[0])
		p.makeRaw(j)
		return p.readPart(j.file.File, j.parts[0], j.raw[:j.n])
	}
	return p.readParts(j)
}

// makeRaw makes the buffer for a job's content. Where all is known none is needed.
func (p *Plan) makeRaw(j *job) {
	if j.raw == nil {
		j.raw = make([]byte, p.opts.BlockSize)
	}
}

// readParts fills the raw buffer with a job's parts, from their files.
func (p *Plan) readParts(j *job) error {
	p.makeRaw(j)
	j.n = 0
	for _, t := range j.parts {
		n := p.partLen(t)
		if err := p.readTail(t, j.raw[j.n:j.n+n]); err != nil {
			return err
		}
		j.n += n
	}
	return nil
}

func (p *Plan) readTail(t part, b []byte) error {
	f, err := openRegular(p.fsys, t.content.source.path())
	if err != nil {
		return t.content.source.fail(err)
	}
	defer f.Close() // read only: nothing is lost with its error
	return p.readPart(f, t, b)
}

// readPart fills b with a part, from its file.
func (p *Plan) readPart(f fs.File, t part, b []byte) error {
	offset := p.partOffset(t)
	last := offset+int64(len(b)) == t.content.size
	var err error
	if at, ok := f.(io.ReaderAt); ok {
		r := io.NewSectionReader(at, offset, int64(len(b))+1)
		if err = readFull(r, b); err == nil && last {
			err = atEnd(r)
		}
	} else {
		err = readForward(f, 0, offset, b, last)
	}
	if err != nil {
		return t.content.source.fail(err)
	}
	return nil
}

// readForward fills b from offset on, in a file that has been read up to pos, and
// checks that it ends there where b is the last of it.
func readForward(f fs.File, pos, offset int64, b []byte, last bool) error {
	if err := skip(f, offset-pos); err != nil {
		return err
	}
	err := readFull(f, b)
	if err == nil && last {
		return atEnd(f)
	}
	return err
}

// skip moves on by n bytes, reading them where the file cannot seek.
func skip(f fs.File, n int64) error {
	if n == 0 {
		return nil
	}
	if s, ok := f.(io.Seeker); ok {
		_, err := s.Seek(n, io.SeekCurrent)
		return err
	}
	_, err := io.CopyN(io.Discard, f, n)
	if errors.Is(err, io.EOF) {
		return errShrunk
	}
	return err
}
