package squashfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// tarEntry is one entry of an archive made by a test: a regular file with data,
// if its header does not say otherwise.
type tarEntry struct {
	tar.Header
	data string
}

func regular(name, data string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(1000, 0)}, data}
}

func directory(name string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o750, Uid: 7, ModTime: time.Unix(2000, 0)}, ""}
}

func linkEntry(kind byte, name, target string) tarEntry {
	return tarEntry{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o600}, ""}
}

// archiveOf writes an archive.
func archiveOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rawHeader is a header of v7's fields alone, with any type, name and size.
func rawHeader(kind byte, name, size string) []byte {
	b := make([]byte, tarBlock)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00"+size+"\x0000000000000\x00        ")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func viewOf(b []byte) (*Tar, error) { return TarFS(bytes.NewReader(b), int64(len(b))) }

// show lists a tree, a line a file.
func show(t testing.TB, fsys fs.FS) string {
	t.Helper()
	var lines []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		a := info.Sys().(*Attr)
		line := fmt.Sprintf("%s %v %d:%d %d", name, info.Mode(), a.UID, a.GID, info.ModTime().Unix())
		switch {
		case info.Mode().IsRegular():
			data, err := fs.ReadFile(fsys, name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %dx %q", a.Nlink, data)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := fs.ReadLink(fsys, name)
			if err != nil {
				return err
			}
			line += " -> " + target
		case info.Mode()&fs.ModeDevice != 0:
			line += fmt.Sprintf(" %#x", a.Rdev)
		}
		for _, k := range slices.Sorted(maps.Keys(a.Xattrs)) {
			line += fmt.Sprintf(" %s=%q", k, a.Xattrs[k])
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n") + "\n"
}

func expect(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func pax(e tarEntry, records map[string]string) tarEntry {
	e.PAXRecords, e.Format = records, tar.FormatPAX
	return e
}

func TestTarTree(t *testing.T) {
	dev := tarEntry{tar.Header{Typeflag: tar.TypeBlock, Name: "dev/disk", Mode: 0o660, Gid: 6, Devmajor: 259, Devminor: 70_000}, ""}
	setuid := regular("bin/su", "su")
	setuid.Mode, setuid.Uid = 0o104755, 1<<32-2 // the type's bits, too, as old tars have them
	volume := rawHeader(typeTarVolume, "a label", "00000000000")
	// A directory of GNU tar's incremental archives, with its list of names.
	list := make([]byte, tarBlock)
	copy(list, "Yfile\x00\x00")
	volume = append(append(volume, rawHeader(typeTarDirectory, "dump/", "00000000007")...), list...)
	late := regular("later", "2")
	late.ModTime, late.Format = time.Unix(-1, 500_000_000), tar.FormatPAX
	got := append(volume, archiveOf(t,
		regular("/absolute//./path", "a"),
		directory("./dir/"),
		regular("dir/\xff not UTF-8", "b"),
		setuid, dev,
		linkEntry(tar.TypeSymlink, "link", "../anywhere"),
		linkEntry(tar.TypeLink, "hard", "./bin/su"),
		linkEntry(tar.TypeLink, "soft", "/link"),
		tarEntry{tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeCont, Name: "contiguous", Size: 1}, "c"},
		late,
	)...)
	tree, err := viewOf(append(got, "what follows the end means nothing"...))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-xr-x 0:0 0
absolute drwxr-xr-x 0:0 0
absolute/path -rw-r--r-- 0:0 1000 1x "a"
bin drwxr-xr-x 0:0 0
bin/su urwxr-xr-x 4294967294:0 1000 2x "su"
contiguous ---------- 0:0 0 1x "c"
dev drwxr-xr-x 0:0 0
dev/disk Drw-rw---- 0:6 0 0x11110370
dir drwxr-x--- 7:0 2000
dir/`+"\xff"+` not UTF-8 -rw-r--r-- 0:0 1000 1x "b"
dump drw-r--r-- 0:0 0
hard urwxr-xr-x 4294967294:0 1000 2x "su"
later -rw-r--r-- 0:0 -1 1x "2"
link Lrwxrwxrwx 0:0 0 -> ../anywhere
pipe prw------- 0:0 0
soft Lrwxrwxrwx 0:0 0 -> ../anywhere
`)
}

func compression(t testing.TB, s string) Compression {
	t.Helper()
	c, err := ParseCompression(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// discardAt is written to for the errors' sake.
type discardAt struct{}

func (discardAt) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

func TestTarLaterEntries(t *testing.T) {
	again := directory("d")
	again.Mode = 0o711
	tree, err := viewOf(archiveOf(t,
		regular("a", "1"), linkEntry(tar.TypeLink, "first a", "a"), regular("a", "2"),
		regular("d/x", "x"), directory("d"), again,
		directory("empty"), regular("empty", "no longer a directory"),
		regular("file", ""), directory("file"), regular("file/x", ""),
		linkEntry(tar.TypeSymlink, "s", "d"), directory("s"), regular("s/y", ""),
		directory("."),
	))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-x--- 7:0 2000
a -rw-r--r-- 0:0 1000 1x "2"
d drwx--x--x 7:0 2000
d/x -rw-r--r-- 0:0 1000 1x "x"
empty -rw-r--r-- 0:0 1000 1x "no longer a directory"
file drwxr-x--- 7:0 2000
file/x -rw-r--r-- 0:0 1000 1x ""
first a -rw-r--r-- 0:0 1000 1x "1"
s drwxr-x--- 7:0 2000
s/y -rw-r--r-- 0:0 1000 1x ""
`)
}

// Directories are reached through links, within the tree.
func TestTarThroughLinks(t *testing.T) {
	tree, err := viewOf(archiveOf(t,
		linkEntry(tar.TypeSymlink, "lib", "usr/lib"), regular("lib/a", "a"), directory("usr/lib"), regular("usr/lib/b", "b"),
		linkEntry(tar.TypeLink, "hard a", "lib/a"), linkEntry(tar.TypeLink, "hard link", "lib"),
		linkEntry(tar.TypeSymlink, "usr/up", "../../../../etc"), regular("usr/up/passwd", "p"),
		linkEntry(tar.TypeSymlink, "root", "/"), regular("root/r", "r"), directory("root/etc/d"),
		linkEntry(tar.TypeSymlink, "odd", "missing/../there/./"), regular("odd/x/y", "y"),
		linkEntry(tar.TypeSymlink, "etc/abs", "/lib"), regular("etc/abs/c", "c"),
		// The last name is not followed; a directory takes a link's place.
		linkEntry(tar.TypeSymlink, "replaced", "etc"), regular("replaced/f", ""), directory("replaced"), regular("replaced/g", ""),
		linkEntry(tar.TypeSymlink, "file", "etc/passwd"), regular("file", "no link"),
	))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-xr-x 0:0 0
etc drwxr-xr-x 0:0 0
etc/abs Lrwxrwxrwx 0:0 0 -> /lib
etc/d drwxr-x--- 7:0 2000
etc/f -rw-r--r-- 0:0 1000 1x ""
etc/passwd -rw-r--r-- 0:0 1000 1x "p"
file -rw-r--r-- 0:0 1000 1x "no link"
hard a -rw-r--r-- 0:0 1000 2x "a"
hard link Lrwxrwxrwx 0:0 0 -> usr/lib
lib Lrwxrwxrwx 0:0 0 -> usr/lib
odd Lrwxrwxrwx 0:0 0 -> missing/../there/./
r -rw-r--r-- 0:0 1000 1x "r"
replaced drwxr-x--- 7:0 2000
replaced/g -rw-r--r-- 0:0 1000 1x ""
root Lrwxrwxrwx 0:0 0 -> /
there drwxr-xr-x 0:0 0
there/x drwxr-xr-x 0:0 0
there/x/y -rw-r--r-- 0:0 1000 1x "y"
usr drwxr-xr-x 0:0 0
usr/lib drwxr-x--- 7:0 2000
usr/lib/a -rw-r--r-- 0:0 1000 2x "a"
usr/lib/b -rw-r--r-- 0:0 1000 1x "b"
usr/lib/c -rw-r--r-- 0:0 1000 1x "c"
usr/up Lrwxrwxrwx 0:0 0 -> ../../../../etc
`)
}

// A few bytes of archive cannot tell of any number of directories, and those that
// they can tell of are not gone through again for each of them.
func TestTarDeep(t *testing.T) {
	deep := func(entries int) []byte {
		var list []tarEntry
		for i := range entries {
			list = append(list, regular(fmt.Sprintf("%06x/%sf", i, strings.Repeat("a/", 2040)), ""))
		}
		return archiveOf(t, list...)
	}
	if _, err := viewOf(deep(10)); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "directories that have no entry") {
		t.Errorf("got %v", err)
	}
	tree, err := viewOf(deep(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), discardAt{}, tree, Options{Compression: compression(t, "none")}); err != nil {
		t.Fatal(err)
	}
	name := "000001/" + strings.Repeat("a/", 2040) + "f"
	// To go all the way would take a list of the steps, which grows a dozen times.
	if n := testing.AllocsPerRun(10, func() {
		if _, err := tree.Lstat(name); err != nil {
			t.Error(err)
		}
	}); n > 4 {
		t.Errorf("%.0f allocations to find a name in a directory that was found before", n)
	}
}

func TestTarXattrs(t *testing.T) {
	tree, err := viewOf(archiveOf(t,
		pax(regular("a", ""), map[string]string{"SCHILY.xattr.user.x": "1\x00\n=", "SCHILY.xattr.user.a%3Db%25": "2", "RHT.security.selinux": "system_u"}),
		pax(regular("b", ""), map[string]string{"LIBARCHIVE.xattr.user.%C3%BC": "AQID", "LIBARCHIVE.xattr.user.x": "AQID", "SCHILY.xattr.user.x": "wins"}),
		pax(regular("c", ""), map[string]string{"SCHILY.acl.access": "user::rwx", "SCHILY.xattr.com.apple.large": strings.Repeat("x", maxXattrValue+1), "comment": "no xattr"}),
	))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-xr-x 0:0 0
a -rw-r--r-- 0:0 1000 1x "" security.selinux="system_u\x00" user.a=b%="2" user.x="1\x00\n="
b -rw-r--r-- 0:0 1000 1x "" user.x="wins" user.ü="\x01\x02\x03"
c -rw-r--r-- 0:0 1000 1x "" com.apple.large="" system.posix_acl_access=""
`)
	var left []string
	_, err = Write(t.Context(), discardAt{}, tree, Options{Warn: func(path, msg string) { left = append(left, path+": "+msg) }})
	if err != nil || len(left) != 2 || !strings.HasPrefix(left[1], "c: xattr system.posix_acl_access left out") {
		t.Errorf("%v, warnings %q", err, left)
	}
}

func TestTarGlobalHeader(t *testing.T) {
	global := func(records map[string]string) tarEntry {
		return tarEntry{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: records}, ""}
	}
	own := regular("b", "")
	own.Uid, own.Format = 1<<24, tar.FormatPAX // too large for the field of the entry itself
	tree, err := viewOf(archiveOf(t,
		global(map[string]string{"comment": "a commit", "mtime": "-1234.5", "uid": "42"}),
		regular("a", ""),
		own,
		global(map[string]string{"gid": "1"}),
		regular("c", ""),
	))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-xr-x 0:0 0
a -rw-r--r-- 42:0 -1235 1x ""
b -rw-r--r-- 16777216:0 -1235 1x ""
c -rw-r--r-- 42:1 -1235 1x ""
`)
	_, err = viewOf(archiveOf(t, global(map[string]string{"path": "everywhere"}), regular("a", "")))
	if err == nil || !strings.Contains(err.Error(), "a global header gives all files the same path") {
		t.Errorf("got %v", err)
	}
}

// What is wrong with an archive is said, with the place.
func TestTarRefuses(t *testing.T) {
	huge := regular("huge", "")
	huge.Uid = 1 << 32
	device := tarEntry{tar.Header{Typeflag: tar.TypeChar, Name: "dev", Devmajor: 1 << 12, Format: tar.FormatGNU}, ""}
	ends := make([]byte, 2*tarBlock)
	join := func(parts ...[]byte) []byte { return append(bytes.Join(parts, nil), ends...) }
	one := archiveOf(t, regular("first", "1"))
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"up":                  {archiveOf(t, regular("a/../b", "")), `archive: byte 0: "a/../b": ".." in the name`},
		"no name":             {join(rawHeader('0', "", "00000000000")), `an entry without a name`},
		"long path":           {archiveOf(t, regular(strings.Repeat("d/", 2047)+"xx", "")), "path of 4096 bytes"},
		"long name":           {archiveOf(t, regular(strings.Repeat("n", 257), "")), "name of 257 bytes"},
		"root as a file":      {archiveOf(t, regular(".", "x")), "the root is not a directory"},
		"file with a slash":   {join(rawHeader('0', "d/", "00000000001"), make([]byte, 512)), "a regular file with the name of a directory"},
		"link to itself":      {archiveOf(t, linkEntry(tar.TypeSymlink, "l", "l"), regular("l/x", "")), `byte 512: "l/x": its directory: too many levels of symbolic links`},
		"links that unfold":   {archiveOf(t, linkEntry(tar.TypeSymlink, "l", strings.Repeat("./", 2040)+"m"), linkEntry(tar.TypeSymlink, "m", strings.Repeat("./", 2040)+"n"), linkEntry(tar.TypeSymlink, "n", "./././././././././././././././d"), directory("d"), regular("l/x", "")), "a path of too many names"},
		"link to a bad name":  {archiveOf(t, linkEntry(tar.TypeSymlink, "l", strings.Repeat("n", 257)), regular("l/x", "")), "name of 257 bytes"},
		"link to a file":      {archiveOf(t, regular("f", ""), linkEntry(tar.TypeSymlink, "l", "f"), regular("l/x", "")), `lies below "f", which is not a directory`},
		"long path by a link": {archiveOf(t, linkEntry(tar.TypeSymlink, "l", strings.Repeat("d/", 1500)), regular("l/"+strings.Repeat("e/", 550)+"x", "")), "path of 4101 bytes"},
		"long link":           {archiveOf(t, linkEntry(tar.TypeSymlink, "l", strings.Repeat("x", 4096))), "symbolic link of 4096 bytes"},
		"below a file":        {archiveOf(t, regular("f", ""), regular("f/x", "")), `lies below "f", which is not a directory`},
		"over a directory":    {archiveOf(t, regular("d/x", ""), regular("d", "")), "takes the place of a directory that holds something"},
		"dangling hard link":  {archiveOf(t, linkEntry(tar.TypeLink, "a", "b")), `"a": hard link to "b", which is not in the archive before it`},
		"hard link forward":   {archiveOf(t, linkEntry(tar.TypeLink, "a", "b"), regular("b", "")), `hard link to "b"`},
		"hard link to itself": {archiveOf(t, linkEntry(tar.TypeLink, "a", "a")), `hard link to "a"`},
		"hard link to dir":    {archiveOf(t, directory("d"), linkEntry(tar.TypeLink, "a", "d")), "which is a directory"},
		"hard link through":   {archiveOf(t, regular("d/x", ""), linkEntry(tar.TypeSymlink, "l", "d"), linkEntry(tar.TypeLink, "a", "l/y")), `hard link to "l/y", which is not in the archive`},
		"hard link up":        {archiveOf(t, linkEntry(tar.TypeLink, "a", "../b")), `hard link to "../b": ".." in the name`},
		"hard link as root":   {archiveOf(t, regular("a", ""), linkEntry(tar.TypeLink, ".", "a")), "the root is not a directory"},
		"empty symlink":       {join(rawHeader('2', "l", "00000000000")), "symbolic link of 0 bytes"},
		"uid":                 {archiveOf(t, huge), "user id 4294967296"},
		"device":              {archiveOf(t, device), "device number 4096:0"},
		"unknown type":        {join(rawHeader('Z', "what", "00000000000")), `"what": an entry of the unknown type 'Z'`},
		"next volume":         {join(rawHeader('M', "part", "00000000000")), "the rest of a file of another volume"},
		"sparse, future":      {gnuSparse(t, "", map[string]string{"XYZ.sparse.major": "2"}), `in GNU's form "2"`},
		"sparse, Solaris":     {archiveOf(t, pax(regular("s", ""), map[string]string{"SUN.holesdata": " 0 1"})), "a form of star's"},
		"sparse, endless":     {gnuSparse(t, "0\n"+strings.Repeat("\x00", tarBlock-2), map[string]string{"XYZ.sparse.major": "1", "XYZ.sparse.minor": "0", "XYZ.sparse.realsize": "17592186044417"}), "a sparse file of 17592186044417 bytes"},
		"xattr too long":      {archiveOf(t, pax(regular("x", ""), map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", maxXattrValue+1)})), "xattr user.a of 65537 bytes"},
		"xattr name":          {archiveOf(t, pax(regular("x", ""), map[string]string{"SCHILY.xattr.user." + strings.Repeat("x", 255): "v"})), "xattr with a name of 260 bytes"},
		"xattr encoding":      {archiveOf(t, pax(regular("x", ""), map[string]string{"LIBARCHIVE.xattr.user.a": "?"})), "xattr user.a: illegal base64"},
		"empty":               {nil, "empty: a tar archive has at least"},
		"no archive":          {[]byte(strings.Repeat("text\n", 300)), "not a tar archive"},
		"short":               {[]byte("text"), "not a tar archive"},
		"compressed":          {append([]byte("\x04\x22\x4d\x18"), one...), "not a tar archive, or one compressed in a way other than"},
		"damaged":             {join(one[:1024], []byte(strings.Repeat("x", 1024))), `byte 1536, after "first": archive/tar: invalid tar header`},
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := viewOf(c.archive)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "squashfs: archive: ") {
				t.Errorf("got %v, want … %s", err, c.want)
			}
			if tree != nil {
				t.Error("a tree beside the error")
			}
		})
	}
}

// An archive that is cut off anywhere is an error, also between two entries and
// behind a header that belongs to the next one.
func TestTarCutOff(t *testing.T) {
	b := archiveOf(t,
		regular("a", strings.Repeat("x", 700)), directory("d"),
		pax(regular(strings.Repeat("n", 200), "long"), map[string]string{"SCHILY.xattr.user.a": "b"}), regular("z", ""))
	end := len(b) - 2*tarBlock
	for cut := range len(b) {
		tree, err := viewOf(b[:cut])
		if whole := cut == end+tarBlock; whole != (err == nil) {
			t.Fatalf("%d of %d bytes: %v", cut, len(b), err)
		}
		if err == nil {
			_ = show(t, tree)
		}
	}
	if _, err := viewOf(b[:end]); err == nil || !strings.Contains(err.Error(), `after "z": it lacks the zero bytes that end a tar archive`) {
		t.Errorf("without its end: %v", err)
	}
}

// A file that is in place in the archive can be read at random.
func TestTarReadAt(t *testing.T) {
	tree, err := viewOf(archiveOf(t, regular("a", "0123456789")))
	if err != nil {
		t.Fatal(err)
	}
	f, err := tree.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if n, err := f.(io.ReaderAt).ReadAt(b, 8); string(b[:n]) != "89" || err != io.EOF {
		t.Errorf("%q, %v", b[:n], err)
	}
	if _, err := f.(io.Seeker).Seek(3, io.SeekStart); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(f); string(rest) != "3456789" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestTarClosed(t *testing.T) {
	tree, err := viewOf(archiveOf(t, regular("d/a", "0123456789"), linkEntry(tar.TypeSymlink, "l", "d/a")))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := tree.Lstat("l"); err != nil || info.Size() != 3 {
		t.Errorf("a link of %d bytes, %v", info.Size(), err)
	}
	for _, name := range []string{"d", "d/a"} {
		f, err := tree.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		uses := map[string]error{"close": f.Close()}
		_, uses["stat"] = f.Stat()
		switch f := f.(type) {
		case fs.ReadDirFile:
			_, uses["list"] = f.ReadDir(-1)
		case io.ReadSeeker:
			_, uses["read"] = f.Read(make([]byte, 1))
			_, uses["seek"] = f.Seek(0, 0)
			_, uses["read at"] = f.(io.ReaderAt).ReadAt(make([]byte, 1), 0)
		}
		for use, err := range uses {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: %s: %v", name, use, err)
			}
		}
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Open("d/a"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("open: %v", err)
	}
	if _, err := tree.ReadDir("d"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("list: %v", err)
	}
}

// What a first file is called does not make an archive compressed.
func TestTarNotCompressed(t *testing.T) {
	for _, name := range []string{"BZh", "BZh91AY&SY", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "\x50\x2a\x4d\x18"} {
		tree, err := layersOf(t, nil, archiveOf(t, regular(name+" file", "x")))
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if _, err := tree.Lstat(name + " file"); err != nil {
			t.Error(err)
		}
	}
	if _, err := layersOf(t, nil, []byte("BZhou is no tar archive, nor compressed")); err == nil || !strings.Contains(err.Error(), "not a tar archive") {
		t.Errorf("got %v", err)
	}
}

func TestTarGzipPadding(t *testing.T) {
	pack := func(b []byte) []byte {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return packed.Bytes()
	}
	b := archiveOf(t, regular("a", strings.Repeat("x", 5000)))
	parts := append(pack(b[:700]), pack(b[700:])...)
	for _, zeros := range []int{0, 1, 512, 300_000} {
		padded := append(bytes.Clone(parts), make([]byte, zeros)...)
		tree, err := layersOf(t, nil, padded)
		if err != nil {
			t.Errorf("%d zero bytes: %v", zeros, err)
			continue
		}
		if data, err := fs.ReadFile(tree, "a"); err != nil || len(data) != 5000 {
			t.Errorf("%d bytes, %v", len(data), err)
		}
		for _, rest := range []string{"x", string(parts), "\x1f\x8b\x08"} {
			if _, err := layersOf(t, nil, append(bytes.Clone(padded), rest...)); err == nil && (zeros > 0 || rest != string(parts)) || err != nil && !strings.Contains(err.Error(), "gzip: ") {
				t.Errorf("%d zero bytes and %q: %v", zeros, rest[:1], err)
			}
		}
	}
}

func layersOf(t testing.TB, warn func(path, msg string), layers ...[]byte) (*Tar, error) {
	t.Helper()
	var readers []io.Reader
	for _, l := range layers {
		readers = append(readers, bytes.NewReader(l))
	}
	tree, err := FromTar(t.Context(), TarOptions{TempDir: t.TempDir(), Warn: warn}, readers...)
	if err == nil {
		t.Cleanup(func() {
			if err := tree.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return tree, err
}

var lowerLayer = []tarEntry{
	regular("a", "lower"), regular("gone", ""), regular("dir/old", ""), regular("dir/sub/old", ""),
	directory("kept"), regular("kept/x", "x"), regular("opaque/old", ""), regular("opaque/sub/old", ""),
	linkEntry(tar.TypeSymlink, "link", "dir"), regular("turned", "a file"), regular("flat/x", "a directory"),
	regular("shared", "shared"), regular("whole/x", ""),
	linkEntry(tar.TypeSymlink, "through", "/../sub"), regular("sub/gone", ""), regular("sub/old", ""),
}

func TestTarLayers(t *testing.T) {
	upper := []tarEntry{
		regular(".wh.gone", ""), regular("dir/.wh.old", ""), regular("dir/new", ""),
		regular("kept/y", "y"), regular("opaque/new", ""), regular("opaque/sub/new", ""), regular("opaque/.wh..wh..opq", ""),
		regular("a", "upper"), regular(".wh.a", ""), regular(".wh..wh.plnk/1.2", "kept by AUFS"),
		directory("turned"), regular("flat", "a file"), regular("through/new", ""), regular("through/.wh.gone", ""),
		linkEntry(tar.TypeLink, "another", "shared"), regular(".wh.whole", ""), regular(".wh.never", ""),
	}
	want := `. drwxr-xr-x 0:0 0
a -rw-r--r-- 0:0 1000 1x "upper"
another -rw-r--r-- 0:0 1000 2x "shared"
dir drwxr-xr-x 0:0 0
dir/new -rw-r--r-- 0:0 1000 1x ""
dir/sub drwxr-xr-x 0:0 0
dir/sub/old -rw-r--r-- 0:0 1000 1x ""
flat -rw-r--r-- 0:0 1000 1x "a file"
kept drwxr-x--- 7:0 2000
kept/x -rw-r--r-- 0:0 1000 1x "x"
kept/y -rw-r--r-- 0:0 1000 1x "y"
link Lrwxrwxrwx 0:0 0 -> dir
opaque drwxr-xr-x 0:0 0
opaque/new -rw-r--r-- 0:0 1000 1x ""
opaque/sub drwxr-xr-x 0:0 0
opaque/sub/new -rw-r--r-- 0:0 1000 1x ""
shared -rw-r--r-- 0:0 1000 2x "shared"
sub drwxr-xr-x 0:0 0
sub/new -rw-r--r-- 0:0 1000 1x ""
sub/old -rw-r--r-- 0:0 1000 1x ""
through Lrwxrwxrwx 0:0 0 -> /../sub
turned drwxr-x--- 7:0 2000
`
	lower := archiveOf(t, lowerLayer...)
	for range 2 {
		tree, err := layersOf(t, nil, lower, archiveOf(t, upper...))
		if err != nil {
			t.Fatal(err)
		}
		expect(t, show(t, tree), want)
		slices.Reverse(upper) // the order in a layer means nothing
	}
	// Alone, its whiteouts are files, and that is told.
	var warned []string
	alone, err := layersOf(t, func(path, msg string) { warned = append(warned, path+" "+msg) },
		archiveOf(t, regular("x/.wh.a", ""), regular("x/.wh.b", "")))
	if err != nil {
		t.Fatal(err)
	}
	if got := show(t, alone); !strings.Contains(got, "x/.wh.a -rw") || len(warned) != 1 || !strings.HasPrefix(warned[0], "x/.wh.a looks like") {
		t.Errorf("warned %q of\n%s", warned, got)
	}
}

func TestTarLayersRefuse(t *testing.T) {
	lower := archiveOf(t, lowerLayer...)
	for want, upper := range map[string][]byte{
		`archive 2: byte 0: "dir/.wh.": "dir/.wh.": a whiteout of nothing`: archiveOf(t, regular("dir/.wh.", "")),
		`archive 2: byte 0: ".wh.../x": ".wh...": a whiteout of nothing`:   archiveOf(t, regular(".wh.../x", "")),
		`archive 2: byte 0: ".wh.dir/x": ".wh.dir": a whiteout of nothing`: archiveOf(t, regular(".wh.dir/x", "")),
		`"d": takes the place of a directory that holds something`:         archiveOf(t, regular("d/x", ""), regular("d", "")),
		`"dir": takes the place of a directory that holds something`:       archiveOf(t, linkEntry(tar.TypeLink, "dir/x", "shared"), regular("dir", "")),
		`hard link to "gone?"`:  archiveOf(t, linkEntry(tar.TypeLink, "x", "gone?")),
		`hard link to "shared"`: archiveOf(t, regular(".wh.shared", ""), linkEntry(tar.TypeLink, "x", "shared")),
		`archive 2: byte 512`:   archiveOf(t, regular("x", ""))[:512],
	} {
		_, err := layersOf(t, nil, lower, upper)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := FromTar(t.Context(), TarOptions{}); err == nil {
		t.Error("no archive, no error")
	}
}

func TestTarOfImage(t *testing.T) {
	lower, upper := archiveOf(t, regular("a", "1"), regular("b", "")), archiveOf(t, regular("a", "2"), regular(".wh.b", ""))
	manifest := `[{"Config":"c.json","RepoTags":["x:latest"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}]`
	image := func(manifest string) []byte {
		return archiveOf(t, regular("1/layer.tar", string(lower)), regular("2/layer.tar", string(upper)),
			linkEntry(tar.TypeSymlink, "3/layer.tar", "../2/layer.tar"), regular("c.json", "{}"), regular("manifest.json", manifest))
	}
	var warned []string
	tree, err := layersOf(t, func(path, msg string) { warned = append(warned, path+": "+msg) }, image(manifest))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-xr-x 0:0 0
a -rw-r--r-- 0:0 1000 1x "2"
`)
	if len(warned) != 1 || !strings.Contains(warned[0], "its 3 layers go in") {
		t.Errorf("warned %q", warned)
	}
	// A tree that merely has such a file is not an image.
	for _, other := range []string{`[{"name":"app"}]`, `{"Layers":1}`, `[null]`, `[]`, "text"} {
		tree, err := layersOf(t, nil, image(other))
		if err != nil {
			t.Fatal(err)
		}
		if got := show(t, tree); !strings.Contains(got, "1/layer.tar") {
			t.Errorf("%s: %s", other, got)
		}
	}
	oci := archiveOf(t, regular("oci-layout", "{}"), regular("index.json", "{}"))
	other := archiveOf(t, regular("other", ""))
	for want, layers := range map[string][][]byte{
		"archive: an archive of 2 container images":                                {image("[" + manifest[1:len(manifest)-1] + "," + manifest[1:])},
		"archive: an OCI image layout":                                             {oci},
		"archive 2: an OCI image layout":                                           {other, oci},
		"layer 1/layer.tar: byte":                                                  {archiveOf(t, regular("1/layer.tar", string(lower[:512])), regular("manifest.json", `[{"Layers":["1/layer.tar"]}]`))},
		"manifest.json names bb/layer.tar, which is not in the archive":            {image(`[{"Config":"c.json","Layers":["1/layer.tar","bb/layer.tar"]}]`)},
		"archive 1: manifest.json names bb/layer.tar, which is not in the archive": {image(`[{"Layers":["bb/layer.tar"]}]`), other},
		"manifest.json names 1, which is not a regular file":                       {image(`[{"Layers":["1"]}]`)},
		"but names no layers":                                                      {image(`[{"Config":"c.json","Layers":null}]`)},
		"manifest.json is that of a container image, but names no":                 {image(`[{"Config":"c.json","Layers":{}}]`)},
		"names 513 layers":                                                         {image(`[{"Layers":["1/layer.tar"` + strings.Repeat(`,"1/layer.tar"`, 512) + `]}]`)},
	} {
		if _, err := layersOf(t, nil, layers...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Layers over a base whose directories have become links: as containerd does.
func TestTarLayersThroughLinks(t *testing.T) {
	base := archiveOf(t,
		linkEntry(tar.TypeSymlink, "bin", "usr/bin"), regular("usr/bin/sh", ""), regular("usr/bin/ls", ""),
		linkEntry(tar.TypeSymlink, "lib", "usr/lib"), regular("usr/lib/old", ""),
		linkEntry(tar.TypeSymlink, "run", "/var/run"))
	fifo := tarEntry{tar.Header{Typeflag: tar.TypeFifo, Name: "bin/.wh.ls"}, ""}
	device := tarEntry{tar.Header{Typeflag: tar.TypeChar, Name: "run/null"}, ""}
	plnk := regular(".wh..wh.plnk/1", "linked")
	var warned []string
	tree, err := layersOf(t, func(path, msg string) { warned = append(warned, path+": "+msg) }, base, archiveOf(t,
		regular("bin/tool", "t"), regular("bin/.wh.sh", ""), fifo, linkEntry(tar.TypeLink, "tool", "bin/tool"),
		// A directory in a link's place hides nothing of what the link led to.
		directory("lib"), regular("lib/.wh..wh..opq", ""), regular("lib/new", ""),
		plnk, linkEntry(tar.TypeLink, "one", ".wh..wh.plnk/1"), linkEntry(tar.TypeLink, "two", ".wh..wh.plnk/1"),
		device))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-xr-x 0:0 0
bin Lrwxrwxrwx 0:0 0 -> usr/bin
lib drwxr-x--- 7:0 2000
lib/new -rw-r--r-- 0:0 1000 1x ""
one -rw-r--r-- 0:0 1000 2x "linked"
run Lrwxrwxrwx 0:0 0 -> /var/run
tool -rw-r--r-- 0:0 1000 2x "t"
two -rw-r--r-- 0:0 1000 2x "linked"
usr drwxr-xr-x 0:0 0
usr/bin drwxr-xr-x 0:0 0
usr/bin/tool -rw-r--r-- 0:0 1000 2x "t"
usr/lib drwxr-xr-x 0:0 0
usr/lib/old -rw-r--r-- 0:0 1000 1x ""
var drwxr-xr-x 0:0 0
var/run drwxr-xr-x 0:0 0
var/run/null Dc--------- 0:0 0 0x0
`)
	if len(warned) != 1 || !strings.HasPrefix(warned[0], "run/null: a character device 0:0") {
		t.Errorf("warned %q", warned)
	}
}

// A whiteout leaves what its own layer has put there, and nothing else.
func TestTarWhiteoutLeavesItsLayer(t *testing.T) {
	lower := archiveOf(t, directory("d"), regular("d/old", ""), regular("d/sub/old", ""), regular("d/shared", "s"),
		linkEntry(tar.TypeSymlink, "l", "d"), regular("e/old", ""), regular("f/old", ""), regular("kept", ""))
	again := []tarEntry{regular(".wh.d", ""), regular("d/.wh..wh..opq", ""), regular(".wh.d", "")}
	upper := append([]tarEntry{
		regular("d/sub/new", ""), linkEntry(tar.TypeLink, "d/shared", "d/shared"), // named again: of this layer, too
		linkEntry(tar.TypeLink, "kept", "kept"), regular(".wh.kept", ""),
		regular("l/x", ""), regular(".wh.l", ""), regular("l/y", ""), // no longer through the link
		regular("e", "a file"), regular(".wh.e", ""),
		directory("f"), regular("f/new", ""), regular(".wh.f", ""),
	}, again...)
	tree, err := layersOf(t, nil, lower, archiveOf(t, upper...))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-xr-x 0:0 0
d drwxr-xr-x 0:0 0
d/shared -rw-r--r-- 0:0 1000 1x "s"
d/sub drwxr-xr-x 0:0 0
d/sub/new -rw-r--r-- 0:0 1000 1x ""
d/x -rw-r--r-- 0:0 1000 1x ""
e -rw-r--r-- 0:0 1000 1x "a file"
f drwxr-x--- 7:0 2000
f/new -rw-r--r-- 0:0 1000 1x ""
kept -rw-r--r-- 0:0 1000 1x ""
l drwxr-xr-x 0:0 0
l/y -rw-r--r-- 0:0 1000 1x ""
`)
}

// An image among other archives stands for its layers, where it is.
func TestTarImageAmongLayers(t *testing.T) {
	first := archiveOf(t, regular("a", "first"), regular("b", ""), regular("c", "first"))
	image := archiveOf(t,
		regular("1.tar", string(archiveOf(t, regular("a", "1"), regular("x", "1"), regular(".wh.b", "")))),
		regular("2.tar", string(archiveOf(t, regular("a", "2"), regular("d", "2"), linkEntry(tar.TypeLink, "e", "c")))),
		regular("manifest.json", `[{"Config":"c.json","Layers":["1.tar","2.tar"]}]`))
	last := archiveOf(t, regular("d", "last"), regular(".wh.x", ""))
	// Such a file in a layer, whose hard link is in order in a layer only.
	app := archiveOf(t, regular("manifest.json", `[{"Config":"mine","Layers":[]}]`), linkEntry(tar.TypeLink, "f", "d"))
	warned := 0
	tree, err := layersOf(t, func(path, msg string) { warned++ }, first, image, last, app)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, show(t, tree), `. drwxr-xr-x 0:0 0
a -rw-r--r-- 0:0 1000 1x "2"
c -rw-r--r-- 0:0 1000 2x "first"
d -rw-r--r-- 0:0 1000 2x "last"
e -rw-r--r-- 0:0 1000 2x "first"
f -rw-r--r-- 0:0 1000 2x "last"
manifest.json -rw-r--r-- 0:0 1000 1x "[{\"Config\":\"mine\",\"Layers\":[]}]"
`)
	if warned != 1 {
		t.Errorf("%d warnings", warned)
	}
}

// A layer that an image has twice is expanded once.
func TestTarImageLayerTwice(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(archiveOf(t, regular("a", ""))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	tree, err := layersOf(t, nil, archiveOf(t, regular("1.tar", packed.String()),
		linkEntry(tar.TypeLink, "2.tar", "1.tar"), linkEntry(tar.TypeSymlink, "3.tar", "1.tar"),
		regular("manifest.json", `[{"Layers":["1.tar","2.tar","3.tar","1.tar"]}]`)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(tree.closers); n != 2 { // the archive and one layer
		t.Errorf("%d files were expanded", n)
	}
}

// gnuSparse is an archive of a file with records whose names begin with GNU
// where those given begin with XYZ: archive/tar does not write the former.
func gnuSparse(t testing.TB, data string, records map[string]string) []byte {
	t.Helper()
	return bytes.ReplaceAll(archiveOf(t, pax(regular("s", data), records), regular("after", "")), []byte("XYZ.sparse"), []byte("GNU.sparse"))
}

// sparseArchive holds a file with 4 bytes at 1000 of 4096.
func sparseArchive(t testing.TB) []byte {
	t.Helper()
	head := "1\n1000\n4\n"
	return gnuSparse(t, head+strings.Repeat("\x00", tarBlock-len(head))+"data",
		map[string]string{"XYZ.sparse.major": "1", "XYZ.sparse.minor": "0", "XYZ.sparse.name": "dir/s", "XYZ.sparse.realsize": "4096"})
}

func TestTarSparse(t *testing.T) {
	b := sparseArchive(t)
	tree, err := viewOf(b)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 4096)
	copy(want[1000:], "data")
	if got, err := fs.ReadFile(tree, "dir/s"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	// A map that asks for more than there is.
	broken := bytes.Replace(b, []byte("1\n1000\n4\n"), []byte("1\n1000\n9\n"), 1)
	if tree, err = viewOf(broken); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), discardAt{}, tree, Options{}); err == nil || !strings.Contains(err.Error(), "squashfs: dir/s: ") {
		t.Errorf("got %v", err)
	}
}

// Holes are bounded together, and what an archive has data for is none.
func TestTarMaxHoles(t *testing.T) {
	const size = 1 << 20
	head := "1\n1000\n4\n"
	b := gnuSparse(t, head+strings.Repeat("\x00", tarBlock-len(head))+"data",
		map[string]string{"XYZ.sparse.major": "1", "XYZ.sparse.minor": "0", "XYZ.sparse.name": "s", "XYZ.sparse.realsize": fmt.Sprint(size)})
	for over, archives := range [][]io.Reader{{bytes.NewReader(b)}, {bytes.NewReader(b), bytes.NewReader(b)}} {
		n := int64(len(archives))
		holes := n * (size - int64(len(b)))
		for _, bound := range []int64{holes, holes - 1} {
			for _, a := range archives {
				if _, err := a.(io.Seeker).Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
			}
			tree, err := FromTar(t.Context(), TarOptions{TempDir: t.TempDir(), MaxHoles: bound}, archives...)
			if (err == nil) != (bound == holes) || err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("case %d, %d bytes of holes: %v", over, bound, err)
			}
			if err == nil {
				_ = tree.Close()
			}
		}
	}
}

// FuzzTar reads any bytes as an archive, and what it shows, as Write would.
func FuzzTar(f *testing.F) {
	f.Add(archiveOf(f, lowerLayer...), archiveOf(f, regular(".wh.gone", ""), regular("opaque/.wh..wh..opq", ""), linkEntry(tar.TypeLink, "x", "shared")))
	f.Add(archiveOf(f, pax(regular("p", "x"), map[string]string{"SCHILY.xattr.user.a": "b", "RHT.security.selinux": "c"}), directory("d")), []byte{})
	f.Add(sparseArchive(f), []byte{})
	stored, err := ParseCompression("none")
	if err != nil {
		f.Fatal(err)
	}
	opts := Options{Compression: stored, BlockSize: 4096, Workers: 1}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) > 1<<16 || len(b) > 1<<16 {
			return
		}
		tree, err := viewOf(a)
		if len(b) > 0 {
			tree, err = layersOf(t, nil, a, b)
		}
		if err != nil {
			return
		}
		var total int64
		tree.root.eachNode(func(n *tarNode) {
			if n.size < 0 || n.nlink == 0 {
				t.Errorf("size %d, %d links", n.size, n.nlink)
			}
			total += min(n.size, 1<<40)
		})
		if total > 1<<20 {
			return // holes, that would only take time
		}
		_, err = Write(t.Context(), discardAt{}, tree, opts)
		if err != nil && strings.Contains(err.Error(), "listed twice") {
			t.Error(err)
		}
	})
}
