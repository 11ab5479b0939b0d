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
	name  string
	magic string
	open  func(io.Reader) (io.ReadCloser, error)
}

var tarCompressions = []tarCompression{
	{"gzip", "\x1f\x8b", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"bzip2", "BZh", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	{"xz", "\xfd7zXZ\x00", func(r io.Reader) (io.ReadCloser, error) {
		x, err := xz.NewReader(r, maxTarWindow)
		return io.NopCloser(x), err
	}},
	{"zstd", "\x28\xb5\x2f\xfd", openTarZstd},
	// A frame that holds no data, as pzstd puts before each of the others.
	{"zstd", "\x50\x2a\x4d\x18", openTarZstd},
}

func openTarZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxTarWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

const longestMagic = 6

// compressionOf knows a compression by the first bytes; nil is none.
func compressionOf(head []byte) *tarCompression {
	for i := range tarCompressions {
		if bytes.HasPrefix(head, []byte(tarCompressions[i].magic)) {
			return &tarCompressions[i]
		}
	}
	return nil
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
	head := make([]byte, longestMagic)
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
	head, err := in.Peek(longestMagic)
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
