// Package cache keeps blobs by kind and key in a directory, for builds to come.
//
// A blob is a plain file, DIR/KIND/ab/cdef… where abcdef… is the key in hexadecimal.
// Files, and not an embedded store, because several builds write at once and any of them
// may be killed at any moment: a file is written under a temporary name and renamed, so
// that no build waits for another's lock, none can leave behind more than its own
// temporary files, and one damage costs one blob. Nothing is synced to the disk: what a
// power cut tears is found by its checksum, as is any other damage, and a blob that is
// gone is made again.
//
// What a blob holds is checked when it is read, against damage and not against forgery:
// who may write to the directory decides what goes into the images.
package cache

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isopress/isopress/internal/patherror"
)

// DefaultLimit is what a store may hold where nothing else is said, in bytes.
const DefaultLimit = 10 << 30

// MaxBlob is the size of the largest blob, in bytes. What a damaged header can ask
// for is bounded by it.
const MaxBlob = 256 << 20

// usedStep is how exactly is known when a blob was used, which is its file's time of
// modification. A younger one is left alone: setting it takes half as long as the
// rest of Load.
const usedStep = time.Hour

// Key names a blob among those of its kind: a digest of all that decides what it holds.
type Key [32]byte

// Store is an open cache. Its methods may be called from several goroutines, but none
// after Close, and any number of processes may have the same directory open.
type Store struct {
	dir   string
	root  *os.Root
	top   *os.File // the directory itself; nil where it cannot be read
	limit int64
	warnings

	added   atomic.Int64 // bytes of files that Save was given
	stopped atomic.Bool  // nothing is kept any more
	closing sync.Once
}

// Open opens the cache in a directory, which it makes where it is missing, for its user
// alone. The limit is in bytes, 0 for DefaultLimit. warn, if not nil, is told of what is
// wrong with the cache and was worked around, by one goroutine at a time.
func Open(dir string, limit int64, warn func(msg string)) (*Store, error) {
	if dir == "" {
		return nil, errors.New("cache: no directory given")
	}
	if limit < 0 {
		return nil, fmt.Errorf("cache: limit of %d bytes", limit)
	}
	if limit == 0 {
		limit = DefaultLimit
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	s := &Store{dir: dir, root: root, limit: limit, warnings: warnings{dir: dir, tell: warn}}
	s.top, _ = root.Open(".")
	if fi, err := root.Stat("."); err == nil && fi.Mode().Perm()&0o002 != 0 {
		s.warn("open", "every user may write to it, and so decide what the images hold; chmod o-w it")
	}
	return s, nil
}

// Load returns a blob, in buf's memory if it is large enough, or nil where there is none.
// It is nil as well for a damaged blob, which is removed, and for one that cannot be read.
// The blob counts as used.
func (s *Store) Load(kind string, key Key, buf []byte) []byte {
	data, used, err := s.read(kind, key, buf)
	var damage damageError
	switch {
	case err == nil:
		s.touch(blobName(kind, key), used)
		return data
	case errors.As(err, &damage):
		text := s.discard(blobName(kind, key), damage)
		s.warn("damage", "%s; it is made again", text)
	case !errors.Is(err, fs.ErrNotExist):
		s.warn("read", "%v", err)
	}
	return nil
}

// touch marks a blob as used. One that is not ours to mark grows old.
func (s *Store) touch(name string, used time.Time) {
	if now := time.Now(); now.Sub(used).Abs() > usedStep {
		_ = s.root.Chtimes(name, now, now)
	}
}

// discard removes a damaged blob and says what was wrong with it.
func (s *Store) discard(name string, damage error) string {
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%s: %v, and cannot be removed: %v", name, damage, patherror.Bare(err))
	}
	return fmt.Sprintf("%s: %v, removed", name, damage)
}

// Save keeps a blob, given in parts. It replaces one of the same kind and key. After the
// first failure that others would follow, such as a full disk, nothing more is kept, nor
// after as much as Close would leave: the disk never holds more than about twice the limit.
func (s *Store) Save(kind string, key Key, data ...[]byte) {
	if s.stopped.Load() {
		return
	}
	var size int64
	for _, part := range data {
		size += int64(len(part))
	}
	if size > MaxBlob {
		s.warn("large", "%d bytes of kind %s are not kept: the largest blob has %d", size, kind, int64(MaxBlob))
		return
	}
	if size += int64(headerSize); s.added.Add(size) > s.afterTrim() {
		s.stop(fmt.Errorf("what this process makes is more than the limit of %d bytes allows", s.limit))
		return
	}
	err := s.write(kind, key, data)
	switch {
	case errors.Is(err, errPlace):
		s.warn("place", "%v", err)
	case err != nil:
		s.stop(err)
	}
}

// stop ends the keeping.
func (s *Store) stop(err error) {
	if !s.stopped.Swap(true) {
		s.warn("save", "nothing more is kept: %v", err)
	}
}

// afterTrim is how many bytes Close leaves where there are more than the limit.
func (s *Store) afterTrim() int64 { return s.limit - s.limit/10 }

// Close trims the store to its limit if blobs were saved to it, and closes it. Blobs go
// from the least recently used on, until a tenth of the limit is free: not each build has
// to trim.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		if s.added.Load() > 0 {
			err = s.trim()
		}
		s.warnings.end()
		if s.top != nil {
			_ = s.top.Close() // read only: nothing is lost with its error
		}
		err = errors.Join(err, s.root.Close())
	})
	return err
}

// blobName is where a blob lies, beneath the cache's directory.
func blobName(kind string, key Key) string {
	digits := hex.EncodeToString(key[:])
	return kind + "/" + digits[:2] + "/" + digits[2:]
}

// warnings tells of problems, of each kind of them a few times only.
type warnings struct {
	dir  string
	tell func(msg string)

	mu    sync.Mutex
	count map[string]int // by kind of problem
}

const maxWarnings = 3

func (w *warnings) warn(problem, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == nil {
		w.count = map[string]int{}
	}
	w.count[problem]++
	if w.count[problem] <= maxWarnings && w.tell != nil {
		w.tell("cache " + w.dir + ": " + fmt.Sprintf(format, args...))
	}
}

// end tells how many were left out.
func (w *warnings) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	more := 0
	for _, n := range w.count {
		more += max(n-maxWarnings, 0)
	}
	if more > 0 && w.tell != nil {
		w.tell(fmt.Sprintf("cache %s: and %d more of these", w.dir, more))
	}
}

// validKind tells whether a kind can be a directory's name and fits a header.
func validKind(kind string) bool {
	letters := func(r rune) bool { return r < 'a' || r > 'z' }
	return kind != "" && len(kind) <= kindSize && !slices.ContainsFunc([]rune(kind), letters)
}
