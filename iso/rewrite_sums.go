package iso

import (
	"bytes"
	"crypto"
	_ "crypto/md5" // the checksum files' algorithms
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

const maxSumFile = 16 << 20

// A checksum file's lines, as coreutils or the BSDs write them: the digest and the name.
var (
	gnuSum = regexp.MustCompile(`^\\?([0-9a-fA-F]{32,128})(?:[ \t]+\*?(.*?))?\r?$`)
	bsdSum = regexp.MustCompile(`^[A-Z0-9-]+ ?\((.*)\) ?= ?([0-9a-fA-F]{32,128})\r?$`)
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
	node   *node9660
}

// isSumName tells whether a name is one that checksum files have; what is in the file decides.
func isSumName(name string) bool {
	name = strings.ToLower(name)
	return !isSignature(name) && slices.ContainsFunc([]string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512", "b2sum", "checksum"},
		func(s string) bool { return strings.Contains(name, s) })
}

func isSignature(name string) bool {
	return slices.Contains([]string{".sig", ".gpg", ".asc", ".sign", ".p7s"}, strings.ToLower(path.Ext(name)))
}

// sumFiles finds the checksum files, sorted by path.
func (im *Image) sumFiles() []sumFile {
	var list []sumFile
	im.root.walk("", func(p string, n *node9660) {
		if n.mode.IsRegular() && n.file != nil && n.file.size <= maxSumFile && !n.file.packed && isSumName(n.name) {
			list = append(list, sumFile{p, n})
		}
	})
	return list
}

func (n *node9660) walk(dir string, fn func(string, *node9660)) {
	for _, c := range n.children {
		p := joined(dir, c.name)
		fn(p, c)
		c.walk(p, fn)
	}
}

// lines are the lines of a checksum file's text that name a file of the image, which is looked for beside it
// and from the root.
func (s sumFile) lines(im *Image, text []byte) (list []sumLine) {
	for line := range bytes.Lines(text) {
		if l := s.line(im, bytes.TrimSuffix(line, []byte("\n"))); l.node != nil {
			list = append(list, l)
		}
	}
	return list
}

func (s sumFile) line(im *Image, line []byte) (l sumLine) {
	name := []byte(strings.TrimSuffix(path.Base(s.path), path.Ext(s.path))) // of a digest alone
	if m := gnuSum.FindSubmatch(line); m != nil {
		l.digest = m[1]
		if len(m[2]) > 0 {
			name = m[2]
		}
	} else if m := bsdSum.FindSubmatch(line); m != nil {
		name, l.digest = m[1], m[2]
	} else {
		return l
	}
	for _, dir := range []string{path.Dir(s.path), "."} {
		p := path.Join(dir, strings.TrimLeft(string(name), "/"))
		if n, err := im.lookup("sum", p, true); err == nil && n.mode.IsRegular() {
			l.node = n
			return l
		}
	}
	return l
}

// dropSums takes the lines that name removed files out of the checksum files.
func (w *rewriter) dropSums(replace map[string]Content) error {
	if len(w.removed) == 0 {
		return nil
	}
	for _, s := range w.im.sumFiles() {
		if w.isDropped(s.node) {
			continue
		}
		text := make([]byte, s.node.file.size)
		if _, err := w.im.content(s.node.file).ReadAt(text, 0); err != nil {
			return fmt.Errorf("iso: %s: %w", s.path, err)
		}
		var kept []byte
		for line := range bytes.Lines(text) {
			if l := s.line(w.im, bytes.TrimSuffix(line, []byte("\n"))); l.node == nil || !w.isDropped(l.node) {
				kept = append(kept, line...)
			}
		}
		if len(kept) < len(text) {
			replace[s.path] = contentOf(kept)
		}
	}
	return nil
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
	sums := sumCache{w: w, known: make(map[sumKey]string)}
	files := w.im.sumFiles()
	for range len(files) + 1 {
		again := false
		for _, s := range files {
			if w.isDropped(s.node) {
				continue
			}
			changed, err := w.correctSum(s, &sums)
			if err != nil {
				return fmt.Errorf("iso: %s: %w", s.path, err)
			}
			again = again || changed
		}
		if !again {
			break
		}
	}
	slices.Sort(w.result.Sums)
	w.findSignatures()
	return nil
}

// correctSum corrects one checksum file and tells whether it changed.
func (w *rewriter) correctSum(s sumFile, sums *sumCache) (changed bool, err error) {
	r := w.newContent(s.node.file)
	text, err := io.ReadAll(r)
	if err != nil {
		return false, err
	}
	for _, l := range s.lines(w.im, text) {
		if l.node.file == nil || !w.changed[l.node.file] || l.node.file == s.node.file {
			continue
		}
		right, err := sums.right(l)
		if err != nil {
			return false, err
		}
		if right == "" {
			w.stale(s, l)
			continue
		}
		if !strings.EqualFold(right, string(l.digest)) {
			copy(l.digest, right)
			changed = true
		}
	}
	if !changed {
		return false, nil
	}
	w.changed[s.node.file] = true
	sums.forget(s.node.file)
	if !slices.Contains(w.result.Sums, s.path) {
		w.result.Sums = append(w.result.Sums, s.path)
	}
	return true, w.putFile(s.node.file, text)
}

// stale notes a checksum file whose line for a replaced file is not what it should have been.
func (w *rewriter) stale(s sumFile, l sumLine) {
	if w.replaced[l.node.file] != nil && !slices.Contains(w.result.Stale, s.path) {
		w.result.Stale = append(w.result.Stale, s.path)
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
func (w *rewriter) findSignatures() {
	w.im.root.walk("", func(p string, n *node9660) {
		if !isSignature(n.name) || w.isDropped(n) {
			return
		}
		for signed := p; isSignature(signed) || path.Ext(signed) == ".cms"; {
			signed = strings.TrimSuffix(signed, path.Ext(signed))
			if of, err := w.im.lookup("signed", signed, true); err == nil && of.file != nil && w.changed[of.file] {
				w.result.Stale = append(w.result.Stale, p)
				return
			}
		}
	})
	slices.Sort(w.result.Stale)
}

// sumCache keeps digests: several files may name the same large one.
type sumCache struct {
	w     *rewriter
	known map[sumKey]string
}

type sumKey struct {
	file *fileExtents
	hash crypto.Hash
	new  bool
}

// right is the digest that a line should have, or "" if the one it had was none of the old content's.
func (c *sumCache) right(l sumLine) (string, error) {
	hash, ok := digests[len(l.digest)/2]
	if !ok || len(l.digest)%2 != 0 {
		return "", nil
	}
	now, err := c.digest(sumKey{l.node.file, hash, true})
	if err != nil || strings.EqualFold(now, string(l.digest)) {
		return now, err
	}
	was, err := c.digest(sumKey{l.node.file, hash, false})
	if err != nil || !strings.EqualFold(was, string(l.digest)) && !c.w.corrected[l.node.file] {
		return "", err
	}
	return now, nil
}

func (c *sumCache) digest(k sumKey) (string, error) {
	if s, ok := c.known[k]; ok {
		return s, nil
	}
	r := c.w.im.content(k.file)
	if k.new {
		r = c.w.newContent(k.file)
	}
	h := k.hash.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{canceledReader{c.w, r}}, c.w.buf); err != nil {
		return "", err
	}
	c.known[k] = hex.EncodeToString(h.Sum(nil))
	return c.known[k], nil
}

// forget drops what is known of a file's new content.
func (c *sumCache) forget(f *fileExtents) {
	for k := range c.known {
		if k.file == f && k.new {
			delete(c.known, k)
		}
	}
	c.w.corrected[f] = true
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
