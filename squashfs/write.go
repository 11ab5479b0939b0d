package squashfs

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/bits"
)

// Result tells of an image that was written.
type Result struct {
	Stats
	Size      int64 `json:"size"`       // of the image, padding included
	BytesUsed int64 `json:"bytes_used"` // without padding: the superblock's bytes_used
	DataBytes int64 `json:"data_bytes"` // blocks and fragment blocks as stored
	RawBlocks int64 `json:"raw_blocks"` // blocks that did not compress
}

// Write presses fsys into an image at the start of w.
//
// The root of the image is the root of fsys. Owners, device numbers, hard links
// and xattrs come from each file's [fs.FileInfo.Sys], an [*Attr] or what package
// os gives there, and from [XattrFS]; symbolic links need [fs.ReadLinkFS]. [DirFS]
// has it all for a directory of the host. The package's documentation says what else
// is asked of fsys.
//
// w is an [io.WriterAt] because the superblock, which is at the start and without
// which there is no image, holds what is known only at the end, and is written last.
// An [*os.File] is one, and so is an [io.OffsetWriter] for an image within a larger
// file; a pipe is none, and needs a temporary file. All else is written from the
// start on without a gap, by one call at a time. What w holds behind the image, of
// [Result.Size] bytes, stays: truncate a file that may have been longer.
//
// A file that is not the same in its two readings, one for the plan and one for
// the image, is an error. After an error what was written is of no use.
func Write(ctx context.Context, w io.WriterAt, fsys fs.FS, opts Options) (*Result, error) {
	p, err := Prepare(ctx, fsys, opts)
	if err != nil {
		return nil, err
	}
	return p.Write(ctx, w)
}

// Write writes the image at the start of w. A plan can be written once, since
// it takes up where everything came to lie: after an error, too, make another.
func (p *Plan) Write(ctx context.Context, w io.WriterAt) (*Result, error) {
	if p.written {
		return nil, errors.New("squashfs: the plan was written before: make another with Prepare")
	}
	p.written = true
	options := p.compressorOptions()
	l := newPipeline(p, w, uint64(p.dataStart()))
	if err := l.writeBlocks(ctx); err != nil {
		return nil, err
	}
	p.placeUnwritten()
	press := newMetadataPress(&p.opts)
	defer press.close()
	e := &tableWriter{w: w, pos: l.pos, press: press}
	sb := p.superblock(uint32(len(l.fragments)))
	if err := p.writeTables(ctx, e, sb, l.fragments); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sb.bytesUsed = e.pos
	size := roundUp(int64(sb.bytesUsed), padding)
	if list := l.keys.encodeList(l.list); list != nil {
		if _, err := w.WriteAt(list, size); err != nil {
			return nil, err
		}
		size += int64(len(list))
	}
	if err := writeEnds(w, sb, options); err != nil {
		return nil, err
	}
	return &Result{
		Stats:     p.stats,
		Size:      size,
		BytesUsed: int64(sb.bytesUsed),
		DataBytes: int64(l.pos) - p.dataStart(),
		RawBlocks: l.rawed,
	}, nil
}

// placeUnwritten tells the blocks that are not written themselves where they lie.
func (p *Plan) placeUnwritten() {
	for _, c := range p.contents {
		b := c.blocks
		if b == nil {
			continue
		}
		if b.stored == 0 {
			b.sizes = make([]uint32, len(b.digests))
		}
		if b.base == nil {
			continue
		}
		b.start = b.base.start
		for _, size := range b.base.sizes[:b.at] {
			b.start += uint64(size & blockSizeMask)
		}
		b.sizes = b.base.sizes[b.at : b.at+len(b.digests)]
	}
}

func (p *Plan) superblock(fragments uint32) *superblock {
	date, _ := mtime(p.opts.ModTime) // the options' check has passed
	sb := &superblock{
		inodes:    p.inodes,
		mkfsTime:  date,
		blockSize: uint32(p.opts.BlockSize),
		fragments: fragments,
		algorithm: p.opts.Compression.algorithm(),
		blockLog:  uint16(bits.TrailingZeros(uint(p.opts.BlockSize))),
		flags:     p.opts.flags(),
		export:    invalidBlock,
	}
	if len(p.compressorOptions()) > 0 {
		sb.flags |= flagCompressorOptions
	}
	return sb
}

// writeTables appends the tables in the order that the kernel's checks ask for
// (fs/squashfs/super.c): each must end where the next one starts.
func (p *Plan) writeTables(ctx context.Context, e *tableWriter, sb *superblock, fragments []blockAt) (err error) {
	t := &treeWriter{ctx: ctx, inodes: e.metadata(), dirs: e.metadata(), ids: &p.ids, tails: p.tails, ranks: p.ranks(), steady: p.isSteady(),
		export: make([]inodeRef, p.inodes), total: p.inodes}
	if sb.root, err = t.tree(p.root); err != nil {
		return err
	}
	sb.inodeTable = e.pos
	if err := e.flush(t.inodes); err != nil {
		return err
	}
	sb.dirTable = e.pos
	if err := e.flush(t.dirs); err != nil {
		return err
	}
	if sb.fragTable, err = e.indexed(encodeFragments(fragments)); err != nil {
		return err
	}
	if !p.opts.NoExport {
		if sb.export, err = e.indexed(encodeExport(t.export)); err != nil {
			return err
		}
	}
	sb.ids = uint16(len(t.ids.ids))
	if sb.idTable, err = e.indexed(t.ids.encode()); err != nil {
		return err
	}
	sb.xattrTable, err = p.xattrs.write(e)
	return err
}

func encodeFragments(fragments []blockAt) []byte {
	le := binary.LittleEndian
	var b []byte
	for _, t := range fragments {
		b = le.AppendUint64(b, t.start) // start_block
		b = le.AppendUint32(b, t.size)  // size
		b = le.AppendUint32(b, 0)       // unused
	}
	return b
}

func encodeExport(refs []inodeRef) []byte {
	b := make([]byte, 0, 8*len(refs))
	for _, r := range refs {
		b = binary.LittleEndian.AppendUint64(b, uint64(r))
	}
	return b
}

// writeEnds writes the padding, which the loop device needs, and last of all the
// superblock, without which there is no image.
func writeEnds(w io.WriterAt, sb *superblock, options []byte) error {
	end := int64(sb.bytesUsed)
	if pad := roundUp(end, padding) - end; pad > 0 {
		if _, err := w.WriteAt(make([]byte, pad), end); err != nil {
			return err
		}
	}
	_, err := w.WriteAt(append(sb.encode(), options...), 0)
	return err
}
