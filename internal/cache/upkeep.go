package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

var errLocked = errors.New("locked")

// KindInfo is how much there is of one kind of files.
type KindInfo struct {
	Blobs int64 `json:"blobs"`
	Bytes int64 `json:"bytes"` // of the files, headers included
}

func (k *KindInfo) add(size int64) {
	k.Blobs++
	k.Bytes += size
}

// Info is what a store holds.
type Info struct {
	Dir   string              `json:"dir"`
	Limit int64               `json:"limit"` // bytes
	Blobs int64               `json:"blobs"`
	Bytes int64               `json:"bytes"`
	Kinds map[string]KindInfo `json:"kinds"`
	// Temporary files are of blobs that are being written, or of killed processes.
	Temporary KindInfo `json:"temporary"`
}

// Removed is what GC has removed and left.
type Removed struct {
	KindInfo
	Temporary KindInfo `json:"temporary"` // files of killed processes
	Left      KindInfo `json:"left"`
}

// VerifyResult is what Verify has found.
type VerifyResult struct {
	Blobs   int64    `json:"blobs"` // sound ones
	Bytes   int64    `json:"bytes"`
	Damaged []string `json:"damaged"` // path below the directory, and what was wrong
}

// entry is a blob as the directory shows it.
type entry struct {
	kind string
	key  Key
	size int64
	used time.Time
}

// Info counts what is there. The error is of a directory that cannot be read, or ctx's.
func (s *Store) Info(ctx context.Context) (Info, error) {
	info := Info{Dir: s.dir, Limit: s.limit, Kinds: map[string]KindInfo{}}
	err := s.walk(ctx, func(e entry) {
		k := info.Kinds[e.kind]
		k.add(e.size)
		info.Kinds[e.kind] = k
		info.Blobs++
		info.Bytes += e.size
	}, func(_ string, fi fs.FileInfo) { info.Temporary.add(fi.Size()) })
	return info, err
}

// GC removes blobs from the least recently used on until no more than limit bytes are
// left, and the temporary files of killed processes. What other builds load or save
// meanwhile is safe: a blob that goes is made again.
func (s *Store) GC(ctx context.Context, limit int64) (Removed, error) {
	return s.gc(ctx, limit, limit)
}

// trim is Close's GC.
func (s *Store) trim() error {
	_, err := s.gc(context.Background(), s.limit, s.afterTrim())
	return err
}

// gc removes blobs down to target bytes where there are more than limit.
func (s *Store) gc(ctx context.Context, limit, target int64) (r Removed, err error) {
	var entries []entry
	err = s.walk(ctx, func(e entry) {
		entries = append(entries, e)
		r.Left.add(e.size)
	}, func(name string, fi fs.FileInfo) {
		if s.stale(name, fi) && s.root.Remove(name) == nil {
			r.Temporary.add(fi.Size())
		}
	})
	if err == nil && r.Left.Bytes > limit {
		sortByUse(entries, time.Now())
		err = s.shrink(ctx, entries, target, &r)
	}
	return r, err
}

// shrink removes the first entries, until target bytes are left. The error is of the
// first that cannot be removed; those behind it are tried.
func (s *Store) shrink(ctx context.Context, entries []entry, target int64, r *Removed) (first error) {
	for _, e := range entries {
		if r.Left.Bytes <= target {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := s.root.Remove(blobName(e.kind, e.key))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			first = cmp.Or(first, fmt.Errorf("cache %s: %w", s.dir, err))
			continue
		}
		r.add(e.size)
		r.Left.Blobs--
		r.Left.Bytes -= e.size
	}
	return first
}

// sortByUse puts the least recently used first. Times that are yet to come are of a
// clock that was wrong: those blobs go first, or they would stay for ever.
func sortByUse(entries []entry, now time.Time) {
	future := now.Add(usedStep)
	slices.SortFunc(entries, func(a, b entry) int {
		af, bf := a.used.After(future), b.used.After(future)
		if af != bf {
			if af {
				return -1
			}
			return 1
		}
		return cmp.Or(a.used.Compare(b.used), slices.Compare(a.key[:], b.key[:]), cmp.Compare(a.kind, b.kind))
	})
}

// Verify reads every blob and removes the damaged ones. Progress, if not nil, is told
// the bytes done and in all. The error is of a directory or a file that cannot be read,
// or ctx's.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) (VerifyResult, error) {
	res := VerifyResult{Damaged: []string{}}
	var entries []entry
	var done, total int64
	err := s.walk(ctx, func(e entry) {
		entries = append(entries, e)
		total += e.size
	}, func(string, fs.FileInfo) {})
	var buf []byte
	for _, e := range entries {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			break
		}
		if buf, err = s.verify(e, buf, &res); errors.Is(err, fs.ErrNotExist) {
			err = nil // another process has removed it
		}
		if done += e.size; progress != nil {
			progress(done, total)
		}
	}
	return res, err
}

func (s *Store) verify(e entry, buf []byte, res *VerifyResult) ([]byte, error) {
	data, _, err := s.read(e.kind, e.key, buf)
	var damage damageError
	if errors.As(err, &damage) {
		res.Damaged = append(res.Damaged, s.discard(blobName(e.kind, e.key), damage))
		return buf, nil
	}
	if err != nil {
		return buf, fmt.Errorf("cache %s: %w", s.dir, err)
	}
	res.Blobs++
	res.Bytes += e.size
	return data, nil
}

// walk tells of all blobs and temporary files. Files of other names are none of ours.
func (s *Store) walk(ctx context.Context, blob func(entry), temp func(name string, fi fs.FileInfo)) error {
	kinds, err := s.list(".")
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		if !kind.IsDir() || !validKind(kind.Name()) {
			continue
		}
		dirs, err := s.list(kind.Name())
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !dir.IsDir() || len(dir.Name()) != 2 {
				continue
			}
			if err := s.walkDir(kind.Name(), dir.Name(), blob, temp); err != nil {
				return err
			}
		}
	}
	return nil
}

// walkDir tells of the files of one directory.
func (s *Store) walkDir(kind, dir string, blob func(entry), temp func(string, fs.FileInfo)) error {
	files, err := s.list(kind + "/" + dir)
	if err != nil {
		return err
	}
	for _, d := range files {
		key, isBlob := parseKey(dir, d.Name())
		if !isBlob && !strings.HasPrefix(d.Name(), tempPrefix) {
			continue
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cache %s: %w", s.dir, err)
		}
		if isBlob {
			blob(entry{kind, key, fi.Size(), fi.ModTime()})
		} else {
			temp(kind+"/"+dir+"/"+d.Name(), fi)
		}
	}
	return nil
}

// list reads a directory; one that is gone is empty.
func (s *Store) list(dir string) ([]fs.DirEntry, error) {
	f, err := s.root.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	var entries []fs.DirEntry
	if err == nil {
		defer f.Close()
		entries, err = f.ReadDir(-1)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cache %s: %w", s.dir, err)
	}
	return entries, nil
}
