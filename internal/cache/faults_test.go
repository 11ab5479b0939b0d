//go:build linux

package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isopress/isopress/internal/testenv"
)

// childDir is set in a process that saves to that directory until it is killed.
const childDir = "ISOPRESS_TEST_CACHE_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		saveForEver(dir)
	}
	os.Exit(m.Run())
}

const childKeys = 64

// childBlob is what the child saves under a key: most are large, so that it is mostly
// killed while it writes.
func childBlob(i int) (Key, []byte) {
	return key(i), content(key(i), 1<<20>>(i%4)+i)
}

func saveForEver(dir string) {
	s, err := Open(dir, 0, func(msg string) { fmt.Println(msg) })
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				k, data := childBlob(rand.IntN(childKeys))
				s.Save("block", k, data[:len(data)/2], data[len(data)/2:])
			}
		})
	}
	fmt.Println("saving")
	wg.Wait()
}

// killedChildren starts two processes that save and kills them a little later.
func killedChildren(t *testing.T, dir string) {
	t.Helper()
	var wg sync.WaitGroup
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			line := make([]byte, 100)
			n, _ := out.Read(line)
			if string(line[:n]) != "saving\n" {
				t.Errorf("child: %q", line[:n])
			}
			time.Sleep(time.Duration(rand.IntN(40000)) * time.Microsecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	wg.Wait()
}

// Whatever moment a process is killed at, no blob is torn.
func TestKill(t *testing.T) {
	dir, left := t.TempDir(), int64(0)
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		killedChildren(t, dir)
		s, w := open(t, dir, 0)
		res, err := s.Verify(context.Background(), nil)
		if err != nil || len(res.Damaged) > 0 {
			t.Fatalf("%+v, %v", res, err)
		}
		r, err := s.GC(context.Background(), 1<<40)
		if found := temps(t, s); err != nil || len(found) > 0 || r.Blobs > 0 {
			t.Fatalf("%v: %+v, left %q", err, r, found)
		}
		left += r.Temporary.Blobs
		w.want(t)
	}
	s, _ := open(t, dir, 0)
	found := 0
	for i := range childKeys {
		k, want := childBlob(i)
		if got := s.Load("block", k, nil); got != nil {
			if found++; !bytes.Equal(got, want) {
				t.Errorf("blob %d has other bytes", i)
			}
		}
	}
	if found == 0 {
		t.Error("nothing was saved")
	}
	t.Logf("%d blobs, %d temporary files were left", found, left)
}

// mount mounts a tmpfs until the test's end.
func mount(t testing.TB, size string) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	s, w := open(t, mount(t, "1M"), 0)
	const n = 40
	for i := range n {
		s.Save("block", key(i), content(key(i), 64<<10))
	}
	w.want(t, "nothing more is kept: write ")
	kept := 0
	for i := range n {
		if got := s.Load("block", key(i), nil); got != nil {
			if kept++; !bytes.Equal(got, content(key(i), 64<<10)) {
				t.Errorf("blob %d has other bytes", i)
			}
		}
	}
	if kept == 0 || kept == n || len(temps(t, s)) > 0 {
		t.Errorf("%d kept, temporary files %q", kept, temps(t, s))
	}
	w.want(t, "no space left on device")
}

func TestReadOnly(t *testing.T) {
	dir := mount(t, "1M")
	s, _ := open(t, dir, 0)
	s.Save("block", key(1), []byte("one"))
	s.Save("block", key(2), []byte("two"))
	if err := os.WriteFile(file(s, "block", key(2)), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-100 * time.Hour)
	if err := os.Chtimes(file(s, "block", key(1)), old, old); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s, w := open(t, dir, 0)
	for range 2 {
		if got := s.Load("block", key(1), nil); string(got) != "one" {
			t.Errorf("loaded %q", got)
		}
		s.Save("block", key(3), []byte("three"))
	}
	w.want(t, "nothing more is kept: mkdirat block/")
	w.want(t, "read-only file system")
	if got := s.Load("block", key(2), nil); got != nil {
		t.Errorf("loaded %q", got)
	}
	w.want(t, "", "cannot be removed: read-only file system")
}

// asNobody runs as a user without root's powers over files.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	testenv.NeedRoot(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestNoPermission(t *testing.T) {
	dir := t.TempDir()
	s, w := open(t, dir, 0)
	s.Save("block", key(1), []byte("one"))
	s.Save("block", key(2), []byte("two"))
	if err := os.Chmod(file(s, "block", key(2)), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-100 * time.Hour)
	if err := os.Chtimes(file(s, "block", key(1)), old, old); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		if got := s.Load("block", key(1), nil); string(got) != "one" {
			t.Errorf("loaded %q", got)
		}
		w.want(t)
		if got := s.Load("block", key(2), nil); got != nil {
			t.Errorf("loaded %q", got)
		}
		w.want(t, "permission denied")
		s.Save("block", key(1), []byte("one"))
		s.Save("block", key(4), []byte("four"))
		w.want(t, "permission denied", "nothing more is kept: openat block/")
		if _, err := s.GC(context.Background(), 0); !errors.Is(err, os.ErrPermission) {
			t.Errorf("gc: %v", err)
		}
		if _, err := s.Verify(context.Background(), nil); !errors.Is(err, os.ErrPermission) {
			t.Errorf("verify: %v", err)
		}
	})
	if got := s.Load("block", key(2), nil); string(got) != "two" {
		t.Errorf("a file that could not be read is lost: %q", got)
	}
}

// hostile are things in a blob's place; path is free, other is a blob's.
var hostile = map[string]func(t *testing.T, path, other string) error{
	"link":          func(_ *testing.T, path, other string) error { return os.Symlink(other, path) },
	"relative link": func(_ *testing.T, path, other string) error { return os.Symlink(filepath.Base(path)+"-copy", path) },
	"outward link":  func(_ *testing.T, path, _ string) error { return os.Symlink("/etc/passwd", path) },
	"circular link": func(_ *testing.T, path, _ string) error { return os.Symlink(filepath.Base(path), path) },
	"FIFO":          func(_ *testing.T, path, _ string) error { return unix.Mkfifo(path, 0o600) },
	"directory":     func(_ *testing.T, path, _ string) error { return os.Mkdir(path, 0o700) },
	"socket": func(t *testing.T, path, _ string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		t.Chdir(filepath.Dir(path)) // a socket's path is short
		return unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Base(path)})
	},
	"huge file": func(_ *testing.T, path, other string) error {
		head := appendHeader(nil, "block", key(1), MaxBlob+1)
		return errors.Join(os.WriteFile(path, head, 0o600), os.Truncate(path, MaxBlob+1+int64(headerSize)))
	},
	"huge length": func(_ *testing.T, path, other string) error {
		return os.WriteFile(path, append(appendHeader(nil, "block", key(1), 1<<62), "crc and some bytes"...), 0o600)
	},
	"negative length": func(_ *testing.T, path, other string) error {
		return os.WriteFile(path, append(appendHeader(nil, "block", key(1), -1), "crc"...), 0o600)
	},
}

// What is in a blob's place is not followed, not waited for, and goes.
func TestHostileFiles(t *testing.T) {
	for name, make := range hostile {
		for _, how := range []string{"load", "verify"} {
			t.Run(name+"/"+how, func(t *testing.T) { hostileFile(t, how, make) })
		}
	}
}

func hostileFile(t *testing.T, how string, make func(t *testing.T, path, other string) error) {
	s, w := open(t, t.TempDir(), 0)
	s.Save("block", key(1), []byte("one"))
	path := file(s, "block", key(1))
	if err := os.Rename(path, path+"-copy"); err != nil {
		t.Fatal(err)
	}
	if err := make(t, path, path+"-copy"); err != nil {
		t.Fatal(err)
	}
	if how == "load" {
		if got := s.Load("block", key(1), nil); got != nil {
			t.Errorf("loaded %q", got)
		}
		w.want(t, "removed; it is made again")
		if strings.Contains(t.Name(), "huge_file") {
			w.want(t, "no file of a blob, with 2684") // before there is memory for it
		}
	} else if res, err := s.Verify(context.Background(), nil); err != nil || len(res.Damaged) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	if b, err := os.ReadFile(path + "-copy"); err != nil || !bytes.HasSuffix(b, []byte("one")) {
		t.Errorf("the other file: %q, %v", b, err)
	}
	s.Save("block", key(1), []byte("one"))
	if got := s.Load("block", key(1), nil); string(got) != "one" {
		t.Errorf("not saved again: %q", got)
	}
}

// A directory with files in a blob's place is not ours to remove.
func TestFullDirectoryInPlace(t *testing.T) {
	s, w := open(t, t.TempDir(), 0)
	precious := filepath.Join(file(s, "block", key(1)), "precious")
	if err := errors.Join(os.MkdirAll(filepath.Dir(precious), 0o700), os.WriteFile(precious, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := s.Load("block", key(1), nil); got != nil {
		t.Errorf("loaded %q", got)
	}
	s.Save("block", key(1), []byte("one"))
	s.Save("block", key(2), []byte("two"))
	w.want(t, "not a file, and cannot be removed: directory not empty", "a directory is in its place")
	if got := s.Load("block", key(2), nil); string(got) != "two" {
		t.Errorf("loaded %q", got)
	}
	if _, err := os.Stat(precious); err != nil || len(temps(t, s)) > 0 {
		t.Errorf("%v, temporary files %q", err, temps(t, s))
	}
	if err := os.RemoveAll(filepath.Dir(precious)); err != nil {
		t.Fatal(err)
	}
}

// Directories that are links, or no directories, are not looked into.
func TestHostileDirectories(t *testing.T) {
	elsewhere, _ := open(t, t.TempDir(), 0)
	elsewhere.Save("block", key(1), []byte("one"))
	theirs := file(elsewhere, "block", key(1))
	sub := filepath.Base(filepath.Dir(theirs))
	for name, make := range map[string]func(dir string) error{
		"kind": func(dir string) error { return os.Symlink(filepath.Join(elsewhere.dir, "block"), dir+"/block") },
		"part": func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/block", 0o700), os.Symlink(filepath.Dir(theirs), dir+"/block/"+sub))
		},
		"FIFO": func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/block", 0o700), unix.Mkfifo(dir+"/block/"+sub, 0o600))
		},
		"kind FIFO": func(dir string) error { return unix.Mkfifo(dir+"/block", 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			s, w := open(t, t.TempDir(), 0)
			if err := make(s.dir); err != nil {
				t.Fatal(err)
			}
			if got := s.Load("block", key(1), nil); got != nil {
				t.Errorf("loaded %q", got)
			}
			s.Save("block", key(1), []byte("mine"))
			if len(w.texts) != 2 || !strings.Contains(w.texts[1], "nothing more is kept") {
				t.Errorf("warnings %q", w.texts)
			}
			r, err := s.GC(context.Background(), 0)
			if err != nil || r.Blobs > 0 || r.Left.Blobs > 0 {
				t.Errorf("%+v, %v", r, err)
			}
			if got := elsewhere.Load("block", key(1), nil); string(got) != "one" {
				t.Errorf("elsewhere: %q", got)
			}
		})
	}
}
