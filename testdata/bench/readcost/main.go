// Command readcost counts what reading files of a squashfs image, one after the other, makes the kernel
// expand: a block each time that it is wanted, except a fragment block that is still among the three that
// the kernel keeps. It looks up where the files' blocks lie and expands none, so that the count is quick
// and the same on every machine. A path read a second time, by a hard link too, counts again.
//
//	readcost IMAGE <LIST
//
// LIST has paths below the image's root, each ended by a NUL byte. The output is one line: blocks
// expanded, how many of them fragment blocks, how many different fragment blocks, and how many bytes are
// read from the image for all that: the kernel keeps no blocks as they are stored.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/codec"
	"github.com/isopress/isopress/squashfs"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "readcost:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: readcost IMAGE <LIST")
	}
	p, err := openProbe(os.Args[1])
	if err != nil {
		return err
	}
	c := counter{fragments: map[block]bool{}}
	in := bufio.NewReader(os.Stdin)
	for {
		name, err := in.ReadString(0)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := p.file(strings.TrimSuffix(name, "\x00"), &c); err != nil {
			return err
		}
	}
	fmt.Println(c.expanded, c.expandedFragments, len(c.fragments), c.read)
	return nil
}

// block is where a block lies, and how many bytes it takes there.
type block struct {
	pos  int64
	size int
}

// counter is the kernel, as far as it expands blocks.
type counter struct {
	expanded, expandedFragments int
	read                        int64 // bytes of blocks as stored
	fragments                   map[block]bool
	// Kernel: squashfs_cache_get in cache.c, with CONFIG_SQUASHFS_FRAGMENT_CACHE_SIZE entries that
	// are taken in turn.
	cache [3]block
	next  int
}

func (c *counter) data(b block) {
	c.expanded++
	c.read += int64(b.size)
}

func (c *counter) fragment(b block) {
	c.fragments[b] = true
	if slices.Contains(c.cache[:], b) {
		return
	}
	c.cache[c.next] = b
	c.next = (c.next + 1) % len(c.cache)
	c.expandedFragments++
	c.data(b)
}

// probe is an image whose blocks of content cannot be read: the error tells where one lies.
type probe struct {
	*os.File
	r       *squashfs.Reader
	content int64 // end of the blocks of content; 0: not yet known
	seen    block
	// fragments are the positions of the fragment blocks: which a block of content is, only the table says.
	fragments map[int64]bool
}

var errSeen = errors.New("a block of content")

func openProbe(image string) (*probe, error) {
	f, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p := &probe{File: f}
	if p.r, err = squashfs.NewReader(p, info.Size()); err != nil {
		return nil, err
	}
	if err := p.readFragments(); err != nil {
		return nil, fmt.Errorf("fragment table: %w", err)
	}
	p.content, err = p.word(64) // inode_table_start
	return p, err
}

// word reads the 64 bits at off.
func (p *probe) word(off int64) (int64, error) {
	var b [8]byte
	_, err := p.File.ReadAt(b[:], off)
	return int64(binary.LittleEndian.Uint64(b[:])), err
}

// readFragments reads the fragment table: entries of 16 bytes in metadata blocks, whose positions are
// listed at fragment_table_start.
func (p *probe) readFragments() error {
	const size, perBlock = 16, 8192 / 16
	sb := p.r.Superblock()
	p.fragments = make(map[int64]bool)
	list, err := p.word(80) // fragment_table_start
	if err != nil {
		return err
	}
	dec, err := codec.NewDecoder(codec.Algorithm(sb.Compression.String()))
	if err != nil {
		return err
	}
	for first := int64(0); first < sb.Fragments; first += perBlock {
		pos, err := p.word(list + first/perBlock*8)
		if err != nil {
			return err
		}
		entries, err := p.metadata(dec, pos)
		if err != nil {
			return err
		}
		n := int(min(perBlock, sb.Fragments-first)) * size
		if len(entries) < n {
			return fmt.Errorf("%d bytes where %d are expected", len(entries), n)
		}
		for e := range slices.Chunk(entries[:n], size) {
			p.fragments[int64(binary.LittleEndian.Uint64(e))] = true // start_block
		}
	}
	return nil
}

// metadata expands the metadata block at pos.
func (p *probe) metadata(dec codec.Decoder, pos int64) ([]byte, error) {
	var header [2]byte
	if _, err := p.File.ReadAt(header[:], pos); err != nil {
		return nil, err
	}
	word := binary.LittleEndian.Uint16(header[:])
	stored := make([]byte, word&0x7fff)
	if _, err := p.File.ReadAt(stored, pos+2); err != nil {
		return nil, err
	}
	if word&0x8000 != 0 { // stored as it is
		return stored, nil
	}
	data := make([]byte, 8192)
	n, err := dec.Decode(data, stored)
	return data[:max(n, 0)], err
}

func (p *probe) ReadAt(b []byte, off int64) (int, error) {
	if off < p.content {
		p.seen = block{off, len(b)}
		return 0, errSeen
	}
	return p.File.ReadAt(b, off)
}

// file counts the blocks of one file.
func (p *probe) file(name string, c *counter) error {
	f, err := p.r.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := int64(p.r.Superblock().BlockSize)
	for off := int64(0); off < info.Size(); off += size {
		_, err := f.(io.ReaderAt).ReadAt(make([]byte, 1), off)
		switch {
		case err == nil: // a hole
			continue
		case !errors.Is(err, errSeen):
			return err
		}
		if p.fragments[p.seen.pos] {
			c.fragment(p.seen)
		} else {
			c.data(p.seen)
		}
	}
	return nil
}
