package iso

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var longText = strings.Repeat("# a line that was added\n", 1000)

// edits are changes of all kinds at once.
func edits(rockRidge bool) Changes {
	ch := Changes{
		Replace: map[string]Content{
			squashfs:                contentOf(pattern("new", 1<<20+5)),
			"isolinux/isolinux.cfg": contentOf([]byte(longText)),
		},
		Remove: []string{"zz/behind", "live/filesystem.size"},
		Add: []Addition{
			{Path: "live/filesystem.size", Content: contentOf([]byte("1\n")), ModTime: testTime},
			{Path: "new/sub/dir/file.txt", Content: contentOf([]byte(longText)), Mode: 0o755, ModTime: testTime},
			{Path: "new/sub/other", Content: contentOf(nil), ModTime: testTime},
			{Path: "0-first", Content: contentOf(pattern("first", 5000)), ModTime: testTime},
		},
	}
	for i := range 100 {
		ch.Add = append(ch.Add, Addition{Path: fmt.Sprintf("many/more-%03d.dat", i), Content: contentOf([]byte{byte(i)}), ModTime: testTime})
	}
	if rockRidge {
		ch.Remove = append(ch.Remove, "a/b/c/Long Name "+strings.Repeat("x", 180)+".txt")
		ch.Add = append(ch.Add, Addition{Path: "many/Very Long " + strings.Repeat("y", 88), Content: contentOf([]byte("y")), ModTime: testTime})
	}
	return ch
}

func apply(t *testing.T, c contents, ch Changes) {
	t.Helper()
	for _, path := range ch.Remove {
		delete(c, path)
	}
	for path, r := range ch.Replace {
		c[path] = contentBytes(t, r)
	}
	for _, a := range ch.Add {
		c[a.Path] = contentBytes(t, a.Content)
		for dir := filepath.Dir(a.Path); dir != "."; dir = filepath.Dir(dir) {
			c[dir+"/"] = nil
		}
	}
}

func contentBytes(t *testing.T, c Content) []byte {
	t.Helper()
	m := &memory{}
	n, err := c.Write(m)
	if err != nil {
		t.Fatal(err)
	}
	return m.b[:n]
}

// Files that are added and removed, directories that outgrow their extents: other programs see them all.
func TestRewriteEdit(t *testing.T) {
	long(t)
	for _, s := range styles {
		if s.fixed() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			old := s.image(t)
			im := open(t, old)
			ch := edits(im.Names() == "Rock Ridge")
			path, _ := rewriteTo(t, im, ch)
			if was, is := report(t, old), report(t, path); was != is {
				t.Errorf("xorriso says of the old image:\n%s\nof the new one:\n%s", was, is)
			}
			for _, readFS := range []string{"any", "norock"} {
				if readFS == "norock" && !strings.Contains(run(t, "isoinfo", "-d", "-i", path), "Joliet with UCS level 3 found") {
					continue
				}
				want := extract(t, old, readFS)
				if _, there := want["empty"]; !there {
					t.Errorf("%s: not the names of the tree", readFS)
				}
				apply(t, want, ch)
				diff(t, readFS, dropLong(want).without(), dropLong(extract(t, path, readFS)).without())
			}
			want := readTree(t, open(t, old).FS())
			apply(t, want, ch)
			diff(t, "our reader", want.without(), readTree(t, open(t, path).FS()).without())
			judgePartitions(t, old, path)
			judgeBootCode(t, path)
			if im.Names() == "Rock Ridge" {
				checkSums(t, path)
			}
			about := run(t, "isoinfo", "-d", "-i", path)
			for flag, has := range map[string]string{"-f": "", "-R": "Rock Ridge signatures", "-J": "Joliet with UCS level 3 found"} {
				if !strings.Contains(about, has) {
					continue
				}
				list := strings.ToLower(run(t, "isoinfo", "-f", "-i", path, flag))
				if n := strings.Count(list, "/many/more-0") + strings.Count(list, "/many/more_0"); n != 100 {
					t.Errorf("isoinfo %s lists %d new files:\n%s", flag, n, list)
				}
			}
			again, _ := rewriteTo(t, open(t, path), Changes{})
			sameFile(t, path, again)
		})
	}
}

// dropLong leaves out what has no name in Joliet, or another one.
func dropLong(c contents) contents {
	for name := range c {
		if strings.Contains(name, "Long Name") {
			delete(c, name)
		}
	}
	return c
}

// Whole directories go, with what is in them, and nothing is left of their space.
func TestRemoveDirectory(t *testing.T) {
	for _, s := range []style{styles[0], styles[6]} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			old := s.image(t)
			path, _ := rewriteTo(t, open(t, old), Changes{Remove: []string{"live", "many", "empty"}})
			was, is := sorted(run(t, "bsdtar", "-tf", old)), sorted(run(t, "bsdtar", "-tf", path))
			var want []string
			for _, name := range was {
				if !strings.HasPrefix(name, "live") && !strings.HasPrefix(name, "many") && name != "empty\n" {
					want = append(want, name)
				}
			}
			if strings.Join(want, "") != strings.Join(is, "") {
				t.Errorf("bsdtar lists %q, want %q", is, want)
			}
			checkSums(t, path)
			contains(t, run(t, "xorriso", "-indev", path, "-find", "/", "-exec", "lsdl"), "'/isolinux/isolinux.bin'")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, pattern("squashfs", 64)) || bytes.Contains(b, []byte("file-number-007")) {
				t.Error("something is left of what was removed")
			}
			if n, m := len(b), fileSize(t, old); int64(n) > m-3<<20+1<<20 {
				t.Errorf("%d bytes of %d", n, m)
			}
		})
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// sparseContent is zeros that are not written, up to an end.
func sparseContent(size int64, end []byte) Content {
	return Content{Size: size, Write: func(dst io.WriterAt) (int64, error) {
		_, err := dst.WriteAt(end, size-int64(len(end)))
		return size, err
	}}
}

// A file that comes to need several records, and back to one.
func TestRewriteOver4GiB(t *testing.T) {
	long(t)
	for _, s := range []style{styles[0], styles[6]} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			const size = 4<<30 + 12345
			end := pattern("end", 4096)
			path, _ := rewriteTo(t, open(t, s.image(t)), Changes{
				Replace: map[string]Content{squashfs: sparseContent(size, end)},
				Remove:  []string{"md5sum.txt", "sha256sum.txt"}, // whose correction would read it
			})
			defer os.Remove(path)
			contains(t, run(t, "xorriso", "-indev", path, "-find", "/live", "-exec", "lsdl"), fmt.Sprint(size))
			contains(t, run(t, "isoinfo", "-l", "-J", "-i", path), "filesystem.squashfs", "behind")
			im := open(t, path)
			info, err := fs.Stat(im.FS(), squashfs)
			if err != nil || info.Size() != size {
				t.Fatalf("%v, %v", info, err)
			}
			f, err := im.FS().Open(squashfs)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, len(end))
			if _, err := f.(io.ReaderAt).ReadAt(b, size-int64(len(b))); err != nil || !bytes.Equal(b, end) {
				t.Errorf("its end is another one, %v", err)
			}
			if b, err := fs.ReadFile(im.FS(), "zz/behind"); err != nil || !bytes.Equal(b, pattern("behind", 77777)) {
				t.Errorf("zz/behind: %v", err)
			}
			back, _ := rewriteTo(t, im, Changes{Replace: map[string]Content{squashfs: contentOf(pattern("squashfs", 3<<20+1234))}})
			if got := extract(t, back, "any"); !bytes.Equal(got[squashfs], pattern("squashfs", 3<<20+1234)) {
				t.Error("it is another one")
			}
		})
	}
}
