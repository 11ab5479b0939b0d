package squashfs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// The index is the tree as it will be in the image: metadata in full, and of
// each file's content the digests of its blocks. It is made by one walk and one
// parallel reading, and holds all that the plan decides by.

// inode is one object of the image; several entries may name it.
type inode struct {
	kind   inodeType // basic
	mode   uint16    // permissions, setuid, setgid, sticky
	uid    uint32
	gid    uint32
	mtime  uint32
	rdev   uint32
	nlink  uint32
	number uint32
	xattr  uint32 // index into the xattr id table, or invalidXattr
	target string // of a symlink

	dir  *inode // directory that holds the first name; nil for the root
	name string // first name

	*dirInode          // nil for what is none
	content   *content // of a regular file; the plan lets equal ones share it

	ref inodeRef // unwritten, until it is
}

type dirInode struct {
	entries []entry // sorted by name
	host    linkKey // names the directory within the input, where Options.Files wants that
	listing listing // once written
}

// children are the entries of a directory, and none of another file.
func (n *inode) children() []entry {
	if n.dirInode == nil {
		return nil
	}
	return n.entries
}

type entry struct {
	name string
	node *inode
}

// digest identifies a block's content; the zero value stands for a block of
// nothing but zero bytes.
type digest struct {
	sum   [sha256.Size]byte // SHA-256: what decides whether contents are equal
	check uint32            // CRC-32C: tells cheaply that the second reading found the same
}

// path is the slash-separated name relative to the root.
func (n *inode) path() string {
	if n.dir == nil {
		return "."
	}
	var names []string
	for ; n.dir != nil; n = n.dir {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// fail wraps err as every error about a file of the tree reads.
func (n *inode) fail(err error) error {
	if n.content != nil && n.content.unread && errors.Is(err, ErrChanged) {
		err = statError{err}
	}
	return pathError(n.path(), err)
}

func pathError(name string, err error) error {
	// An *fs.PathError names the path itself, and the system call.
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return fmt.Errorf("squashfs: %s: %w", name, err)
}

// XattrFS is implemented by file systems that have extended attributes.
type XattrFS interface {
	fs.FS
	// Xattrs returns the attributes of the named file by full name, such as
	// "user.comment". It does not follow a symbolic link, other than one that "."
	// is. Where squashfs does not hold a namespace, the value may be nil.
	Xattrs(name string) (map[string][]byte, error)
}

// linkKey identifies a file within the input, to find its further names.
type linkKey struct{ dev, ino uint64 }

// linked is a file that has further names, as its first name shows it.
type linked struct {
	node  *inode
	mode  fs.FileMode
	size  int64
	mtime time.Time
}

// indexer walks a tree into inodes. What it finds is hashed while it walks on.
type indexer struct {
	ctx    context.Context
	fsys   fs.FS
	opts   *Options
	links  map[linkKey]linked
	files  fileQueue // regular, in the walk's order
	xattrs xattrTable
	ids    idTable
	left   map[string]*leftOut // what the format does not hold, by the warning's text
	count  int64
	placed []entry // of the root, as Options.RootOrder has them; nil without it
	report *reporter
	memory keptMemory

	trees    []keptTree // to be kept
	special  int        // files seen that no tree is kept with
	checking bool       // within a tree that is to be checked

	dir    *keptDir              // that the walk is in; nil without Options.Files
	loaded map[[32]byte][32]byte // digests of what Options.Files had, by key
}

// leftOut is where something was left out.
type leftOut struct {
	path string // the first file
	more int    // further ones
}

// index walks fsys and hashes its files.
func index(ctx context.Context, fsys fs.FS, opts *Options) (*inode, *indexer, error) {
	if fsys == nil {
		return nil, nil, errors.New("squashfs: there is no file system to press: fsys is nil")
	}
	g, ctx := errgroup.WithContext(ctx)
	x := &indexer{ctx: ctx, fsys: fsys, opts: opts, links: map[linkKey]linked{},
		left: map[string]*leftOut{}, report: newReporter(opts)}
	x.files.more.L = &x.files.mu
	var root *inode
	g.Go(func() (err error) {
		defer x.files.end(x.report)
		root, err = x.walk()
		return err
	})
	for range opts.Workers {
		g.Go(x.hash)
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	x.keepTrees()
	x.keepFiles(root)
	return root, x, nil
}

// walk lists the tree.
func (x *indexer) walk() (*inode, error) {
	info, err := fs.Stat(x.fsys, ".")
	if err != nil {
		return nil, pathError(".", err)
	}
	if !info.IsDir() {
		return nil, pathError(".", errors.New("the root is not a directory"))
	}
	root, err := x.add(nil, ".", ".", info)
	if err != nil {
		return nil, err
	}
	x.warn()
	return root, nil
}

// add makes the inode of one name, and of what is below it.
func (x *indexer) add(dir *inode, name, path string, info fs.FileInfo) (*inode, error) {
	if err := x.ctx.Err(); err != nil {
		return nil, err
	}
	x.count++
	x.report.progress(Progress{Stage: StageScan, Done: x.count})
	n := &inode{dir: dir, name: name, nlink: 1, xattr: invalidXattr, ref: unwritten}
	sys, err := systemAttr(info)
	if err != nil {
		return nil, n.fail(err)
	}
	if first, err := x.link(n, info, sys); err != nil {
		return nil, n.fail(err)
	} else if first != nil {
		first.nlink++
		return first, nil
	}
	if err := x.fill(n, path, info, sys); err != nil {
		return nil, n.fail(err)
	}
	switch n.kind {
	case typeDir:
		x.enter(n, sys)
		err = x.list(n, path)
		x.leave(n)
	case typeFile:
		x.findFile(n, info, sys)
		x.files.add(n, x.checking)
	}
	return n, err
}

// link returns the inode that an earlier name of the same file has. Names that
// show different files are an error, and not one file: the numbers may come from
// an [fs.FS] that joins others, or the file has changed since.
func (x *indexer) link(n *inode, info fs.FileInfo, sys Attr) (*inode, error) {
	if x.opts.NoHardLinks || info.IsDir() || sys.Nlink < 2 || sys.Inode == 0 {
		return nil, nil
	}
	x.special++
	key := linkKey{sys.Dev, sys.Inode}
	this := linked{n, info.Mode(), info.Size(), info.ModTime()}
	first, ok := x.links[key]
	if !ok {
		x.links[key] = this
		return nil, nil
	}
	differs := func(what string, a, b any) error {
		return fmt.Errorf("said to be one file with %s, device %#x and inode %d, but its %s is %v, the other's %v",
			first.node.path(), key.dev, key.ino, what, b, a)
	}
	switch {
	case first.mode != this.mode:
		return nil, differs("mode", first.mode, this.mode)
	case first.size != this.size:
		return nil, differs("size", first.size, this.size)
	case !first.mtime.Equal(this.mtime):
		return nil, differs("date", first.mtime.UTC(), this.mtime.UTC())
	}
	return first.node, nil
}

// fill sets the inode's metadata.
func (x *indexer) fill(n *inode, path string, info fs.FileInfo, sys Attr) (err error) {
	if n.kind, err = kindOf(info.Mode()); err != nil {
		return err
	}
	n.mode = unixMode(info.Mode())
	if !x.opts.AllRoot {
		n.uid, n.gid = sys.UID, sys.GID
	}
	if err := x.ids.add(n.uid, n.gid); err != nil {
		return err
	}
	date := info.ModTime()
	if limit := x.opts.MaxModTime; !limit.IsZero() && date.After(limit) {
		date = limit
	}
	var ok bool
	if n.mtime, ok = nearestMtime(date); !ok {
		x.leaveOut(path, "date outside of 1970 to 2106, which squashfs holds: the nearest is kept")
	}
	switch n.kind {
	case typeFile:
		n.content = &content{source: n, size: info.Size()}
		if n.content.size < 0 || n.content.size/int64(x.opts.BlockSize) > math.MaxInt32 {
			return fmt.Errorf("%w: size of %d bytes in blocks of %d", ErrTooLarge, n.content.size, x.opts.BlockSize)
		}
	case typeSymlink:
		if _, ok := x.fsys.(fs.ReadLinkFS); !ok {
			return errors.New("a symbolic link, but the file system has no ReadLink (fs.ReadLinkFS); DirFS has")
		}
		if n.target, err = fs.ReadLink(x.fsys, path); err != nil {
			return err
		}
		if len(n.target) == 0 || len(n.target) > maxWrittenTarget {
			return fmt.Errorf("%w: symbolic link of %d bytes, not 1 to %d", ErrTooLarge, len(n.target), maxWrittenTarget)
		}
	case typeBlockDev, typeCharDev:
		n.rdev = sys.Rdev
	}
	return x.addXattrs(n, path, sys)
}

func (x *indexer) addXattrs(n *inode, path string, sys Attr) error {
	if x.opts.NoXattrs {
		return nil
	}
	attrs := sys.Xattrs
	if attrs == nil {
		xfs, ok := x.fsys.(XattrFS)
		if !ok {
			return nil
		}
		var err error
		if attrs, err = xfs.Xattrs(path); err != nil {
			return err
		}
	}
	if len(attrs) > 0 {
		x.special++
	}
	id, left, err := x.xattrs.add(attrs)
	for _, name := range left {
		x.leaveOut(path, "xattr "+name+" left out: squashfs holds only user, trusted and security")
	}
	n.xattr = id
	return err
}

func (x *indexer) leaveOut(path, msg string) {
	x.special++
	if l := x.left[msg]; l != nil {
		l.more++
	} else {
		x.left[msg] = &leftOut{path: path}
	}
}

// warn tells of each kind of thing that was left out once.
func (x *indexer) warn() {
	for _, msg := range slices.Sorted(maps.Keys(x.left)) {
		l := x.left[msg]
		if l.more > 0 {
			msg += fmt.Sprintf("; so in %d more files", l.more)
		}
		x.report.warn(l.path, msg)
	}
}

// list reads a directory and adds what is in it.
func (x *indexer) list(n *inode, dir string) error {
	n.nlink = 2
	found, err := fs.ReadDir(x.fsys, dir)
	if err != nil {
		return n.fail(err)
	}
	slices.SortFunc(found, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	for i, d := range found {
		if err := checkName(d.Name()); err != nil {
			return n.fail(err)
		}
		if i > 0 && found[i-1].Name() == d.Name() {
			return n.fail(fmt.Errorf("%q is listed twice", d.Name()))
		}
	}
	if order := x.opts.RootOrder; n.dir == nil && order != nil {
		slices.SortStableFunc(found, func(a, b fs.DirEntry) int { return comparePlaces(order(a.Name()), order(b.Name())) })
		defer func() {
			x.placed = slices.Clone(n.entries)
			slices.SortFunc(n.entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
		}()
	}
	n.dirInode = &dirInode{entries: make([]entry, 0, len(found))}
	trees, wait := x.findTrees(n, dir, found)
	defer wait()
	for _, d := range found {
		name := path.Join(dir, d.Name())
		if x.opts.Exclude != nil && x.opts.Exclude(name, d) {
			continue
		}
		child, err := x.child(n, d, name, trees[d.Name()])
		if err != nil {
			return err
		}
		if child.kind == typeDir {
			n.nlink++
		}
		n.entries = append(n.entries, entry{d.Name(), child})
	}
	return nil
}

// child is what a directory's entry shows, with all that is below it. The tree is nil where its
// state has no name.
func (x *indexer) child(n *inode, d fs.DirEntry, name string, tree *foundTree) (*inode, error) {
	if tree != nil {
		if known, err := x.known(tree); known != nil || err != nil {
			return known, err
		}
	}
	special := x.special
	info, err := d.Info()
	if err != nil {
		return nil, pathError(name, err)
	}
	if tree == nil {
		return x.add(n, d.Name(), name, info)
	}
	check, size := x.check(name), x.files.total()
	x.checking = check != nil
	child, err := x.add(n, d.Name(), name, info)
	x.checking = false
	if err == nil {
		t := &treeTask{keptTree{tree.key, child}, name, x.files.total() - size, check}
		x.keepTree(t, x.special == special)
	}
	return child, err
}

func checkName(name string) error {
	if len(name) > maxNameLen {
		return fmt.Errorf("%w: name of %d bytes, %q…", ErrTooLarge, len(name), name[:40])
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("bad file name %q", name)
	}
	return nil
}

func kindOf(m fs.FileMode) (inodeType, error) {
	for kind, bits := range typeModes {
		if m.Type() == bits {
			return kind, nil
		}
	}
	if m.IsRegular() {
		return typeFile, nil
	}
	return 0, fmt.Errorf("squashfs holds no file of type %v", m.Type())
}

// fileQueue holds the regular files that the walk has found. It is as long as need
// be, as all of them are kept anyway: the walk never waits.
type fileQueue struct {
	mu    sync.Mutex
	more  sync.Cond
	found []*inode
	taken int // of found
	trees []*treeTask
	ended bool  // there are no more
	size  int64 // of all contents, in bytes
	done  int64 // bytes hashed
}

// add queues a file, or only counts one that comes with a tree.
func (q *fileQueue) add(n *inode, later bool) {
	q.mu.Lock()
	q.found = append(q.found, n)
	if !n.content.hashed {
		q.size += n.content.size
	}
	n.content.hashed = n.content.hashed || later
	q.mu.Unlock()
	q.more.Signal()
}

// total is the size of the contents to be hashed, as far as they are known.
func (q *fileQueue) total() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.size
}

// addKnown adds files that are hashed.
func (q *fileQueue) addKnown(files []*inode) {
	q.mu.Lock()
	q.found = append(q.found, files...)
	q.mu.Unlock()
}

// addTree queues a tree, whose files have been added.
func (q *fileQueue) addTree(t *treeTask) {
	q.mu.Lock()
	q.trees = append(q.trees, t)
	q.mu.Unlock()
	q.more.Signal()
}

func (q *fileQueue) end(r *reporter) {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.more.Broadcast()
	q.advance(0, r)
}

// take waits for the next file or tree; two nils are the end.
func (q *fileQueue) take() (*inode, *treeTask) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if t := q.takeTree(); t != nil {
			return nil, t
		}
		for q.taken < len(q.found) {
			if q.taken++; !q.found[q.taken-1].content.hashed {
				return q.found[q.taken-1], nil
			}
		}
		if q.ended {
			return nil, nil
		}
		q.more.Wait()
	}
}

// takeTree takes the largest tree: one worker alone reads it, and the others are not to
// wait for that in the end.
func (q *fileQueue) takeTree() *treeTask {
	if len(q.trees) == 0 {
		return nil
	}
	largest, last := 0, len(q.trees)-1
	for i, t := range q.trees {
		if t.size > q.trees[largest].size {
			largest = i
		}
	}
	t := q.trees[largest]
	q.trees[largest] = q.trees[last]
	q.trees = q.trees[:last]
	return t
}

// advance counts what has been hashed, and reports it once it is known of how much.
func (q *fileQueue) advance(n int, r *reporter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.done += int64(n); q.ended {
		r.progress(Progress{Stage: StageHash, Done: q.done, Total: q.size})
	}
}

// hash is one worker: it reads regular files into the digests of their blocks.
func (x *indexer) hash() error {
	h := hasher{ctx: x.ctx, fsys: x.fsys, buf: make([]byte, x.opts.BlockSize),
		similar: x.sketches(), volatile: []byte(x.opts.Volatile), now: x.clock(),
		advance: func(n int) { x.files.advance(n, x.report) }}
	for {
		f, t := x.files.take()
		var err error
		switch {
		case t != nil:
			err = x.hashTree(&h, t)
		case f != nil:
			err = h.hash(f)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// hasher reads one file after the other.
type hasher struct {
	sketcher
	similar  bool   // make sketches of tails
	volatile []byte // what is looked for in tails
	ctx      context.Context
	fsys     fs.FS
	buf      []byte
	advance  func(n int)
	also     io.Writer        // gets the contents, too, where it is not nil
	now      func() time.Time // nil where the state of files is of no use
}

func (h *hasher) hash(n *inode) error {
	f, err := openRegular(h.fsys, n.path())
	if err != nil {
		return n.fail(err)
	}
	defer f.Close() // read only: nothing is lost with its error
	state := h.state(f)
	// The size is not believed before the file has shown it.
	c := n.content
	blocks := (c.size + int64(len(h.buf)) - 1) / int64(len(h.buf))
	c.digests = make([]digest, 0, min(blocks, 1024))
	for left := c.size; left > 0; {
		if err := h.ctx.Err(); err != nil {
			return err
		}
		b := h.buf[:min(left, int64(len(h.buf)))]
		if err := readFull(f, b); err != nil {
			return n.fail(err)
		}
		c.digests = append(c.digests, digestOf(b))
		if len(b) < len(h.buf) {
			h.tail(c, b)
		}
		if h.also != nil {
			_, _ = h.also.Write(b) // it notes its errors itself
		}
		left -= int64(len(b))
		h.advance(len(b))
	}
	err = atEnd(f)
	if err == errGrown && c.size == 0 {
		err = errNotEmpty
	}
	if err != nil {
		return n.fail(err)
	}
	if state != nil && h.stillIs(f, *state) {
		c.state = state
	}
	return nil
}

// tail notes what the plan is to know of a content's tail beside its digest.
func (h *hasher) tail(c *content, b []byte) {
	c.refers = len(h.volatile) > 0 && bytes.Contains(b, h.volatile)
	if h.similar {
		s := h.sketch(b)
		c.sketch = &s
	}
}

// ErrChanged is wrapped by errors about a file that is not as it was when it was
// listed: a tree must hold still while it is pressed.
var ErrChanged = errors.New("the file changed while it was read")

// changedError says how a file changed.
type changedError string

func (e changedError) Error() string { return string(e) }

func (e changedError) Is(target error) bool { return target == ErrChanged }

const (
	errShrunk  = changedError("the file shrank while it was read")
	errGrown   = changedError("the file grew while it was read")
	errChanged = changedError("the file changed while it was read")

	errNotEmpty = changedError("the file has content although its size is 0 (a file of /proc or /sys?)")
)

// openRegular opens a file that was a regular one when it was listed.
func openRegular(fsys fs.FS, name string) (fs.File, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errChanged
	}
	if err != nil {
		f.Close() // read only: nothing is lost with its error
		return nil, err
	}
	return f, nil
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errShrunk
	}
	return err
}

// atEnd checks that r has no more to give.
func atEnd(r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return errGrown
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func digestOf(b []byte) digest {
	if isZero(b) {
		return digest{}
	}
	return digest{sha256.Sum256(b), crc32.Checksum(b, castagnoli)}
}

// matches tells whether b is still what d was made of. It is there for files that
// change while the image is made; against one who wants it to be wrong, a second
// SHA-256 would not help either, as the first reading is theirs too.
func (d digest) matches(b []byte) bool {
	if d == (digest{}) {
		return isZero(b)
	}
	return crc32.Checksum(b, castagnoli) == d.check
}

// reporter serialises the callbacks.
type reporter struct {
	mu   sync.Mutex
	opts *Options
}

func newReporter(opts *Options) *reporter { return &reporter{opts: opts} }

func (r *reporter) progress(p Progress) {
	if r.opts.Progress == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opts.Progress(p)
}

func (r *reporter) warn(path, msg string) {
	if r.opts.Warn == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opts.Warn(path, msg)
}
