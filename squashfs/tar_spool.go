package squashfs

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/isopress/isopress/internal/patherror"
)

// maxTarWindow bounds the memory of expanding: it is zstd's own bound for what
// --ultra -22 makes, and twice what xz -9 needs.
const maxTarWindow = 128 << 20

// tarCompression is a way in which an archive may be compressed.
type tarCompression struct {
	name   string
	magics []string
	open   func(*bufio.Reader) (io.ReadCloser, error)
}

var tarCompressions = []tarCompression{
	{"gzip", []string{"\x1f\x8b\x08"}, openTarGzip}, // of method 8, deflate: there is no other
	{"bzip2", bzip2Magics(), func(r *bufio.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	{"xz", []string{"\xfd7zXZ\x00"}, func(r *bufio.Reader) (io.ReadCloser, error) {
		x, err := xz.NewReader(r, maxTarWindow)
		return io.NopCloser(x), err
	}},
	// The second is a frame that holds no data, as pzstd puts before each of the others.
	{"zstd", []string{"\x28\xb5\x2f\xfd", "\x50\x2a\x4d\x18"}, openTarZstd},
}

// bzip2Magics are those of all levels, with that of the first block (pi), or of
// the end (the square root of pi) where there is none.
func bzip2Magics() []string {
	var all []string
	for level := '1'; level <= '9'; level++ {
		for _, block := range []string{"\x31\x41\x59\x26\x53\x59", "\x17\x72\x45\x38\x50\x90"} {
			all = append(all, "BZh"+string(level)+block)
		}
	}
	return all
}

func openTarZstd(r *bufio.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxTarWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func openTarGzip(r *bufio.Reader) (io.ReadCloser, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &paddedGzip{z, r}, nil
}

// paddedGzip reads gzip members, one after the other, to the end or to zero bytes
// that fill the rest, as tapes and other devices leave them. gzip accepts those.
type paddedGzip struct {
	z  *gzip.Reader
	in *bufio.Reader
}

// Close implements [io.Closer].
func (p *paddedGzip) Close() error { return p.z.Close() }

func (p *paddedGzip) Read(b []byte) (int, error) {
	n, err := p.z.Read(b)
	if n > 0 || err != io.EOF {
		if err == io.EOF {
			err = nil // the next call will see it again
		}
		return n, err
	}
	next, err := p.in.Peek(1)
	if err != nil {
		return 0, err // the end
	}
	if next[0] == 0 {
		return 0, p.padding()
	}
	if err := p.z.Reset(p.in); err != nil {
		return 0, err
	}
	p.z.Multistream(false)
	return 0, nil
}

// padding reads zero bytes to the end.
func (p *paddedGzip) padding() error {
	for {
		c, err := p.in.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return errors.New("zero bytes after the compressed data, and others after those")
		}
	}
}

// compressionOf knows a compression by the first bytes; nil is none. What starts
// with a header of tar is none, whatever its file is called.
func compressionOf(head []byte) *tarCompression {
	if isTarHeader(head) {
		return nil
	}
	for i := range tarCompressions {
		for _, magic := range tarCompressions[i].magics {
			if bytes.HasPrefix(head, []byte(magic)) {
				return &tarCompressions[i]
			}
		}
	}
	return nil
}

// isTarHeader tells whether a block has the checksum of a header, of bytes with or
// without signs.
func isTarHeader(block []byte) bool {
	const at, end = 148, 156 // of the checksum, which counts as blanks
	if len(block) < tarBlock {
		return false
	}
	text := strings.Trim(string(block[at:end]), " \x00")
	want, err := strconv.ParseInt(text, 8, 64)
	if err != nil {
		return false
	}
	var sum, signed int64
	for i, c := range block[:tarBlock] {
		if i >= at && i < end {
			c = ' '
		}
		sum += int64(c)
		signed += int64(int8(c))
	}
	return want == sum || want == signed
}

// source makes an archive readable at random.
func (t *Tar) source(ctx context.Context, r io.Reader) (tarSource, error) {
	in, size, err := inPlace(r)
	if err != nil {
		return tarSource{}, err
	}
	if in == nil {
		return t.spool(ctx, r, 0)
	}
	head := make([]byte, tarBlock)
	n, err := in.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return tarSource{}, err
	}
	if compressionOf(head[:n]) == nil {
		return tarSource{in, size}, nil
	}
	return t.spool(ctx, io.NewSectionReader(in, 0, size), size)
}

// inPlace is what of r can be read at random, nil where r is a pipe or the like.
func inPlace(r io.Reader) (io.ReaderAt, int64, error) {
	switch r := r.(type) {
	case *io.SectionReader: // a layer within an archive
		return r, r.Size(), nil
	case *os.File:
		info, err := r.Stat()
		if err != nil {
			return nil, 0, err
		}
		if info.IsDir() {
			return nil, 0, errors.New("a directory, not a tar archive")
		}
		if !info.Mode().IsRegular() {
			return nil, 0, nil
		}
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, 0, err
		}
		size := max(info.Size()-at, 0)
		return io.NewSectionReader(r, at, size), size, nil
	}
	return nil, 0, nil
}

// spool copies an archive, expanded, to a temporary file. total is the archive's
// size, 0 where that is not known.
func (t *Tar) spool(ctx context.Context, r io.Reader, total int64) (tarSource, error) {
	f, err := newSpool(t.opts.TempDir)
	if err != nil {
		return tarSource{}, err
	}
	t.closers = append(t.closers, f)
	type result struct {
		size int64
		err  error
	}
	done := make(chan result, 1)
	go func() {
		size, err := f.fill(&countingReader{ctx: ctx, r: r, total: total, progress: t.opts.Progress})
		done <- result{size, err}
	}()
	select {
	case res := <-done:
		return tarSource{f.file, res.size}, res.err
	case <-ctx.Done():
		return tarSource{}, ctx.Err() // a read that blocks is left behind
	}
}

// countingReader ends with its context and tells how much was read.
type countingReader struct {
	ctx         context.Context
	r           io.Reader
	done, total int64
	progress    func(done, total int64)
}

func (c *countingReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.done += int64(n)
	if c.progress != nil && c.ctx.Err() == nil {
		c.progress(c.done, c.total)
	}
	return n, err
}

// spoolFile is a temporary file.
type spoolFile struct {
	file *os.File
	dir  string
	name string // "" where it has none any more
}

// newSpool makes a temporary file; "" is the usual directory.
func newSpool(dir string) (*spoolFile, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := os.CreateTemp(dir, ".squashfs-tar-*")
	if err != nil {
		return nil, fmt.Errorf("a temporary file for the archive in %s: %w", dir, patherror.Bare(err))
	}
	s := &spoolFile{file: f, dir: dir, name: f.Name()}
	if os.Remove(s.name) == nil { // not all systems allow it now
		s.name = ""
	}
	return s, nil
}

// Close implements [io.Closer]; the file is then gone.
func (s *spoolFile) Close() error {
	err := s.file.Close()
	if s.name != "" {
		err = errors.Join(err, os.Remove(s.name))
	}
	return err
}

// Write implements [io.Writer], with an error that says where room is lacking.
func (s *spoolFile) Write(b []byte) (int, error) {
	n, err := s.file.Write(b)
	if err != nil {
		err = fmt.Errorf("keeping the archive in a temporary file in %s: %w", s.dir, patherror.Bare(err))
	}
	return n, err
}

// fill copies the archive that r gives, expanded if it is compressed, to its
// very end: what a compression's checksum covers is checked, and a program that
// writes into a pipe is not cut off.
func (s *spoolFile) fill(r io.Reader) (int64, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	head, err := in.Peek(tarBlock)
	if err != nil && err != io.EOF {
		return 0, err
	}
	c := compressionOf(head)
	if c == nil {
		return io.Copy(s, in)
	}
	expanded, err := c.open(in)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.name, err)
	}
	defer expanded.Close() // read to its end: nothing is lost with its error
	n, err := io.Copy(s, namedReader{expanded, c.name})
	return n, err
}

// namedReader says in its errors which compression is broken.
type namedReader struct {
	r    io.Reader
	name string
}

func (n namedReader) Read(b []byte) (int, error) {
	k, err := n.r.Read(b)
	if err != nil && err != io.EOF && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%s: %w", n.name, err)
	}
	return k, err
}
