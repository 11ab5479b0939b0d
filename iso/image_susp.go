package iso

import (
	"io/fs"
	"iter"
	"strings"
	"time"
)

// Bounds of a record's system use entries.
const (
	maxContinuations = 16
	maxSystemUse     = 64 << 10
	maxSkip          = 14 // of a CD-ROM XA
	maxRockName      = 255
	maxRockPath      = 4096 // of Linux, and of links
	maxPathBytes     = 512 << 20
)

// suspInfo is what a record's system use entries say (SUSP 1.12, RRIP 1.12).
type suspInfo struct {
	name      string
	link      string // a symbolic link's target
	mode      uint32 // POSIX; 0 if not said
	modTime   time.Time
	child     int64 // CL: where the directory lies that belongs here; 0 if none
	relocated bool  // RE: it belongs elsewhere
	packed    bool  // ZF or SF
}

// suspPointer is a block number in a continuation area.
type suspPointer struct {
	at     int64
	tree   *tree
	target int64
	dir    bool
}

// findRockRidge looks into the root's own record for SP.
func (t *tree) findRockRidge(rec []byte) {
	for _, at := range []int{0, 14} { // 14 on a CD-ROM XA
		su := rec[min(suStart(ident(rec))+at, len(rec)):]
		if len(su) >= 7 && string(su[:2]) == "SP" && su[4] == 0xBE && su[5] == 0xEF {
			t.rockRidge, t.skip = true, int(su[6])
			return
		}
	}
}

// systemUse is where a record's system use entries begin.
func (t *tree) systemUse(rec []byte, rootSelf bool) int {
	at := suStart(ident(rec))
	if !rootSelf {
		at += t.skip
	}
	return min(at, len(rec))
}

// suspReader goes through the entries of one record.
type suspReader struct {
	im   *Image
	t    *tree
	info *suspInfo
	next piece // the continuation area to come
	part bool  // SL: the last component goes on
}

func (im *Image) readSUSP(t *tree, rec []byte, rootSelf bool) (*suspInfo, error) {
	r := suspReader{im: im, t: t, info: &suspInfo{}}
	at := t.systemUse(rec, rootSelf)
	if rootSelf && string(rec[at:min(at+2, len(rec))]) != "SP" {
		at = min(at+14, len(rec))
	}
	if err := r.area(rec[at:], -1); err != nil {
		return nil, err
	}
	total := int64(0)
	for n := 0; r.next.size > 0; n++ {
		p := r.next
		total += p.size
		im.suspBytes += p.size
		if n == maxContinuations || total > maxSystemUse || im.suspBytes > maxDirectoryBytes {
			return nil, damaged("a record's system use entries have no end")
		}
		b, err := im.bytesAt("continuation area", p.pos, p.size)
		if err != nil {
			return nil, err
		}
		r.next = piece{}
		if err := r.area(b, p.pos); err != nil {
			return nil, err
		}
	}
	return r.info, nil
}

// area reads the entries of a record, or of a continuation area at pos.
func (r *suspReader) area(b []byte, pos int64) error {
	for at, e := range suspEntries(b) {
		sig := string(e[:2])
		if sig == "ST" {
			r.next = piece{}
			return nil
		}
		if target := r.target(sig, e); target != 0 && pos >= 0 {
			r.im.tags = append(r.im.tags, suspPointer{pos + int64(at) + 4, r.t, target, sig != "CE"})
		}
		if err := r.entry(sig, e); err != nil {
			return err
		}
		if len(r.info.name) > maxRockName || len(r.info.link) > maxRockPath {
			return damaged("a name of more than %d bytes, or a link of more than %d", maxRockName, maxRockPath)
		}
	}
	return nil
}

// target is what an entry points to, or 0.
func (r *suspReader) target(sig string, e []byte) int64 {
	if (sig == "CE" || sig == "CL" || sig == "PL") && len(e) >= 12 {
		return r.t.block(le.Uint32(e[4:]))
	}
	return 0
}

func (r *suspReader) entry(sig string, e []byte) error {
	info := r.info
	switch {
	case sig == "CE" && len(e) >= 28:
		off, n := int64(le.Uint32(e[12:])), int64(le.Uint32(e[20:]))
		r.next = piece{r.target(sig, e) + off, n}
		return r.im.within("continuation area", r.next.pos, n)
	case sig == "NM" && len(e) >= 5 && e[4]&0x06 == 0:
		info.name += string(e[5:])
	case sig == "PX" && len(e) >= 12:
		info.mode = le.Uint32(e[4:])
	case sig == "TF" && len(e) >= 5:
		info.modTime = tfModTime(e)
	case sig == "SL" && len(e) >= 5:
		r.link(e[5:])
	case sig == "CL" && len(e) >= 12:
		info.child = r.target(sig, e)
	case sig == "RE":
		info.relocated = true
	case sig == "ZF", sig == "SF":
		info.packed = true
	}
	return nil
}

// link adds the components of an SL entry to the link's target (RRIP 4.1.3).
func (r *suspReader) link(b []byte) {
	for len(b) >= 2 && 2+int(b[1]) <= len(b) {
		flags, text := b[0], string(b[2:][:b[1]])
		b = b[2+len(text):]
		switch {
		case flags&0x02 != 0:
			text = "."
		case flags&0x04 != 0:
			text = ".."
		case flags&0x08 != 0:
			r.info.link = "/"
			continue
		}
		if r.info.link != "" && !r.part && !strings.HasSuffix(r.info.link, "/") {
			text = "/" + text
		}
		r.info.link += text
		r.part = flags&0x01 != 0
	}
}

// tfModTime is TF's time of modification, the second of those that its flags announce.
func tfModTime(e []byte) time.Time {
	flags, at, n := e[4], 5, 7
	if flags&0x80 != 0 {
		n = 17 // the long form, of digits
	}
	if flags&0x01 != 0 {
		at += n
	}
	if flags&0x02 == 0 || n == 17 || at+n > len(e) {
		return time.Time{}
	}
	return recordTime(e[at:])
}

// recordTime decodes the date of directory records (ECMA-119 9.1.5).
func recordTime(b []byte) time.Time {
	zone := time.FixedZone("", int(int8(b[6]))*15*60)
	return time.Date(1900+int(b[0]), time.Month(b[1]), int(b[2]), int(b[3]), int(b[4]), int(b[5]), 0, zone).UTC()
}

// posixMode is a Rock Ridge mode as Go has it.
func posixMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	switch mode & 0o170000 {
	case 0o040000:
		m |= fs.ModeDir
	case 0o120000:
		m |= fs.ModeSymlink
	case 0o010000:
		m |= fs.ModeNamedPipe
	case 0o140000:
		m |= fs.ModeSocket
	case 0o020000:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case 0o060000:
		m |= fs.ModeDevice
	}
	return m
}

// suspEntries are the system use entries in b with their positions, up to what is none.
func suspEntries(b []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for at := 0; len(b)-at >= 4; {
			n := int(b[at+2])
			if n < 4 || n > len(b)-at || !yield(at, b[at:at+n]) {
				return
			}
			at += n
		}
	}
}
