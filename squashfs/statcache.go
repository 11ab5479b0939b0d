package squashfs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"
)

// What is known of regular files by their state, for [Options.Files]. A blob has what is
// known of a directory's files, and of small directories in it with all below them; a
// large directory has several, so that a change makes few of them anew, and no more than
// one is in memory for each directory that the walk is in. Numbers are varints, but where they
// are said to be bytes. Items are sorted by name.
//
//	blob: byte that is 1 where another follows, items
//	item: length of name, name, kind byte, length of the rest, rest
//	file: device, inode number, 8 bytes of mtime and of ctime in ns since 1970, content as in a tree
//	dir:  device, inode number, items

const (
	itemFile = iota + 1
	itemDir
)

const (
	// inlineLimit is the size of items that do not get a blob of their own, in bytes.
	inlineLimit = 16 << 10
	// blobSize is where a blob ends, but for its last item.
	blobSize = 1 << 20
)

// settleTime is how old a change must be before it is believed that the next one would
// have another date: those of a file system are coarser than its changes, and its clock
// need not be ours.
const settleTime = 2 * time.Second

// fileState is what a file must still show for its content to be what it was.
type fileState struct {
	linkKey
	mtime, ctime int64 // in nanoseconds since 1970
}

// stateOf is false for a file whose changes would not be seen.
func stateOf(info fs.FileInfo, sys Attr) (s fileState, ok bool) {
	// Whole seconds are of a file system that has no date of changes and shows another.
	if !info.Mode().IsRegular() || sys.Inode == 0 || sys.Ctime.IsZero() || sys.Ctime.Nanosecond() == 0 {
		return s, false
	}
	return fileState{linkKey{sys.Dev, sys.Inode}, sys.Mtime.UnixNano(), sys.Ctime.UnixNano()}, true
}

// settled tells whether what changes from now on gets other dates.
func (s fileState) settled(now time.Time) bool {
	return max(s.mtime, s.ctime) <= now.Add(-settleTime).UnixNano()
}

// clock is nil where no states are kept.
func (x *indexer) clock() func() time.Time {
	switch {
	case x.opts.Files == nil:
		return nil
	case x.opts.now != nil:
		return x.opts.now
	}
	return time.Now
}

// state is that of a file which is about to be read; nil is none to be kept.
func (h *hasher) state(f fs.File) *fileState {
	if h.now == nil || h.also != nil {
		return nil
	}
	now := h.now() // before it is looked at
	if s, ok := stateOfOpen(f); ok && s.settled(now) {
		return &s
	}
	return nil
}

// stillIs tells whether a file that was read is as it was before.
func (h *hasher) stillIs(f fs.File, before fileState) bool {
	s, ok := stateOfOpen(f)
	return ok && s == before
}

func stateOfOpen(f fs.File) (s fileState, ok bool) {
	info, err := f.Stat()
	if err != nil {
		return s, false
	}
	sys, err := systemAttr(info)
	if err != nil {
		return s, false
	}
	return stateOf(info, sys)
}

// ErrStatCache is wrapped, beside [ErrChanged], by errors about a file whose digests were
// not read but taken from [Options.Files]: it may have changed in a way that its state
// does not show.
var ErrStatCache = errors.New("the file changed without a change of its dates")

// statError is about such a file.
type statError struct{ error }

func (e statError) Error() string {
	return e.error.Error() + ", or before that without a change of its size and dates"
}

func (e statError) Unwrap() []error { return []error{e.error, ErrStatCache} }

// keptDir is what is known of the files in a directory, while the walk is in it.
type keptDir struct {
	up   *keptDir
	host linkKey // zero where the directory has no lasting name
	keptItems
}

// enter looks for what is known of a directory's files.
func (x *indexer) enter(n *inode, sys Attr) {
	if x.opts.Files == nil || x.checking {
		return
	}
	d := &keptDir{up: x.dir}
	x.dir = d
	if sys.Inode == 0 || n.dir == nil && x.opts.RootOrder != nil {
		return // items would not be met in their order
	}
	d.host = linkKey{sys.Dev, sys.Inode}
	d.keptItems = keptItems{x: x, id: d.host, more: true}
	if d.up != nil {
		if b, ok := d.up.find(itemDir, n.name, d.host); ok {
			d.keptItems = keptItems{b: b}
		}
	}
}

func (x *indexer) leave(n *inode) {
	if x.dir == nil || x.checking {
		return
	}
	if n.dirInode != nil {
		n.host = x.dir.host
	}
	x.dir = x.dir.up
}

// findFile takes what is known of a file's content, if it is as it was.
func (x *indexer) findFile(n *inode, info fs.FileInfo, sys Attr) {
	if x.dir == nil || x.checking {
		return
	}
	state, ok := stateOf(info, sys)
	if !ok {
		return
	}
	items := &x.dir.keptItems
	if x.dir.host == (linkKey{}) {
		items = &keptItems{x: x, id: state.linkKey, more: true} // it has a blob of its own
	}
	b, ok := items.find(itemFile, n.name, state.linkKey)
	if !ok || len(b) < 16 ||
		int64(binary.LittleEndian.Uint64(b)) != state.mtime || int64(binary.LittleEndian.Uint64(b[8:])) != state.ctime {
		return
	}
	c := *n.content
	d := keptDecoder{x: x, b: b[16:], memory: &x.memory}
	d.content(&c)
	if d.err == nil && len(d.b) == 0 && c.size == n.content.size {
		c.state, c.unread = &state, true
		*n.content = c
	}
}

// keptItems are items, of which the first are in memory.
type keptItems struct {
	b    []byte
	more bool // behind b, in the next blob
	x    *indexer
	id   linkKey
	part int // the next blob

	at struct { // the item at hand, ahead of b
		name string
		kind byte
		rest []byte
	}
}

// find returns what is kept of a file that comes behind those that were looked for before,
// if it is the same one.
func (k *keptItems) find(kind byte, name string, id linkKey) ([]byte, bool) {
	for k.at.kind == 0 || k.at.name < name {
		if !k.next() {
			return nil, false
		}
	}
	if k.at.name != name || k.at.kind != kind {
		return nil, false
	}
	d := keptDecoder{b: k.at.rest}
	same := d.number(math.MaxUint64) == id.dev && d.number(math.MaxUint64) == id.ino
	return d.b, same && d.err == nil
}

// next moves to the next item. Behind what is damaged there is none, nor behind what is out
// of order, as blobs of two builds may be.
func (k *keptItems) next() bool {
	for len(k.b) == 0 && k.more {
		k.b = k.load()
	}
	if len(k.b) == 0 {
		return false
	}
	d := keptDecoder{b: k.b}
	last := k.at.name
	k.at.name = d.text(maxNameLen)
	k.at.kind = d.take(1)[0]
	k.at.rest = d.take(d.number(uint64(len(k.b))))
	if k.b = d.b; d.err != nil || k.at.name <= last {
		*k = keptItems{}
		return false
	}
	return true
}

// load reads the next blob.
func (k *keptItems) load() []byte {
	key := k.x.filesKey(k.id, k.part)
	b := k.x.opts.Files.Load(key, nil)
	k.part++
	if k.more = len(b) > 1 && b[0] == 1; len(b) == 0 {
		return nil
	}
	if k.x.loaded == nil {
		k.x.loaded = map[[32]byte][32]byte{}
	}
	k.x.loaded[key] = sha256.Sum256(b)
	return b[1:]
}

// filesKey names a blob by the directory and the options that its content depends on.
func (x *indexer) filesKey(id linkKey, part int) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "isopress files %d\x00%d %v %q\x00%d %d %d", fileVersion,
		x.opts.BlockSize, x.sketches(), x.opts.Volatile, id.dev, id.ino, part))
}

// keepFiles puts what is known of files into the cache, where it is not there.
func (x *indexer) keepFiles(root *inode) {
	if x.opts.Files != nil {
		x.keepDir(root, false)
	}
}

// keepDir keeps what is known of the files below a directory. It returns the items instead
// where they are few and may be kept with those of the directory above.
func (x *indexer) keepDir(n *inode, inline bool) []byte {
	var b []byte
	part := 0
	named := n.dirInode != nil && n.host != (linkKey{})
	for _, e := range n.children() {
		if e.node.dir != n || e.node.name != e.name {
			continue // a further hard link
		}
		if !named {
			x.keepAlone(e)
			continue
		}
		item := x.itemOf(e, true)
		if b = append(b, item...); len(b) >= blobSize {
			x.saveFiles(n.host, part, 1, b)
			part++
			b = b[:0]
		}
	}
	switch {
	case !named || part == 0 && len(b) == 0:
		return nil
	case inline && part == 0 && len(b) <= inlineLimit:
		return b
	}
	x.saveFiles(n.host, part, 0, b)
	return nil
}

// keepAlone keeps what is in a directory that has no lasting name.
func (x *indexer) keepAlone(e entry) {
	var id linkKey
	if c := e.node.content; c != nil && c.state != nil {
		id = c.state.linkKey
	}
	if item := x.itemOf(e, false); item != nil {
		x.saveFiles(id, 0, 0, item)
	}
}

// itemOf is what is kept of an entry with its directory; nil is nothing.
func (x *indexer) itemOf(e entry, inline bool) []byte {
	n := e.node
	var id linkKey
	var b []byte
	kind := byte(itemFile)
	switch {
	case n.kind == typeDir:
		kind, b = itemDir, x.keepDir(n, inline)
		if n.dirInode != nil {
			id = n.host
		}
	case n.kind == typeFile && n.content.state != nil:
		id = n.content.state.linkKey
		if len(n.content.digests) <= maxFileBlocks {
			b = appendState(nil, n.content)
		}
		n.content.state = nil // has served
	}
	if b == nil {
		return nil
	}
	b = append(appendLinkKey(nil, id), b...)
	item := append(appendString(nil, e.name), kind)
	return append(binary.AppendUvarint(item, uint64(len(b))), b...)
}

// maxFileBlocks is what a kept file has at the most, so that a blob is not too large for
// caches: at the usual block size, a TiB.
const maxFileBlocks = 1 << 20

func appendLinkKey(b []byte, id linkKey) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, id.dev), id.ino)
}

func appendState(b []byte, c *content) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(c.state.mtime))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.state.ctime))
	return appendContent(b, c)
}

// saveFiles keeps a blob that is not there yet.
func (x *indexer) saveFiles(id linkKey, part int, more byte, b []byte) {
	key := x.filesKey(id, part)
	h := sha256.New()
	h.Write([]byte{more})
	h.Write(b)
	if x.loaded[key] != [32]byte(h.Sum(nil)) {
		x.opts.Files.Save(key, []byte{more}, b)
	}
}
