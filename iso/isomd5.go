package iso

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"io"
	"strconv"
)

// isomd5sum's checksum lies in the primary volume descriptor's application use area, as text: the MD5 of the image
// without its last sectors, as if the area were blank; and for places in between, the first digits of the bytes of
// the MD5 up to there (isomd5sum, libimplantisomd5.c and libcheckisomd5.c).
const (
	applicationUse     = 883
	applicationUseSize = 512
	mediaSumHash       = "ISO MD5SUM = "
	mediaSumSkip       = "SKIPSECTORS = "
	mediaSumFragments  = "FRAGMENT SUMS = "
	mediaSumCount      = "FRAGMENT COUNT = "
	mediaSumDigits     = 60 // of all fragments together
	mediaSumBuffer     = 16 * sectorSize
)

// mediaSum is where the parts of the checksum are in the area.
type mediaSum struct {
	area      []byte
	hash      int
	fragments int // 0 if there are none
	count     int64
	skip      int64 // sectors
}

// parseMediaSum finds a checksum that isomd5sum has implanted.
func parseMediaSum(descriptor []byte) (m mediaSum, ok bool) {
	m.area = bytes.Clone(descriptor[applicationUse:][:applicationUseSize])
	at := func(key string, n int) int {
		i := bytes.Index(m.area, []byte(key))
		if i < 0 || i+len(key)+n > len(m.area) {
			return 0
		}
		return i + len(key)
	}
	m.hash, m.fragments = at(mediaSumHash, 2*md5.Size), at(mediaSumFragments, mediaSumDigits)
	m.skip, m.count = m.number(at(mediaSumSkip, 1)), m.number(at(mediaSumCount, 1))
	if m.count < 1 || m.count > mediaSumDigits {
		m.fragments = 0
	}
	return m, m.hash > 0 && m.skip >= 0
}

// number is the number at a place in the area, up to a semicolon, or -1.
func (m *mediaSum) number(at int) int64 {
	text, _, ok := bytes.Cut(m.area[at:], []byte(";"))
	n, err := strconv.ParseInt(string(text), 10, 32)
	if at == 0 || !ok || err != nil {
		return -1
	}
	return n
}

// renewMediaSum computes isomd5sum's or checkmedia's checksum of the new image, if the old one has one.
func (w *rewriter) renewMediaSum() error {
	d := w.im.descriptors[0]
	m, ok := parseMediaSum(d.raw)
	if !w.changes {
		return nil
	}
	raw := make([]byte, sectorSize)
	if _, err := w.dst.ReadAt(raw, d.pos); err != nil {
		return err
	}
	volume := int64(be.Uint32(raw[84:])) * sectorSize
	if !ok {
		return w.renewMediaTags(d, volume)
	}
	held, err := w.mediaSumHeld(d, m)
	if err != nil {
		return err
	}
	if !held { // a new one would hide it
		w.noteStale("volume descriptor: isomd5sum's checksum, which did not hold before either")
		return nil
	}
	size := min(volume, w.m.newSize) - m.skip*sectorSize
	if err := w.sumMedia(w.dst, &m, size, d.pos+applicationUse); err != nil {
		return err
	}
	w.result.MediaSum = true
	return w.put(d.pos+applicationUse, m.area)
}

// mediaSumHeld tells whether the old image's checksum is right.
func (w *rewriter) mediaSumHeld(d *descriptor, m mediaSum) (bool, error) {
	was := m.area
	m.area = bytes.Clone(was)
	size := min(int64(be.Uint32(d.raw[84:]))*sectorSize, w.im.size) - m.skip*sectorSize
	err := w.sumMedia(w.im.r, &m, size, d.pos+applicationUse)
	return bytes.EqualFold(m.area[m.hash:][:2*md5.Size], was[m.hash:][:2*md5.Size]), err
}

// sumMedia puts the checksum of an image's first size bytes into m, whose area lies at pos.
func (w *rewriter) sumMedia(r io.ReaderAt, m *mediaSum, size, pos int64) error {
	sum := md5.New()
	buf := make([]byte, mediaSumBuffer)
	digits := m.area[m.fragments:][:mediaSumDigits]
	each := int64(0)
	if m.fragments > 0 {
		each = size / (m.count + 1)
	}
	last, done := int64(0), 0
	for off := int64(0); off < size; off += mediaSumBuffer {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(size-off, mediaSumBuffer)]
		if _, err := r.ReadAt(b, off); err != nil && err != io.EOF {
			return err
		}
		fill(b, pos-off, applicationUseSize, ' ')
		sum.Write(b)
		if each > 0 && off/each != last {
			last = off / each
			now := sum.Sum(nil)
			for _, c := range now[:min(mediaSumDigits/m.count, int64(len(now)))] {
				if done < len(digits) {
					digits[done] = strconv.FormatUint(uint64(c), 16)[0]
					done++
				}
			}
		}
	}
	hex.Encode(m.area[m.hash:], sum.Sum(nil))
	return nil
}

// fill fills n bytes, which begin at a position relative to b.
func fill(b []byte, at, n int64, with byte) {
	for i := max(at, 0); i < min(at+n, int64(len(b))); i++ {
		b[i] = with
	}
}
