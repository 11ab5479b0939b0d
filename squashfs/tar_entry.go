package squashfs

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Types of entries that archive/tar has no names for.
const (
	typeTarVolume    = 'V' // GNU: the archive's label
	typeTarMulti     = 'M' // GNU: the rest of a file that began in another volume
	typeTarDirectory = 'D' // GNU: a directory, with a list of its names as content
)

// tarNode is one file of the tree. Its names are in the directories.
type tarNode struct {
	kind   inodeType // basic
	mode   uint16    // permissions, setuid, setgid, sticky
	sparse bool      // at is where the entry begins, not its content
	layer  uint32    // the archive it is of; of a directory: the last that it or something in it is of
	entry  uint32    // of a directory: the archive that its metadata is of, 0 where it has no entry
	uid    uint32
	gid    uint32
	rdev   uint32
	nlink  uint32
	ino    uint64
	mtime  int64 // seconds
	size   int64
	src    *tarSource
	at     int64  // of the content, in src
	target string // of a symlink
	xattrs map[string][]byte
	kids   map[string]*tarNode
}

func (n *tarNode) isDir() bool { return n.kind == typeDir }

// put gives n's directory an entry.
func (n *tarNode) put(name string, kid *tarNode) {
	if n.kids == nil {
		n.kids = map[string]*tarNode{}
	}
	n.kids[name] = kid
}

// describe gives a directory the metadata of a later entry about it.
func (n *tarNode) describe(later *tarNode) {
	kids, ino := n.kids, n.ino
	*n = *later
	n.kids, n.ino = kids, ino
}

// eachName calls f for each name below n, with its path; the order is any.
func (n *tarNode) eachName(f func(path string, n *tarNode)) { n.eachBelow("", f) }

func (n *tarNode) eachBelow(dir string, f func(string, *tarNode)) {
	for name, kid := range n.kids {
		f(dir+name, kid)
		if len(kid.kids) > 0 {
			kid.eachBelow(dir+name+"/", f)
		}
	}
}

// eachNode calls f for each node below n, once for each of its names.
func (n *tarNode) eachNode(f func(*tarNode)) {
	for _, kid := range n.kids {
		f(kid)
		kid.eachNode(f)
	}
}

func (t *Tar) newNode(kind inodeType) *tarNode {
	t.count++
	return &tarNode{kind: kind, ino: t.count, layer: t.layer}
}

// What may be implied: real archives have a few directories an entry, but every
// long name can tell of two thousand.
const (
	maxTarImplied      = 4096
	maxTarImpliedEntry = 64 // more, for each entry
)

// impliedDir is a directory without an entry of its own.
func (t *Tar) impliedDir() (*tarNode, error) {
	if t.implied++; t.implied > maxTarImplied+maxTarImpliedEntry*t.entries {
		return nil, fmt.Errorf("%w: %d directories that have no entry, in %d entries", ErrTooLarge, t.implied, t.entries)
	}
	n := t.newNode(typeDir)
	n.mode = 0o755
	return n, nil
}

// imply takes a directory's metadata away.
func (n *tarNode) imply() {
	n.describe(&tarNode{kind: typeDir, mode: 0o755, layer: n.layer})
}

var tarKinds = map[byte]inodeType{
	tar.TypeReg: typeFile, tar.TypeCont: typeFile, tar.TypeGNUSparse: typeFile,
	tar.TypeDir: typeDir, typeTarDirectory: typeDir, tar.TypeSymlink: typeSymlink,
	tar.TypeChar: typeCharDev, tar.TypeBlock: typeBlockDev, tar.TypeFifo: typeFifo,
}

// node makes the node of an entry.
func (x *tarIndexer) node(h *tar.Header) (*tarNode, error) {
	kind, ok := tarKinds[h.Typeflag]
	switch {
	case h.Typeflag == typeTarMulti:
		return nil, errors.New("the rest of a file of another volume: join the volumes first")
	case !ok:
		return nil, fmt.Errorf("an entry of the unknown type %q", h.Typeflag)
	case kind == typeFile && strings.HasSuffix(h.Name, "/"):
		if h.Size > 0 {
			return nil, errors.New("a regular file with the name of a directory")
		}
		kind = typeDir // as archives had it before there was a type for directories
	}
	n := x.tar.newNode(kind)
	if err := n.setOwner(h); err != nil {
		return nil, err
	}
	n.mode = uint16(h.Mode & 0o7777)
	n.mtime = h.ModTime.Unix()
	var err error
	switch kind {
	case typeFile:
		err = x.setContent(n, h)
	case typeSymlink:
		n.mode = 0o777 // as Linux has them all
		if len(h.Linkname) == 0 || len(h.Linkname) >= maxTarPath {
			return nil, fmt.Errorf("%w: symbolic link of %d bytes", ErrTooLarge, len(h.Linkname))
		}
		n.target = strings.Clone(h.Linkname)
		n.size = int64(len(n.target))
	case typeDir:
		n.entry = x.tar.layer
	case typeCharDev, typeBlockDev:
		n.rdev, err = tarDevice(h)
	}
	if err != nil {
		return nil, err
	}
	n.xattrs, err = x.tar.xattrs.of(h.PAXRecords)
	return n, err
}

func (n *tarNode) setOwner(h *tar.Header) error {
	for _, id := range []struct {
		what string
		n    int
		to   *uint32
	}{{"user", h.Uid, &n.uid}, {"group", h.Gid, &n.gid}} {
		if id.n < 0 || int64(id.n) > math.MaxUint32 {
			return fmt.Errorf("%w: %s id %d", ErrTooLarge, id.what, id.n)
		}
		*id.to = uint32(id.n)
	}
	return nil
}

func tarDevice(h *tar.Header) (uint32, error) {
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return 0, fmt.Errorf("%w: device number %d:%d", ErrTooLarge, h.Devmajor, h.Devminor)
	}
	major, minor := uint32(h.Devmajor), uint32(h.Devminor)
	return minor&0xff | major<<8 | minor&^0xff<<12, nil // as encodeDev
}

// maxTarSparse is the longest file of ext4. A header alone can claim any length,
// and every byte of a hole is read.
const maxTarSparse = 16 << 40

// setContent notes where the content of a regular file is. That of a sparse file
// is not in one piece: archive/tar will have to read the entry again.
func (x *tarIndexer) setContent(n *tarNode, h *tar.Header) error {
	n.size, n.src, n.at = h.Size, x.src, x.scan.pos
	sparse, err := isSparse(h)
	if err != nil || !sparse {
		return err
	}
	if h.Size > maxTarSparse {
		return fmt.Errorf("%w: a sparse file of %d bytes", ErrTooLarge, h.Size)
	}
	t := x.tar
	if t.sparse += h.Size; t.sparse < 0 || t.sparse-t.stored > t.opts.MaxHoles {
		return fmt.Errorf("%w: sparse files of over %d bytes of holes (MaxHoles)", ErrTooLarge, t.opts.MaxHoles)
	}
	n.sparse, n.at = true, x.scan.member
	again, _, err := n.openSparse()
	if err != nil {
		return err
	}
	if again.Name != h.Name || again.Size != h.Size {
		return errors.New("a sparse file that is another when it is read again")
	}
	return nil
}

// openSparse reads a sparse file's entry again, for its content.
func (n *tarNode) openSparse() (*tar.Header, *tar.Reader, error) {
	r := tar.NewReader(io.NewSectionReader(n.src.r, n.at, n.src.size-n.at))
	h, err := r.Next()
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return nil, nil, err
	}
	return h, r, nil
}

// isSparse tells whether archive/tar puts the content together from pieces. What
// it would give out as it is, but is not the content, is an error.
func isSparse(h *tar.Header) (bool, error) {
	if h.Typeflag == tar.TypeGNUSparse {
		return true, nil
	}
	r := h.PAXRecords
	if r["SUN.holesdata"] != "" || r["SCHILY.realsize"] != "" {
		return false, errors.New("a sparse file in a form of star's or Solaris's, which is not supported: write it with GNU tar or bsdtar")
	}
	switch major, minor := r["GNU.sparse.major"], r["GNU.sparse.minor"]; {
	case major == "0" && (minor == "0" || minor == "1"), major == "1" && minor == "0":
		return true, nil
	case major != "" || minor != "":
		return false, fmt.Errorf("a sparse file in GNU's form %q.%q, which is not supported", major, minor)
	}
	return r["GNU.sparse.map"] != "", nil
}

// Linux's bounds on extended attributes (include/uapi/linux/limits.h), and ours
// on all that are kept in memory.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxTarXattrs  = 256 << 20
)

// tarXattrs are the sets of extended attributes, each once.
type tarXattrs struct {
	sets map[[sha256.Size]byte]map[string][]byte
	size int64
}

// percentXattr undoes what GNU tar does to names of attributes.
var percentXattr = strings.NewReplacer("%3D", "=", "%25", "%")

// of is the set that an entry's PAX records tell of, nil for an empty one.
func (t *tarXattrs) of(records map[string]string) (map[string][]byte, error) {
	set := map[string][]byte{}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		name, value, err := paxXattr(key, records[key])
		if err != nil {
			return nil, err
		}
		if name == "" {
			continue
		}
		if len(name) > maxXattrName {
			return nil, fmt.Errorf("%w: xattr with a name of %d bytes", ErrTooLarge, len(name))
		}
		if _, _, held := splitXattr(name); !held {
			value = nil // the writer will tell of it, and leave it out
		}
		if len(value) > maxXattrValue {
			return nil, fmt.Errorf("%w: xattr %s of %d bytes: Linux reads none over %d", ErrTooLarge, name, len(value), maxXattrValue)
		}
		set[strings.Clone(name)] = value // a later key, SCHILY's, goes before LIBARCHIVE's
	}
	if len(set) == 0 {
		return nil, nil
	}
	return t.once(set)
}

// paxXattr is the attribute that a PAX record tells of, "" where it tells of none.
func paxXattr(key, value string) (name string, _ []byte, err error) {
	switch key {
	case "SCHILY.acl.access":
		return "system.posix_acl_access", nil, nil
	case "SCHILY.acl.default":
		return "system.posix_acl_default", nil, nil
	case "RHT.security.selinux":
		return "security.selinux", append([]byte(value), 0), nil // as the kernel has it
	}
	if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
		return percentXattr.Replace(name), []byte(value), nil
	}
	encoded, ok := strings.CutPrefix(key, "LIBARCHIVE.xattr.")
	if !ok {
		return "", nil, nil
	}
	if name, err = url.PathUnescape(encoded); err != nil {
		return "", nil, fmt.Errorf("xattr %q: %w", encoded, err)
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return "", nil, fmt.Errorf("xattr %s: %w", name, err)
	}
	return name, b, nil
}

// once returns the set of equal content that was kept first.
func (t *tarXattrs) once(set map[string][]byte) (map[string][]byte, error) {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(set)) {
		for _, s := range [][]byte{[]byte(name), set[name]} {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
			b = append(b, s...)
		}
	}
	key := sha256.Sum256(b)
	if kept, ok := t.sets[key]; ok {
		return kept, nil
	}
	if t.size += int64(len(b)); t.size > maxTarXattrs {
		return nil, fmt.Errorf("%w: xattrs of over %d MiB", ErrTooLarge, maxTarXattrs>>20)
	}
	t.sets[key] = set
	return set, nil
}

// setGlobal notes what a global PAX header says of the entries after it.
// archive/tar leaves that to its callers.
func (x *tarIndexer) setGlobal(records map[string]string) error {
	for key, value := range records {
		switch {
		case key == "uid" || key == "gid" || key == "mtime":
			if x.global == nil {
				x.global = map[string]string{}
			}
			x.global[key] = value
			if err := checkGlobal(key, value); err != nil {
				return err
			}
		case key == "path" || key == "linkpath" || key == "size" ||
			strings.HasPrefix(key, "GNU.sparse.") || strings.HasPrefix(key, "SCHILY.") ||
			strings.HasPrefix(key, "LIBARCHIVE.xattr.") || strings.HasPrefix(key, "RHT.security."):
			return fmt.Errorf("a global header gives all files the same %s", key)
		}
	}
	return nil
}

func checkGlobal(key, value string) error {
	if value == "" { // no longer set
		return nil
	}
	seconds, _, _ := strings.Cut(value, ".")
	if key != "mtime" {
		seconds = value
	}
	if _, err := strconv.ParseInt(seconds, 10, 64); err != nil {
		return fmt.Errorf("a global header gives all files the %s %q", key, value)
	}
	return nil
}

// applyGlobal gives an entry what only the global header says of it.
func (x *tarIndexer) applyGlobal(h *tar.Header) {
	for key, value := range x.global {
		if _, own := h.PAXRecords[key]; own || value == "" {
			continue
		}
		whole, fraction, _ := strings.Cut(value, ".")
		n, _ := strconv.ParseInt(whole, 10, 64) // checkGlobal has
		switch key {
		case "uid":
			h.Uid = int(n)
		case "gid":
			h.Gid = int(n)
		case "mtime":
			if strings.HasPrefix(whole, "-") && strings.Trim(fraction, "0") != "" {
				n-- // down, as for the dates of the entries' own
			}
			h.ModTime = time.Unix(n, 0)
		}
	}
}
