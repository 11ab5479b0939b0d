package squashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// RawFile is where one of [Options.Raw] lies.
type RawFile struct {
	Path   string
	Offset int64 // from the image's start, in bytes
	Size   int64
}

// RawFiles says where the files of [Options.Raw] will lie, in their order. Two of
// equal content lie in one place; an empty one has offset 0.
func (p *Plan) RawFiles() []RawFile { return p.raw }

// findRaw marks the contents that are stored as they are.
func (p *Plan) findRaw() error {
	for _, name := range p.opts.Raw {
		n, err := p.lookUp(name)
		if err == nil && n.kind != typeFile {
			err = errors.New("not a regular file")
		}
		if err != nil {
			return fmt.Errorf("squashfs: raw file %s: %w", name, err)
		}
		n.content.raw = true
		p.raw = append(p.raw, RawFile{Path: name, Size: n.content.size})
	}
	return nil
}

// lookUp finds a path, and follows no links.
func (p *Plan) lookUp(name string) (*inode, error) {
	if !validPath(name) || name == "." {
		return nil, fs.ErrInvalid
	}
	n := p.root
	for part := range strings.SplitSeq(name, "/") {
		i, found := slices.BinarySearchFunc(n.children(), part, func(e entry, name string) int {
			return strings.Compare(e.name, name)
		})
		if !found {
			return nil, fs.ErrNotExist
		}
		n = n.entries[i].node
	}
	return n, nil
}

// rawContents are the contents of the raw files, each once and none that is empty.
func (p *Plan) rawContents() []*content {
	var contents []*content
	for _, f := range p.raw {
		n, _ := p.lookUp(f.Path) // findRaw has
		if c := n.content; c.size > 0 && !slices.Contains(contents, c) {
			contents = append(contents, c)
		}
	}
	return contents
}

func (p *Plan) rawRuns(runs []run) []run {
	for _, c := range p.rawContents() {
		runs = append(runs, run{first: c})
	}
	return runs
}

// placeRaw says where the raw files will lie: nothing else is ahead of them.
func (p *Plan) placeRaw() {
	pos := p.dataStart()
	at := map[*content]int64{}
	for _, c := range p.rawContents() {
		pos = roundUp(pos, p.opts.RawAlign)
		at[c] = pos
		pos += c.size
	}
	for i, f := range p.raw {
		n, _ := p.lookUp(f.Path)
		p.raw[i].Offset = at[n.content]
	}
}

// dataStart is the first byte behind the superblock and the compressor's options.
func (p *Plan) dataStart() int64 { return int64(superblockSize + len(p.compressorOptions())) }
