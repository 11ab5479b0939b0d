package iso

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// sumCorrector corrects the checksum files of a new image: before each the ones that it names.
type sumCorrector struct {
	w     *rewriter
	files map[*fileExtents][]sumFile // by what they hold, all directories that it is in
	begun map[*fileExtents]bool
	done  map[*fileExtents]bool
	open  []openSum

	known map[sumKey]string                       // digests: several files may name the same large one
	old   map[crypto.Hash]map[string]*fileExtents // what digests were right for; nil for several
}

// openSum is a line that names a checksum file which could not be corrected before: it names this one, or lies too deep.
type openSum struct {
	path string
	file *fileExtents
}

type sumKey struct {
	file  *fileExtents
	added *addedFile // in whose stead, or nil
	hash  crypto.Hash
	new   bool
}

func newSumCorrector(w *rewriter, list []sumFile) *sumCorrector {
	c := &sumCorrector{
		w:     w,
		files: make(map[*fileExtents][]sumFile),
		begun: make(map[*fileExtents]bool),
		done:  make(map[*fileExtents]bool),
		known: make(map[sumKey]string),
		old:   make(map[crypto.Hash]map[string]*fileExtents),
	}
	for _, s := range list {
		c.files[s.node.file] = append(c.files[s.node.file], s)
	}
	return c
}

// correct corrects a checksum file, once.
func (c *sumCorrector) correct(f *fileExtents, depth int) error {
	if c.begun[f] || depth > maxSumDepth {
		return nil
	}
	c.begun[f] = true
	for _, s := range c.files[f] {
		if err := c.correctIn(s, depth); err != nil {
			return err
		}
	}
	c.done[f] = true
	return nil
}

// correctIn corrects the lines that name files by where the checksum file is.
func (c *sumCorrector) correctIn(s sumFile, depth int) error {
	f := s.node.file
	r := c.w.newContent(f)
	if r.Size() > maxSumFile { // a replaced one
		c.w.noteStale(s.path)
		return nil
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("iso: %s: %w", s.path, err)
	}
	lines, err := c.lines(s, text)
	if err != nil {
		return err
	}
	changed := false
	for _, l := range lines {
		if l.added == nil {
			if err := c.correct(l.file, depth+1); err != nil {
				return err
			}
		}
		did, err := c.correctLine(s, l)
		if err != nil {
			return err
		}
		changed = changed || did
	}
	if !changed {
		return nil
	}
	c.w.changed[f] = true
	c.w.result.Sums = append(c.w.result.Sums, s.path)
	return c.w.putFile(f, text)
}

// lines are the lines of a checksum file's text that name what has changed or may do so yet.
func (c *sumCorrector) lines(s sumFile, text []byte) (list []sumLine, err error) {
	for line := range bytes.Lines(text) {
		if err := c.w.ctx.Err(); err != nil {
			return nil, err
		}
		digest, name := parseSum(bytes.TrimSuffix(line, []byte("\n")))
		if digest == nil {
			continue
		}
		l := sumLine{digest: digest}
		n, p := s.find(c.w.im, name)
		switch {
		case n != nil && c.w.isDropped(n):
			if l.file, l.added = n.file, c.w.addedAt[p]; l.added != nil {
				list = append(list, l)
			} else { // in a replaced checksum file
				c.w.noteStale(s.path)
			}
			continue
		case n != nil:
			l.file = n.file
		default:
			if l.file, err = c.byDigest(s, digest); err != nil {
				return nil, err
			}
		}
		if l.file != nil && l.file != s.node.file && (c.w.changed[l.file] || c.files[l.file] != nil) {
			list = append(list, l)
		}
	}
	return list, nil
}

// correctLine corrects a line's digest and tells whether it was wrong.
func (c *sumCorrector) correctLine(s sumFile, l sumLine) (bool, error) {
	if l.added == nil && c.files[l.file] != nil && !c.done[l.file] {
		c.open = append(c.open, openSum{s.path, l.file})
		return false, nil
	}
	if l.added == nil && !c.w.changed[l.file] {
		return false, nil
	}
	right, err := c.right(l)
	if right == "" && err == nil && (l.added != nil || c.w.replaced[l.file] != nil) {
		c.w.noteStale(s.path) // it is not what it should have been
	}
	if right == "" || strings.EqualFold(right, string(l.digest)) {
		return false, err
	}
	copy(l.digest, right)
	return true, nil
}

// byDigest returns the replaced file that a digest was right for, whose name is another one than the image has, or nil.
func (c *sumCorrector) byDigest(s sumFile, digest []byte) (*fileExtents, error) {
	hash, ok := digests[len(digest)/2]
	if !ok || len(digest)%2 != 0 {
		return nil, nil
	}
	if c.old[hash] == nil {
		old := make(map[string]*fileExtents)
		for f, k := range c.w.replaced {
			was, err := c.digest(sumKey{f, nil, hash, false})
			if err != nil {
				return nil, fmt.Errorf("iso: %s: %w", k.path, err)
			}
			if _, several := old[was]; several {
				f = nil
			}
			old[was] = f
		}
		c.old[hash] = old
	}
	f, ok := c.old[hash][strings.ToLower(string(digest))]
	if ok && f == nil || f != nil && c.w.replaced[f].content == nil {
		c.w.noteStale(s.path)
		return nil, nil
	}
	return f, nil
}

// right is the digest that a line should have, or "" if the one it had was none of the old content's.
func (c *sumCorrector) right(l sumLine) (string, error) {
	hash, ok := digests[len(l.digest)/2]
	if !ok || len(l.digest)%2 != 0 {
		return "", nil
	}
	now, err := c.digest(sumKey{l.file, l.added, hash, true})
	if err != nil || strings.EqualFold(now, string(l.digest)) {
		return now, err
	}
	was, err := c.digest(sumKey{l.file, nil, hash, false})
	if err != nil || !strings.EqualFold(was, string(l.digest)) {
		return "", err
	}
	return now, nil
}

func (c *sumCorrector) digest(k sumKey) (string, error) {
	if s, ok := c.known[k]; ok {
		return s, nil
	}
	r := c.w.im.content(k.file)
	if k.added != nil {
		r = io.NewSectionReader(c.w.dst, k.added.pos, k.added.size)
	} else if k.new {
		r = c.w.newContent(k.file)
	}
	h := k.hash.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{canceledReader{c.w, r}}, c.w.buf); err != nil {
		return "", err
	}
	c.known[k] = hex.EncodeToString(h.Sum(nil))
	return c.known[k], nil
}
