package iso

import (
	"bytes"
	"encoding/hex"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// SUSE's checksums lie in the primary volume descriptor's application use area, as "key=value" with semicolons between:
// that of the volume, and perhaps one of a partition, "start,blocks,digest" in blocks of 512 bytes. They are
// computed as if the master boot record, the signature and the volume's last "pad" sectors were zeros, and the area
// spaces (openSUSE/checkmedia, mediacheck.c and tagmedia).
const (
	signatureMagic = "7984fc91-a43f-4e45-bf27-6d3aa08b24cf"
	signatureHead  = 64 // bytes that are kept
)

var (
	hasMediaTags = regexp.MustCompile(`(?i)(?:^|;)\s*(?:md5|sha\d+)sum\s*=`)
	mediaTag     = regexp.MustCompile(`(?i)^(\s*((?:md5|sha\d+)sum|partition|pad|signature|fragment count)\s*=\s*)(\S*)\s*$`)
)

// mediaTags are checkmedia's tags while they are renewed.
type mediaTags struct {
	w         *rewriter
	area      int64 // where the application use area is
	volume    int64 // bytes
	pad       int64 // bytes
	signature int64 // where it is in the new image; 0: nowhere
	signed    bool  // its place is not empty
}

// renewMediaTags renews checkmedia's checksums, or lists them as stale. A signature covers them.
func (w *rewriter) renewMediaTags(d *descriptor, volume int64) error {
	text := trimmed(d.raw[applicationUse:][:applicationUseSize])
	if !hasMediaTags.MatchString(text) {
		return nil
	}
	t := &mediaTags{w: w, area: d.pos + applicationUse, volume: volume}
	area, ok, err := t.renewed(strings.Split(text, ";"))
	if err != nil {
		return err
	}
	if !ok {
		w.noteStale("volume descriptor: checkmedia's checksum")
		return nil
	}
	if t.signed {
		w.noteStale("volume descriptor: checkmedia's signature")
	}
	w.result.MediaSum = true
	return w.put(t.area, area)
}

// renewed is the area with new checksums. It is not ok if one cannot be renewed.
func (t *mediaTags) renewed(tags []string) (area []byte, ok bool, err error) {
	var values [][]string // what is ahead of the value, key and value, by the tag's number
	for _, tag := range tags {
		v := mediaTag.FindStringSubmatch(tag)
		if v != nil {
			v[2] = strings.ToLower(v[2])
			if !t.take(v[2], v[3]) {
				return nil, false, nil
			}
		}
		values = append(values, v)
	}
	for i, v := range values {
		if v == nil {
			continue
		}
		value, ok, err := t.value(v[2], v[3])
		if err != nil || !ok {
			return nil, false, err
		}
		tags[i] = v[1] + value
	}
	text := strings.Join(tags, ";")
	area = bytes.Repeat([]byte(" "), applicationUseSize)
	return area, copy(area, text) == len(text), nil
}

// take takes what the checksums depend on, and tells whether they can be renewed.
func (t *mediaTags) take(key, value string) bool {
	n, err := strconv.ParseInt(value, 10, 40)
	switch key {
	case "pad":
		t.pad = n * sectorSize
		return err == nil && n >= 0 && t.pad < t.volume
	case "signature":
		t.signature = t.w.m.start(n * blockSize)
		head := make([]byte, signatureHead+1)
		if err == nil && n > 0 && t.signature%sectorSize == 0 {
			_, err = t.w.dst.ReadAt(head, t.signature)
		}
		t.signed = head[signatureHead] != 0
		return err == nil && strings.HasPrefix(string(head), signatureMagic)
	case "fragment count":
		return err == nil && n == 0
	}
	return true
}

// value is a tag's value for the new image.
func (t *mediaTags) value(key, value string) (string, bool, error) {
	switch key {
	case "pad", "fragment count":
		return value, true, nil
	case "signature":
		return strconv.FormatInt(t.signature/blockSize, 10), true, nil
	case "partition":
		return t.partition(value)
	}
	return t.digest(0, min(t.volume-t.pad, t.w.m.newSize), t.pad, value)
}

// partition is the value for the partition where it is now.
func (t *mediaTags) partition(value string) (string, bool, error) {
	f := strings.Split(value, ",")
	if len(f) != 3 {
		return "", false, nil
	}
	first, err1 := strconv.ParseInt(f[0], 10, 40)
	blocks, err2 := strconv.ParseInt(f[1], 10, 40)
	parts := t.w.im.system.parts
	i := slices.IndexFunc(parts, func(p *diskPartition) bool {
		return p.start == first*blockSize && p.end == (first+blocks)*blockSize
	})
	if err1 != nil || err2 != nil || i < 0 || len(t.w.m.spans) == 0 { // the last: the image was not made of the old one
		return "", false, nil
	}
	start, end := t.w.m.start(parts[i].start), t.w.m.end(parts[i].end, !parts[i].fs)
	if start < 0 || end <= start || end > t.w.m.newSize {
		return "", false, nil
	}
	digest, ok, err := t.digest(start, end-start, 0, f[2])
	return strings.Join([]string{strconv.FormatInt(start/blockSize, 10), strconv.FormatInt((end-start)/blockSize, 10), digest}, ","), ok, err
}

// digest is that of n bytes of the new image and pad zeros, by the algorithm of an old one.
func (t *mediaTags) digest(start, n, pad int64, old string) (string, bool, error) {
	hash, ok := digests[len(old)/2]
	if _, err := hex.DecodeString(old); err != nil || !ok {
		return "", false, nil
	}
	h := hash.New()
	whole := io.MultiReader(io.NewSectionReader(t, start, n), io.LimitReader(zeros{}, pad))
	_, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{canceledReader{t.w, whole}}, t.w.buf)
	return hex.EncodeToString(h.Sum(nil)), true, err
}

// ReadAt reads the new image without what is no part of the checksums.
func (t *mediaTags) ReadAt(b []byte, off int64) (int, error) {
	n, err := t.w.dst.ReadAt(b, off)
	fill(b[:n], -off, blockSize, 0)
	fill(b[:n], t.area-off, applicationUseSize, ' ')
	if t.signature > 0 {
		fill(b[:n], t.signature+signatureHead-off, sectorSize-signatureHead, 0)
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
