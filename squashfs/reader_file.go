package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
	"sync/atomic"
)

// readerContent reads a regular file's content; it is safe for concurrent use.
type readerContent struct {
	r      *Reader
	n      *readerInode
	blocks uint64

	mu    sync.Mutex
	marks []readerBlockMark // every readerBlockRun blocks, as far as known
	first uint64            // number of run's first block
	run   []readerBlock
}

// readerBlockRun is how many block sizes are read at a time. A file's list of
// them may be long (a sparse TiB has a million), and only summing them up tells
// where a block is, so it is neither kept whole nor read anew for each block.
const readerBlockRun = 1024

// readerBlockMark is where a run starts, on disk and in the list of sizes.
type readerBlockMark struct {
	pos  uint64
	list readerCursor
}

func newReaderContent(r *Reader, n *readerInode) *readerContent {
	return &readerContent{r: r, n: n, blocks: n.blocks(r.sb), marks: []readerBlockMark{{n.start, n.tail}}}
}

// block returns where block i is.
func (c *readerContent) block(i uint64) (readerBlock, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i < c.first || i-c.first >= uint64(len(c.run)) {
		if err := c.load(i / readerBlockRun); err != nil {
			return readerBlock{}, err
		}
	}
	return c.run[i-c.first], nil
}

// load reads run number k, and those before it that were never read.
func (c *readerContent) load(k uint64) error {
	for uint64(len(c.marks)) <= k {
		if err := c.loadRun(uint64(len(c.marks) - 1)); err != nil {
			return err
		}
	}
	return c.loadRun(k)
}

func (c *readerContent) loadRun(k uint64) error {
	m := c.marks[k]
	first := k * readerBlockRun
	sizes := make([]byte, 4*min(readerBlockRun, c.blocks-first))
	if err := m.list.read(sizes); err != nil {
		return fmt.Errorf("block sizes: %w", err)
	}
	c.run = c.run[:0]
	for ; len(sizes) > 0; sizes = sizes[4:] {
		b := readerBlock{m.pos, binary.LittleEndian.Uint32(sizes)}
		c.run = append(c.run, b)
		m.pos += b.stored()
	}
	c.first = first
	if uint64(len(c.marks)) == k+1 && len(c.run) == readerBlockRun {
		m.list.meta = nil // the cache's to keep
		c.marks = append(c.marks, m)
	}
	return nil
}

// blockLen is the length of block i, expanded: the last may be short.
func (c *readerContent) blockLen(i uint64) int {
	return int(min(uint64(c.r.sb.blockSize), c.n.size-i<<c.r.sb.blockLog))
}

// readAt fills p from off as far as the file goes.
func (c *readerContent) readAt(p []byte, off uint64) (int, error) {
	if off >= c.n.size {
		return 0, nil
	}
	p = p[:min(uint64(len(p)), c.n.size-off)]
	done := 0
	for done < len(p) {
		at := off + uint64(done)
		i, skip := at>>c.r.sb.blockLog, int(at%uint64(c.r.sb.blockSize))
		n, err := c.readPart(p[done:], i, skip)
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// readPart fills p from block i after skip bytes of it, or a part of p with what
// the block has. A block that is wanted whole is expanded into p itself, and not
// kept: who reads in large pieces has no use for the cache.
func (c *readerContent) readPart(p []byte, i uint64, skip int) (int, error) {
	if i >= c.blocks {
		return c.readTail(p, skip)
	}
	b, err := c.block(i)
	if err != nil {
		return 0, err
	}
	size := c.blockLen(i)
	n := min(len(p), size-skip)
	switch {
	case b.word == 0: // a hole
		clear(p[:n])
	case n == size:
		err = c.r.expandBlock(p[:n], b)
	default:
		var data []byte
		if data, err = c.r.cachedBlock(b, size); err == nil {
			copy(p[:n], data[skip:])
		}
	}
	if err != nil {
		return 0, fmt.Errorf("data block %d: %w", i, err)
	}
	return n, nil
}

// readTail fills p from the file's part of its fragment, after skip bytes of it.
func (c *readerContent) readTail(p []byte, skip int) (int, error) {
	data, err := c.r.fragment(c.n.fragment)
	if err != nil {
		return 0, err
	}
	start, size := uint64(c.n.offset), c.n.size%uint64(c.r.sb.blockSize)
	if start+size > uint64(len(data)) {
		return 0, fmt.Errorf("%w: %d bytes at %d of fragment %d, which has %d",
			ErrCorrupt, size, start, c.n.fragment, len(data))
	}
	return copy(p, data[start+uint64(skip):start+size]), nil
}

// readAll returns the whole content. Holes are left as the new memory is, so
// that a large sparse file takes little of it.
func (c *readerContent) readAll() ([]byte, error) {
	if c.n.size > math.MaxInt32 {
		return nil, fmt.Errorf("%d bytes are too many for ReadFile: use Open", c.n.size)
	}
	// The list of sizes is read first, so that a file whose list is cut off, or
	// whose blocks are not all in the image, takes no memory at all.
	if c.blocks > 0 {
		last, err := c.block(c.blocks - 1)
		if err != nil {
			return nil, err
		}
		end, start := last.pos+last.stored(), c.n.start
		if end != start && (end < start || end > c.r.sb.bytesUsed) {
			return nil, fmt.Errorf("%w: data blocks from %d to %d, outside the image", ErrCorrupt, start, end)
		}
	}
	p := make([]byte, c.n.size)
	for i := range c.blocks {
		b, err := c.block(i)
		if err != nil {
			return nil, err
		}
		if b.word == 0 {
			continue
		}
		if _, err := c.readPart(p[i<<c.r.sb.blockLog:], i, 0); err != nil {
			return nil, err
		}
	}
	tail := c.blocks << c.r.sb.blockLog
	if tail < c.n.size {
		if _, err := c.readTail(p[tail:], 0); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ReadFile returns the content of the named file, which may have up to 2 GiB. It
// allocates as much as the file's size, which a few bytes can say: look at it
// with Stat, or use Open, where the image is not trusted.
func (r *Reader) ReadFile(name string) ([]byte, error) {
	n, err := r.resolve(name, true)
	if err != nil {
		return nil, readerError("open", name, err)
	}
	switch n.typ.basic() {
	case typeFile:
	case typeDir:
		return nil, readerError("read", name, errReaderIsDir)
	default:
		return nil, readerError("read", name, errReaderSpecial)
	}
	data, err := newReaderContent(r, n).readAll()
	return data, readerError("read", name, err)
}

var errReaderSpecial = errors.New("not a regular file")

// readerOpen is what all open files have in common.
type readerOpen struct {
	path   string
	info   readerInfo
	closed atomic.Bool
}

func (f *readerOpen) Stat() (fs.FileInfo, error) {
	if f.closed.Load() {
		return nil, readerError("stat", f.path, fs.ErrClosed)
	}
	return f.info, nil
}

func (f *readerOpen) Close() error {
	if f.closed.Swap(true) {
		return readerError("close", f.path, fs.ErrClosed)
	}
	return nil
}

// readerSpecial is an open device, pipe or socket.
type readerSpecial struct{ readerOpen }

func (f *readerSpecial) Read([]byte) (int, error) {
	return 0, readerError("read", f.path, errReaderSpecial)
}

// readerDir is an open directory.
type readerDir struct {
	readerOpen
	mu      sync.Mutex
	listing readerListing
}

func (d *readerDir) Read([]byte) (int, error) {
	return 0, readerError("read", d.path, errReaderIsDir)
}

func (d *readerDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed.Load() {
		return nil, readerError("readdir", d.path, fs.ErrClosed)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	list, err := d.listing.readEntries(d.path, n)
	if err != nil {
		return list, readerError("readdir", d.path, err)
	}
	if n > 0 && len(list) == 0 {
		return nil, io.EOF
	}
	return list, nil
}

// readerFile is an open regular file.
type readerFile struct {
	readerOpen
	content *readerContent
	mu      sync.Mutex
	off     int64
}

func (f *readerFile) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt implements [io.ReaderAt].
func (f *readerFile) ReadAt(p []byte, off int64) (int, error) {
	if f.closed.Load() {
		return 0, readerError("read", f.path, fs.ErrClosed)
	}
	if off < 0 {
		return 0, readerError("read", f.path, fs.ErrInvalid)
	}
	n, err := f.content.readAt(p, uint64(off))
	if err != nil {
		return n, readerError("read", f.path, err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *readerFile) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return 0, readerError("seek", f.path, fs.ErrClosed)
	case whence == io.SeekStart:
	case whence == io.SeekCurrent:
		offset += f.off
	case whence == io.SeekEnd:
		offset += f.info.Size()
	default:
		return 0, readerError("seek", f.path, fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, readerError("seek", f.path, fs.ErrInvalid)
	}
	f.off = offset
	return offset, nil
}

// WriteTo writes the rest of the file to w, in whole blocks.
func (f *readerFile) WriteTo(w io.Writer) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	bs := int64(f.content.r.sb.blockSize)
	buf := make([]byte, max(0, min(bs, f.info.Size()-f.off)))
	var total int64
	for {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), bs-f.off%bs)], f.off)
		if n > 0 {
			m, werr := w.Write(buf[:n])
			f.off += int64(m)
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF || err == nil && n == 0 {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
