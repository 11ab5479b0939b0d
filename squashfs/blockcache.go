package squashfs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/isopress/isopress/internal/codec"
)

// Cache keeps what is made of contents from one image to the next. It need not
// keep anything, and is no more than trusted: what Load returns must be what Save
// got for the key, so one that lies on a disk checks that itself.
//
// Its methods are called from several goroutines at once.
type Cache interface {
	// Load returns what Save got for the key, in buf's memory where it fits, or
	// nil. It belongs to the caller.
	Load(key [32]byte, buf []byte) []byte
	// Save keeps the data, one piece behind the other, which it must not hold on to.
	Save(key [32]byte, data ...[]byte)
}

// These change when this package makes other bytes of the same content with the same
// engine, or finds or writes down something else. What one names stays when the others change.
const (
	blockVersion   = 1 // blocks of contents and of tables
	treeVersion    = 2 // what is known of trees
	clusterVersion = 1 // what is alike
	fileVersion    = 1 // what is known of files by their state
)

// What a cached block begins with.
const (
	cachedCompressed = iota // the compressed bytes follow
	cachedRaw               // nothing: the content is stored as it is
)

// blockKeys makes the keys of blocks.
type blockKeys struct{ prefix []byte }

// newBlockKeys: a block's bytes depend on its content, the compression with its
// engine, and on the block size, by which some engines are set up.
func newBlockKeys(o *Options) blockKeys {
	return blockKeys{fmt.Appendf(nil, "isopress block %d\x00%s\x00%s\x00%d\x00", blockVersion, o.Compression, codec.Engine(o.Compression.spec), o.BlockSize)}
}

// key names a block by what it is made of.
func (k blockKeys) key(p *Plan, parts []part) [32]byte {
	h := sha256.New()
	h.Write(k.prefix)
	var size [4]byte
	for _, t := range parts {
		d := t.digest()
		binary.LittleEndian.PutUint32(size[:], uint32(p.partLen(t)))
		h.Write(d.sum[:])
		h.Write(size[:])
	}
	return [32]byte(h.Sum(nil))
}

// cached takes a job's block from the cache, if it has it. Where it only knows
// that the block is stored as it is, that is noted, and there is still to read.
func (l *pipeline) cached(j *job) bool {
	o := &l.plan.opts
	if l.plan.isRaw(j) || o.Blocks == nil && o.Base == nil && !o.BlockList {
		return false
	}
	j.key = l.keys.key(l.plan, j.parts)
	if o.Blocks == nil {
		return false
	}
	data := o.Blocks.Load(j.key, j.comp[:0])
	switch {
	case len(data) == 1 && data[0] == cachedRaw:
		j.stored = true
		return false
	case len(data) < 2 || data[0] != cachedCompressed || len(data)-1 >= l.plan.jobLen(j):
		return false
	}
	j.comp, j.out, j.n = data[:0], data[1:], l.plan.jobLen(j)
	l.sum(j)
	return true
}

// isRaw tells of a block of [Options.Raw], which no cache has.
func (p *Plan) isRaw(j *job) bool { return j.content != nil && j.content.raw }

// fromBase takes a job's block from the base, if that has it; a worker is to compare it
// with its digests.
func (l *pipeline) fromBase(j *job) bool {
	if j.stored || l.plan.isRaw(j) {
		return false
	}
	data := l.plan.opts.Base.load(l.keys, j.key, j.comp[:0])
	if data == nil {
		return false
	}
	j.comp = data
	return true
}

// verified takes the block that a base had, if it holds what it should, and otherwise
// reads the content, which whoever sent the job has not arranged for.
func (l *pipeline) verified(j *job, v *verifier) (bool, error) {
	if v.holds(l.plan, j, j.comp) {
		j.out, j.n = j.comp, l.plan.jobLen(j)
		return true, nil
	}
	l.plan.report.warn(j.parts[0].content.source.path(), "the base image's block of it is damaged, and is made again")
	return false, l.plan.readParts(j)
}

// keep puts a block that was made into the cache.
func (l *pipeline) keep(j *job) {
	cache := l.plan.opts.Blocks
	if cache == nil || l.plan.isRaw(j) {
		return
	}
	if j.stored {
		cache.Save(j.key, []byte{cachedRaw})
		return
	}
	cache.Save(j.key, []byte{cachedCompressed}, j.out)
}

// jobLen is the content in a job's block, in bytes.
func (p *Plan) jobLen(j *job) int {
	n := 0
	for _, t := range j.parts {
		n += p.partLen(t)
	}
	return n
}
