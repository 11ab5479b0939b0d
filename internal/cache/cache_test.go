package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// warned are the warnings of a store.
type warned struct {
	mu    sync.Mutex
	texts []string
}

func (w *warned) add(msg string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, msg)
}

// want checks that there is one warning for each of the parts, in order.
func (w *warned) want(t testing.TB, parts ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	same := len(w.texts) == len(parts)
	for i := 0; same && i < len(parts); i++ {
		same = strings.Contains(w.texts[i], parts[i])
	}
	if !same {
		t.Errorf("warnings %q, want %q", w.texts, parts)
	}
}

// open opens a store until the test's end.
func open(t testing.TB, dir string, limit int64) (*Store, *warned) {
	t.Helper()
	w := &warned{}
	s, err := Open(dir, limit, w.add)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, w
}

func key(i int) Key { return sha256.Sum256(fmt.Append(nil, i)) }

// content is a function of the key.
func content(k Key, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(k).Read(b)
	return b
}

// file is a blob's path on the host.
func file(s *Store, kind string, k Key) string { return filepath.Join(s.dir, blobName(kind, k)) }

// temps are the temporary files there are.
func temps(t testing.TB, s *Store) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "*/*/"+tempPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestLoadReturnsWhatSaveGot(t *testing.T) {
	s, w := open(t, filepath.Join(t.TempDir(), "new/cache"), 0)
	if fi, err := os.Stat(s.dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", fi, err)
	}
	buf := make([]byte, 0, 1<<20)
	for i, size := range []int{0, 1, 100, 4096, 1 << 20, 1<<20 + 1} {
		want := content(key(i), size)
		if s.Load("block", key(i), buf) != nil {
			t.Errorf("blob %d is there before it is saved", i)
		}
		s.Save("block", key(i), want[:size/3], nil, want[size/3:])
		for _, b := range [][]byte{nil, buf} {
			got := s.Load("block", key(i), b)
			if got == nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes: got %d", size, len(got))
			}
			if 0 < size && size <= cap(b) && &got[0] != &b[:1][0] {
				t.Errorf("%d bytes are not in the buffer", size)
			}
		}
	}
	if s.Load("tree", key(1), nil) != nil {
		t.Error("a blob of another kind is found")
	}
	w.want(t)
}

// A blob that another process replaces, or that many save at once, is whole.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for p := range 4 {
		s, w := open(t, dir, 0)
		wg.Go(func() {
			var buf []byte
			for i := range 200 {
				k := key(i % 20)
				s.Save("block", k, content(k, 20000+i%20))
				if got := s.Load("block", k, buf[:0]); got != nil {
					if buf = got; !bytes.Equal(got, content(k, 20000+i%20)) {
						t.Errorf("blob %d is not what was saved", i)
					}
				}
				if p == 0 && i%20 == 0 {
					if _, err := s.GC(context.Background(), 100000); err != nil {
						t.Error(err)
					}
				}
			}
			w.want(t)
		})
	}
	wg.Wait()
	s, _ := open(t, dir, 0)
	if res, err := s.Verify(context.Background(), nil); err != nil || len(res.Damaged) > 0 || res.Blobs == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if found := temps(t, s); len(found) > 0 {
		t.Errorf("left behind: %q", found)
	}
}

// What one process removes while another looks at it is no error of either.
func TestUpkeepAtOnce(t *testing.T) {
	dir := t.TempDir()
	for range 5 {
		s, _ := open(t, dir, 0)
		for i := range 500 {
			k := key(i)
			k[0] = 0 // all in one directory, so that they go while it is listed
			s.Save("block", k, content(k, 5000))
		}
		var wg sync.WaitGroup
		for p := range 5 {
			s, w := open(t, dir, 0)
			wg.Go(func() {
				var err error
				switch p {
				case 0, 1:
					_, err = s.GC(context.Background(), 0)
				case 2, 3:
					var res VerifyResult
					if res, err = s.Verify(context.Background(), nil); len(res.Damaged) > 0 {
						t.Errorf("damaged: %q", res.Damaged)
					}
				case 4:
					for range 10 {
						_, e := s.Info(context.Background())
						err = errors.Join(err, e)
					}
				}
				if err != nil {
					t.Error(err)
				}
				w.want(t)
			})
		}
		wg.Wait()
		if info, err := s.Info(context.Background()); err != nil || info.Blobs > 0 {
			t.Errorf("left: %+v, %v", info, err)
		}
	}
}

// damages change a blob's file.
func damages(whole []byte) map[string][]byte {
	m := map[string][]byte{
		"zeros": make([]byte, len(whole)), "empty": {}, "longer": append(slices.Clone(whole), 0),
		"all ones": bytes.Repeat([]byte{0xff}, len(whole)),
	}
	for i := range whole {
		for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
			b := slices.Clone(whole)
			b[i] ^= flip
			m[fmt.Sprintf("byte %d xor %d", i, flip)] = b
		}
		m[fmt.Sprintf("cut at %d", i)] = whole[:i]
		m[fmt.Sprintf("zeros from %d", i)] = append(slices.Clone(whole[:i]), make([]byte, len(whole)-i)...)
	}
	return m
}

func TestDamageIsFound(t *testing.T) {
	s, w := open(t, t.TempDir(), 0)
	want := content(key(1), 60)
	s.Save("block", key(1), want)
	whole, err := os.ReadFile(file(s, "block", key(1)))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, b := range damages(whole) {
		if bytes.Equal(b, whole) {
			continue
		}
		n++
		if err := os.WriteFile(file(s, "block", key(1)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.Load("block", key(1), nil); got != nil {
			t.Errorf("%s: loaded %d bytes", name, len(got))
		}
		if _, err := os.Lstat(file(s, "block", key(1))); !os.IsNotExist(err) {
			t.Errorf("%s: still there: %v", name, err)
		}
	}
	w.want(t, "removed; it is made again", "removed", "removed")
	s.Save("block", key(1), want)
	if !bytes.Equal(s.Load("block", key(1), nil), want) {
		t.Error("not saved again")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w.want(t, "removed", "removed", "removed", fmt.Sprintf("and %d more", n-maxWarnings))
}

// What is in a blob's place is another's.
func TestSwapped(t *testing.T) {
	s, w := open(t, t.TempDir(), 0)
	s.Save("block", key(1), []byte("one"))
	s.Save("block", key(2), []byte("two"))
	s.Save("tree", key(1), []byte("tree"))
	if err := os.Rename(file(s, "block", key(2)), file(s, "block", key(1))); err != nil {
		t.Fatal(err)
	}
	if got := s.Load("block", key(1), nil); got != nil {
		t.Errorf("another key's: %q", got)
	}
	if err := os.Rename(file(s, "tree", key(1)), file(s, "block", key(1))); err != nil {
		t.Fatal(err)
	}
	if got := s.Load("block", key(1), nil); got != nil {
		t.Errorf("another kind's: %q", got)
	}
	w.want(t, "another blob's", "another blob's")
}

// The least recently used go first, those from a time to come before them.
func TestGC(t *testing.T) {
	s, w := open(t, t.TempDir(), 0)
	now := time.Now()
	for i := range 10 {
		s.Save("block", key(i), content(key(i), 1000-headerSize))
		at := now.Add(time.Duration(i-20) * time.Hour)
		if i == 7 {
			at = now.AddDate(10, 0, 0)
		}
		if err := os.Chtimes(file(s, "block", key(i)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	s.Load("block", key(0), nil) // is the youngest now
	there := func() (all []int) {
		for i := range 10 {
			if _, err := os.Stat(file(s, "block", key(i))); err == nil {
				all = append(all, i)
			}
		}
		return all
	}
	for _, c := range []struct {
		limit int64
		left  []int
	}{
		{10000, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{9999, []int{0, 1, 2, 3, 4, 5, 6, 8, 9}},
		{5500, []int{0, 5, 6, 8, 9}},
		{1000, []int{0}},
		{0, nil},
	} {
		r, err := s.GC(context.Background(), c.limit)
		if got := there(); err != nil || !slices.Equal(got, c.left) || r.Left.Blobs != int64(len(got)) || r.Left.Bytes > c.limit {
			t.Errorf("limit %d: left %v, want %v; %+v, %v", c.limit, got, c.left, r, err)
		}
	}
	w.want(t)
}

// A clock that went back makes blobs younger than now; using them sets that right.
func TestUseSetsTime(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	for _, age := range []time.Duration{-1000 * time.Hour, 1000 * time.Hour, 30 * time.Minute} {
		s.Save("block", key(1), []byte("one"))
		at := time.Now().Add(-age)
		if err := os.Chtimes(file(s, "block", key(1)), at, at); err != nil {
			t.Fatal(err)
		}
		s.Load("block", key(1), nil)
		fi, err := os.Stat(file(s, "block", key(1)))
		if err != nil {
			t.Fatal(err)
		}
		if changed := fi.ModTime().Sub(at).Abs() > time.Second; changed != (age.Abs() > usedStep) {
			t.Errorf("used %v ago: time %v became %v", age, at, fi.ModTime())
		}
	}
}

// Close holds the limit, whoever filled the cache; without a change it does not look.
func TestCloseTrims(t *testing.T) {
	dir := t.TempDir()
	other, _ := open(t, dir, 1<<20)
	for i := range 100 {
		other.Save("block", key(i), content(key(i), 1000-headerSize))
	}
	count := func() (Info, error) {
		s, _ := open(t, dir, 0)
		return s.Info(context.Background())
	}
	reader, _ := open(t, dir, 20000)
	reader.Load("block", key(1), nil)
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := count(); err != nil || info.Blobs != 100 || info.Bytes != 100000 || info.Kinds["block"].Blobs != 100 {
		t.Errorf("after reading: %+v, %v", info, err)
	}
	writer, _ := open(t, dir, 20000)
	writer.Save("tree", key(1), content(key(1), 500-headerSize))
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := count(); err != nil || info.Bytes > 18000 || info.Bytes < 17000 {
		t.Errorf("after writing: %+v, %v", info, err)
	}
}

// More than the limit is not written only to be removed at the end.
func TestSaveStopsAtLimit(t *testing.T) {
	s, w := open(t, t.TempDir(), 10000)
	for i := range 30 {
		s.Save("block", key(i), content(key(i), 1000-headerSize))
	}
	w.want(t, "more than the limit of 10000 bytes")
	if info, err := s.Info(context.Background()); err != nil || info.Bytes != 9000 {
		t.Errorf("%+v, %v", info, err)
	}
	s.Save("tree", key(1), make([]byte, MaxBlob+1))
	if got := s.Load("tree", key(1), nil); got != nil {
		t.Errorf("%d bytes were kept", len(got))
	}
	s, w = open(t, t.TempDir(), 0)
	s.Save("tree", key(1), make([]byte, MaxBlob+1))
	s.Save("tree", key(2), []byte("two"))
	w.want(t, "the largest blob")
	if s.Load("tree", key(1), nil) != nil || s.Load("tree", key(2), nil) == nil {
		t.Error("the wrong one was kept")
	}
}

// A kind is a directory's name.
func TestKinds(t *testing.T) {
	s, w := open(t, t.TempDir(), 0)
	for _, kind := range []string{"", "..", "a/b", "Block", "kindofseventeenab"} {
		if got := s.Load(kind, key(1), nil); got != nil {
			t.Errorf("%q: %q", kind, got)
		}
		s, w := open(t, t.TempDir(), 0)
		s.Save(kind, key(1), []byte("one"))
		w.want(t, "no such kind")
	}
	w.want(t, "no such kind", "no such kind", "no such kind")
	s.Save("kindofsixteenabc", key(1), []byte("one"))
	if got := s.Load("kindofsixteenabc", key(1), nil); string(got) != "one" {
		t.Errorf("%q", got)
	}
}

// FuzzLoad: what a file holds is either a blob as Save writes it, or nothing.
func FuzzLoad(f *testing.F) {
	sealed := func(kind string, data string) []byte {
		return append(sealedHeader(kind, key(1), [][]byte{[]byte(data)}), data...)
	}
	for _, kind := range []string{"block", "tree"} {
		f.Add(sealed(kind, ""))
		f.Add(sealed(kind, "some content"))
	}
	f.Add([]byte(magic))
	s, err := Open(f.TempDir(), 0, nil)
	if err != nil {
		f.Fatal(err)
	}
	s.Save("block", key(1), nil) // makes the directory
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(file(s, "block", key(1)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		got := s.Load("block", key(1), nil)
		if got != nil && !bytes.Equal(b, sealed("block", string(got))) {
			t.Errorf("%q gives %q", b, got)
		}
		if got == nil && len(b) >= headerSize && bytes.Equal(b, sealed("block", string(b[headerSize:]))) {
			t.Errorf("%q is not loaded", b)
		}
	})
}

// A file that is locked is being written.
func TestStaleTemporaryFiles(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	s.Save("block", key(1), []byte("one"))
	f, temp, err := s.create(filepath.Dir(blobName("block", key(1))))
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(file(s, "block", key(1))), tempPrefix+"left")
	if err := os.WriteFile(left, []byte("of a killed process"), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Info(context.Background()); err != nil || info.Temporary.Blobs != 2 || info.Blobs != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	r, err := s.GC(context.Background(), 1<<20)
	if err != nil || r.Temporary.Blobs != 1 || r.Blobs != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if found := temps(t, s); len(found) != 1 || filepath.Join(s.dir, temp) != found[0] {
		t.Errorf("left: %q", found)
	}
	f.Close()
	if r, err := s.GC(context.Background(), 1<<20); err != nil || r.Temporary.Blobs != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestVerify(t *testing.T) {
	s, w := open(t, t.TempDir(), 0)
	for i := range 20 {
		s.Save("block", key(i), content(key(i), 1000))
	}
	b, err := os.ReadFile(file(s, "block", key(3)))
	if err != nil {
		t.Fatal(err)
	}
	b[500] ^= 1
	if err := os.WriteFile(file(s, "block", key(3)), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file(s, "block", key(5)), file(s, "block", key(4))+"x"); err != nil {
		t.Fatal(err)
	}
	var last, total int64
	res, err := s.Verify(context.Background(), func(d, all int64) { last, total = d, all })
	if err != nil || res.Blobs != 19 || len(res.Damaged) != 1 || last != total || total == 0 {
		t.Errorf("%+v, %v; progress %d of %d", res, err, last, total)
	}
	if want := blobName("block", key(3)) + ": damaged, removed"; len(res.Damaged) != 1 || res.Damaged[0] != want {
		t.Errorf("damaged: %q, want %q", res.Damaged, want)
	}
	if res, err = s.Verify(context.Background(), nil); err != nil || len(res.Damaged) != 0 {
		t.Errorf("again: %+v, %v", res, err)
	}
	w.want(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Verify(ctx, nil); err != context.Canceled {
		t.Errorf("interrupted: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", filepath.Join(dir, "file"), filepath.Join(dir, "file/below")} {
		if s, err := Open(bad, 0, nil); err == nil {
			s.Close()
			t.Errorf("%q can be opened", bad)
		}
	}
	if _, err := Open(dir, -1, nil); err == nil {
		t.Error("a negative limit")
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, w := open(t, dir, 0)
	w.want(t, "every user may write to it")
}

// The cache goes while it is in use.
func TestRemovedDirectory(t *testing.T) {
	s, w := open(t, filepath.Join(t.TempDir(), "cache"), 0)
	s.Save("block", key(1), []byte("one"))
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if got := s.Load("block", key(1), nil); got != nil {
		t.Errorf("loaded %q", got)
	}
	w.want(t)
	s.Save("block", key(1), []byte("one"))
	s.Save("block", key(2), []byte("two"))
	w.want(t, "nothing more is kept")
	if info, err := s.Info(context.Background()); err != nil || info.Blobs != 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

// A kernel or a sandbox without openat2 costs time, and nothing else.
func TestOpenSlowly(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := bytes.Repeat([]byte("content"), 1000)
	s.Save("block", Key{1}, data)
	name := blobName("block", Key{1})
	old := time.Now().Add(-100 * usedStep).Truncate(time.Second)
	for _, slow := range []bool{false, true} {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
		if slow {
			_ = s.top.Close()
			s.top = nil
		}
		if f, ok := s.openBlob(name); ok == slow && runtime.GOOS == "linux" {
			t.Errorf("opened by one call: %v", ok)
		} else if ok {
			f.Close()
		}
		got, used, err := s.read("block", Key{1}, nil)
		if err != nil || !bytes.Equal(got, data) || !used.Equal(old) {
			t.Errorf("%d bytes, last used %v, not %v: %v", len(got), used, old, err)
		}
		if got := s.Load("block", Key{2}, nil); got != nil {
			t.Errorf("a blob that is not there has %d bytes", len(got))
		}
	}
}
