package iso

import (
	"bytes"
	"cmp"
	"crypto"
	_ "crypto/md5" // the checksum files' algorithms
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Bounds of what is read of checksum files.
const (
	maxSumFile  = 16 << 20
	maxSumFiles = 64 << 20 // together
	maxSumDepth = 100      // of files that name one another
	sumHead     = 64 << 10 // has a line of a checksum file
)

// A checksum file's lines, as coreutils, the BSDs or Fedora's .treeinfo have them: the digest and the name.
var (
	gnuSum  = regexp.MustCompile(`^\\?([0-9a-fA-F]{32,128})(?:[ \t]+\*?(.*?))?\r?$`)
	bsdSum  = regexp.MustCompile(`^[A-Z0-9-]+ ?\((.*)\) ?= ?([0-9a-fA-F]{32,128})\r?$`)
	treeSum = regexp.MustCompile(`^(\S.*?)\s*=\s*(?:md5|sha1|sha256|sha512):([0-9a-fA-F]{32,128})\r?$`)

	escaped = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r") // by coreutils, where the line begins with a backslash
)

// digests are the algorithms by the length of their digests.
var digests = map[int]crypto.Hash{
	16: crypto.MD5, 20: crypto.SHA1, 28: crypto.SHA224, 32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512,
}

// sumFile is a file of checksums in the tree.
type sumFile struct {
	path string
	node *node9660
}

// sumLine is a line of it.
type sumLine struct {
	digest []byte // within the file's text, in hexadecimal
	file   *fileExtents
	added  *addedFile // that takes the file's name, or nil
}

// isSumName tells whether a name is one that checksum files have; what is in the file decides.
func isSumName(name string) bool {
	name = strings.ToLower(name)
	return !isSignature(name) && slices.ContainsFunc([]string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512", "b2sum", "checksum", "treeinfo"},
		func(s string) bool { return strings.Contains(name, s) })
}

// isSignature tells whether a name is that of a signature, or of dm-verity's hashes, which are signed in turn.
func isSignature(name string) bool {
	return slices.Contains([]string{".sig", ".gpg", ".asc", ".sign", ".p7s", ".verity", ".roothash"}, strings.ToLower(path.Ext(name)))
}

// sumFiles finds the checksum files that stay, sorted by path, each extents once a directory; and those that are too
// large to be looked into.
func (w *rewriter) sumFiles() (list, large []sumFile, err error) {
	type place struct {
		file *fileExtents
		dir  *dirExtent
	}
	seen := make(map[place]bool)
	total := int64(0)
	w.im.root.walk("", func(p string, n *node9660) {
		at := place{n.file, n.dir}
		if err != nil || !n.mode.IsRegular() || n.file == nil || n.file.packed || !isSumName(n.name) || seen[at] || w.isDropped(n) {
			return
		}
		seen[at] = true
		s := sumFile{p, n}
		if total >= maxSumFiles {
			large = append(large, s)
			return
		}
		var head int64
		if head, err = w.hasSums(s); head > 0 {
			total += head
			return
		}
		if n.file.size > min(maxSumFile, maxSumFiles-total) {
			large = append(large, s)
			return
		}
		total += n.file.size
		list = append(list, s)
	})
	return list, large, err
}

// hasSums looks for a checksum where a file begins, and returns how many bytes it has read in vain.
func (w *rewriter) hasSums(s sumFile) (vain int64, err error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	head := w.buf[:min(s.node.file.size, sumHead)]
	if _, err := w.im.content(s.node.file).ReadAt(head, 0); err != nil && err != io.EOF {
		return 0, fmt.Errorf("iso: %s: %w", s.path, err)
	}
	for line := range bytes.Lines(head) {
		if digest, _ := parseSum(bytes.TrimSuffix(line, []byte("\n"))); digest != nil {
			return 0, nil
		}
	}
	return int64(len(head)), nil
}

func (n *node9660) walk(dir string, fn func(string, *node9660)) {
	for _, c := range n.children {
		p := joined(dir, c.name)
		fn(p, c)
		c.walk(p, fn)
	}
}

// parseSum returns a line's digest and the name, which may be empty, or nothing.
func parseSum(line []byte) (digest []byte, name string) {
	if m := gnuSum.FindSubmatch(line); m != nil {
		if line[0] == '\\' {
			return m[1], escaped.Replace(string(m[2]))
		}
		return m[1], string(m[2])
	}
	for _, form := range []*regexp.Regexp{bsdSum, treeSum} {
		if m := form.FindSubmatch(line); m != nil {
			return m[2], string(m[1])
		}
	}
	return nil, ""
}

// find returns the file that a name in a checksum file means, and its path, or nil. It is looked for beside it and from
// the root.
func (s sumFile) find(im *Image, name string) (*node9660, string) {
	if name == "" { // a digest alone
		name = strings.TrimSuffix(path.Base(s.path), path.Ext(s.path))
	}
	names := []string{name, strings.ReplaceAll(name, `\`, "/")}
	if im.names == "ISO 9660" { // its names are shown in lower case
		names = append(names, strings.ToLower(withoutVersion(names[1])))
	}
	for _, name := range slices.Compact(names) {
		for _, dir := range []string{path.Dir(s.path), "."} {
			p := path.Join(dir, strings.TrimLeft(name, "/"))
			if n, err := im.lookup("sum", p, true); err == nil && n.mode.IsRegular() {
				return n, p
			}
		}
	}
	return nil, ""
}

// dropSums takes the lines that name removed files out of the checksum files, but for those whose names are added anew.
func (w *rewriter) dropSums(replace map[string]Content, add []Addition) error {
	if len(w.removed) == 0 {
		return nil
	}
	list, _, err := w.sumFiles()
	if err != nil {
		return err
	}
	added := make(map[string]bool, len(add))
	for _, a := range add {
		added[a.Path] = true
	}
	first := make(map[*fileExtents]string) // of several names only one is replaced
	texts := make(map[string][]byte)
	for _, s := range list {
		p := cmp.Or(first[s.node.file], s.path)
		text, ok := texts[p]
		if !ok {
			text = make([]byte, s.node.file.size)
			if _, err := w.im.content(s.node.file).ReadAt(text, 0); err != nil {
				return fmt.Errorf("iso: %s: %w", s.path, err)
			}
		}
		kept, err := w.dropLines(s, text, added)
		if err != nil {
			return err
		}
		if len(kept) < len(text) {
			first[s.node.file], texts[p] = p, kept
			replace[p] = contentOf(kept)
			w.result.Sums = append(w.result.Sums, p)
		}
	}
	return nil
}

// dropLines leaves out the lines that name removed files.
func (w *rewriter) dropLines(s sumFile, text []byte, added map[string]bool) (kept []byte, err error) {
	for line := range bytes.Lines(text) {
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
		if digest, name := parseSum(bytes.TrimSuffix(line, []byte("\n"))); digest != nil {
			if n, p := s.find(w.im, name); n != nil && w.isDropped(n) && !added[p] {
				continue
			}
		}
		kept = append(kept, line...)
	}
	return kept, nil
}

func (w *rewriter) isDropped(n *node9660) bool {
	p := w.plans[n.dir]
	return p != nil && p.dropped[n.entry]
}

// contentOf is a content of bytes.
func contentOf(b []byte) Content {
	return Content{Size: int64(len(b)), Write: func(dst io.WriterAt) (int64, error) {
		n, err := dst.WriteAt(b, 0)
		return int64(n), err
	}}
}

// newContent is what a file holds in the new image.
func (w *rewriter) newContent(f *fileExtents) *io.SectionReader {
	if k := w.replaced[f]; k != nil {
		return io.NewSectionReader(w.dst, k.pos, k.size)
	}
	p := pieceReader{r: w.dst}
	for _, old := range f.pieces {
		p.pieces = append(p.pieces, piece{w.m.start(old.pos), old.size})
	}
	return io.NewSectionReader(p, 0, f.size)
}

// correctSums corrects the checksum files that name changed files. One may name another.
func (w *rewriter) correctSums(Changes) error {
	if !w.changes {
		return nil
	}
	list, large, err := w.sumFiles()
	if err != nil {
		return err
	}
	for _, s := range large {
		if w.replaced[s.node.file] == nil {
			w.noteStale(s.path)
		}
	}
	c := newSumCorrector(w, list)
	for _, s := range list {
		if err := c.correct(s.node.file, 0); err != nil {
			return err
		}
	}
	for _, l := range c.open {
		if w.changed[l.file] {
			w.noteStale(l.path)
		}
	}
	slices.Sort(w.result.Sums)
	w.result.Sums = slices.Compact(w.result.Sums)
	return w.findSignatures()
}

// noteStale lists what does not hold any more.
func (w *rewriter) noteStale(what string) {
	if i, ok := slices.BinarySearch(w.result.Stale, what); !ok {
		w.result.Stale = slices.Insert(w.result.Stale, i, what)
	}
}

// putFile writes a file's whole content where it lies.
func (w *rewriter) putFile(f *fileExtents, b []byte) error {
	if k := w.replaced[f]; k != nil {
		return w.put(k.pos, b)
	}
	for _, p := range f.pieces {
		if err := w.put(w.m.start(p.pos), b[:p.size]); err != nil {
			return err
		}
		b = b[p.size:]
	}
	return nil
}

// findSignatures lists the files that sign a changed one, by their names.
func (w *rewriter) findSignatures() (err error) {
	w.im.root.walk("", func(p string, n *node9660) {
		if err != nil || !isSignature(n.name) || w.isDropped(n) {
			return
		}
		if err = w.ctx.Err(); err == nil && w.signsChanged(p) {
			w.noteStale(p)
		}
	})
	return err
}

// signsChanged tells whether a signature is that of a changed file; systemd has that of x.raw beside it as x.roothash.
func (w *rewriter) signsChanged(p string) bool {
	for isSignature(p) || path.Ext(p) == ".cms" {
		p = strings.TrimSuffix(p, path.Ext(p))
		for _, signed := range []string{p, p + ".raw"} {
			if of, err := w.im.lookup("signed", signed, true); err == nil && of.file != nil && w.changed[of.file] {
				return true
			}
		}
	}
	return false
}

// canceledReader reads until the rewriting is canceled.
type canceledReader struct {
	w *rewriter
	r io.Reader
}

func (c canceledReader) Read(b []byte) (int, error) {
	if err := c.w.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
