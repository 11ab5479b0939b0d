//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/guesttest"
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/internal/qemu"
	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/internal/treelist"
)

// isopress runs the program in this process.
func isopress(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	code = a.main(t.Context(), args)
	return code, out.String(), errs.String()
}

// press runs isopress, which must succeed, with --json.
func press(t testing.TB, args ...string) *builder.Result {
	t.Helper()
	code, out, errs := isopress(t, append(args, "--json")...)
	if code != exitDone {
		t.Fatalf("isopress %q: exit code %d\n%s", args, code, errs)
	}
	var r builder.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return &r
}

// demoArgs presses the test closure.
func demoArgs(t testing.TB, out string, more ...string) []string {
	t.Helper()
	c := testenv.Closure(t)
	return append([]string{"build", "--closure", c.StorePaths, "--registration", c.Registration,
		"--system", c.System, "-o", out}, more...)
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	testenv.NeedTool(t, name)
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func digest(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// The closure's own marker appears on the console whichever way the ISO boots.
func TestBoots(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	image := filepath.Join(t.TempDir(), "demo.iso")
	press(t, demoArgs(t, image)...)
	for _, way := range []string{
		"bios cdrom", "bios virtio", "bios usb", "bios ide", "bios ahci",
		"uefi cdrom", "uefi virtio", "uefi usb", "uefi nvme", "uefi ahci",
	} {
		firmware, attach, _ := strings.Cut(way, " ")
		t.Run(way, func(t *testing.T) {
			code, out, errs := isopress(t, "boot", image, "--firmware", firmware, "--attach", attach,
				"--memory", "512M", "--expect", "^ISOPRESS-DEMO: [0-9]+ store paths", "--timeout", "5m")
			if code != exitDone {
				t.Errorf("exit code %d: %s\n%s", code, errs, out)
			}
		})
	}
}

func TestBootEndsOtherwise(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "demo.iso"), filepath.Join(dir, "bad.iso")
	press(t, demoArgs(t, good)...)
	press(t, demoArgs(t, bad, "--cmdline", "panic=-1 rdinit=/nothing root=/dev/nothing")...)
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"powers off":     {[]string{good}, exitDone, ""},
		"ends unmatched": {[]string{good, "--expect", "no such line"}, exitFailed, "guest ended before the expected output; the console's last line: "},
		"times out":      {[]string{good, "--expect", "no such line", "--timeout", "1s"}, exitFailed, "timed out after 1s"},
		"panics":         {[]string{bad, "--expect", "no such line"}, exitFailed, "kernel panic"},
		"no image":       {[]string{filepath.Join(dir, "none.iso")}, exitFailed, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := isopress(t, append([]string{"boot"}, tc.args...)...)
			if code != tc.code || !strings.Contains(errs, tc.want) {
				t.Errorf("exit code %d, %q; want %d, %q\n%s", code, errs, tc.code, tc.want, out)
			}
		})
	}
}

func TestScreenshot(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	dir := t.TempDir()
	image, shot := filepath.Join(dir, "demo.iso"), filepath.Join(dir, "shot.png")
	press(t, demoArgs(t, image)...)
	if code, _, errs := isopress(t, "boot", image, "--expect", "ISOPRESS-DEMO", "--screenshot", shot); code != exitDone {
		t.Fatal(errs)
	}
	if b, err := os.ReadFile(shot); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Errorf("no PNG: %v", err)
	}
}

// The ISO, as other tools see it.
func TestISOReadBack(t *testing.T) {
	testenv.NeedTool(t, "xorriso", "isoinfo", "unsquashfs", "sgdisk")
	dir := t.TempDir()
	image := filepath.Join(dir, "demo.iso")
	r := press(t, demoArgs(t, image, "--joliet")...)
	out := run(t, "xorriso", "-indev", image, "-report_el_torito", "plain", "-report_system_area", "plain",
		"-osirrox", "on", "-extract", "/", filepath.Join(dir, "x"))
	for _, want := range []string{"Volume id    : 'ISOPRESS'", "El Torito boot img :   2  UEFI", "GPT"} {
		if !strings.Contains(out, want) {
			t.Errorf("xorriso does not say %q:\n%s", want, out)
		}
	}
	for _, f := range r.Files {
		if got := digest(t, filepath.Join(dir, "x", f.Path)); got != f.SHA256 {
			t.Errorf("%s: digest %s, the manifest has %s", f.Path, got, f.SHA256)
		}
		for _, kind := range []string{"-R", "-J"} {
			// Joliet's names end in a version, which isoinfo shows.
			out := strings.ReplaceAll(run(t, "isoinfo", kind, "-f", "-i", image), ";1\n", "\n")
			if !strings.Contains(out, "/"+f.Path+"\n") {
				t.Errorf("isoinfo %s lists no %s:\n%s", kind, f.Path, out)
			}
		}
	}
	if out := run(t, "sgdisk", "-v", image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	checkManifest(t, r, filepath.Join(dir, "x", builder.ManifestFile))
	checkStore(t, filepath.Join(dir, "x/nix-store.squashfs"))
}

// Kernel parameters add up, and a build is summed up in one line.
func TestBuildSaysWhatItDid(t *testing.T) {
	c := testenv.Closure(t)
	dir := t.TempDir()
	image, packed := filepath.Join(dir, "demo.iso"), filepath.Join(dir, "initrd")
	code, _, errs := isopress(t, "initrd", "--init", "none", "--add", dir+":/x", "-o", packed)
	if code != exitDone {
		t.Fatal(errs)
	}
	args := []string{"build", "--root", randomTree(t, 100), "--kernel", c.Kernel, "--initrd", packed, "-o", image,
		"--cmdline", "console=ttyS0 a", "--cmdline", "b=c"}
	if got, want := press(t, args...).Boot.Cmdline, "root=LABEL=ISOPRESS console=ttyS0 a b=c"; got != want {
		t.Errorf("command line %q, want %q", got, want)
	}
	code, _, errs = isopress(t, args...)
	want := image + `: [0-9.]+ MiB, of which rootfs.squashfs takes 4.0 KiB for 109 B in 2 files, ratio 37.578` + "\n"
	if code != exitDone || !regexp.MustCompile(`\A`+want+`\z`).MatchString(errs) {
		t.Errorf("exit code %d, said %q, want %q", code, errs, want)
	}
}

// checkManifest compares what --json printed with what lies in the ISO.
func checkManifest(t *testing.T, r *builder.Result, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.MarshalIndent(r.Manifest, "", "  ")
	if string(b) != string(want)+"\n" {
		t.Errorf("manifest in the ISO:\n%s\nprinted:\n%s", b, want)
	}
	host, _ := os.Hostname()
	for _, secret := range []string{filepath.Dir(file), host, os.TempDir()} {
		if strings.Contains(string(b), `"`+secret) {
			t.Errorf("the manifest tells of this machine: %s", secret)
		}
	}
}

// checkStore compares a squashfs with the test closure, by unsquashfs.
func checkStore(t *testing.T, image string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	run(t, "unsquashfs", "-no-progress", "-d", dir, image)
	registration, err := os.ReadFile(filepath.Join(dir, "nix-path-registration"))
	if err != nil {
		t.Fatal(err)
	}
	infos, err := nix.ParseRegistration(bytes.NewReader(registration))
	paths := testenv.Closure(t).Paths(t)
	if err != nil || len(infos) != len(paths) {
		t.Errorf("registration of %d paths, want %d: %v", len(infos), len(paths), err)
	}
	o := treelist.Options{AllRoot: true, NoXattrs: true}
	var want, got bytes.Buffer
	if err := treelist.WriteAll(&want, treelist.StorePaths(paths), o); err != nil {
		t.Fatal(err)
	}
	var there []treelist.Named
	for _, p := range paths {
		there = append(there, treelist.Named{Name: filepath.Base(p), Path: filepath.Join(dir, filepath.Base(p))})
	}
	if err := treelist.WriteAll(&got, there, o); err != nil {
		t.Fatal(err)
	}
	diffs, total, entries, err := treelist.Diff(&want, &got, 10)
	if err != nil || total > 0 || entries < 50 {
		t.Errorf("%d differences in %d entries, %v:\n%s", total, entries, err, strings.Join(diffs, "\n"))
	}
}

// An image is a function of its inputs alone.
func TestSameBytes(t *testing.T) {
	dir := t.TempDir()
	c := testenv.Closure(t)
	one := filepath.Join(dir, "one.iso")
	press(t, demoArgs(t, one, "-j", "1", "--compression", "zstd:3", "--cache", "off")...)
	want := digest(t, one)

	root := filepath.Join(dir, "root")
	store := filepath.Join(root, nix.StoreDir)
	if err := os.MkdirAll(store, 0o755); err != nil {
		t.Fatal(err)
	}
	paths := c.Paths(t)
	// No modes, no dates, no owners: the copy has what a plain copy has.
	run(t, "cp", append([]string{"-r", "--no-preserve=all", "-d", "-t", store}, paths...)...)
	run(t, "chmod", "-R", "u+w", store)
	for _, p := range paths {
		copyExecutables(t, p, filepath.Join(root, p))
	}
	rand.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	list := filepath.Join(dir, "store-paths")
	if err := os.WriteFile(list, []byte(strings.Join(paths, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	four := filepath.Join(dir, "four.iso")
	press(t, "build", "--closure", list, "--registration", c.Registration, "--system", c.System,
		"--store-root", root, "-j", "4", "--memory", "8M", "--compression", "zstd:3", "--cache", "off", "-o", four)
	if got := digest(t, four); got != want {
		t.Errorf("4 workers, another store root, another order of the list: digest %s, want %s", got, want)
	}
}

// copyExecutables gives copies the one permission that a NAR has.
func copyExecutables(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode()&0o100 != 0 {
			rel, _ := filepath.Rel(from, name)
			err = os.Chmod(filepath.Join(to, rel), 0o700)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// big is more than 32 bits count, and no more than that: an emulated processor reads it.
const big = 4<<30 + 32<<20

// bigTree makes a tree of what strains the formats: a file over 4 GiB with
// content, one of holes, many names, long ones, links and xattrs; with an init
// that compares it with a listing.
func bigTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Statfs_t
	must(unix.Statfs(dir, &st))
	if free := int64(st.Bavail) * st.Bsize; free < 24<<30 {
		testenv.Missing(t, "%d GiB free in %s, 24 needed", free>>30, dir)
	}
	must(os.Mkdir(filepath.Join(dir, "sbin"), 0o755))
	must(guesttest.BuildGuest(filepath.Join(dir, "sbin/init")))
	must(os.Mkdir(filepath.Join(dir, "many"), 0o755))
	for i := range 70_000 {
		must(os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("entry-%d", i)), fmt.Appendf(nil, "%d", i), 0o644))
	}
	long := filepath.Join(dir, strings.Repeat("n", 255))
	must(os.WriteFile(long, []byte("a long name"), 0o640))
	must(os.Link(long, filepath.Join(dir, "many/hard-link")))
	must(unix.Lsetxattr(long, "user.comment", []byte("an attribute"), 0))
	must(os.Symlink(strings.Repeat("n", 255), filepath.Join(dir, "symlink")))
	must(writeBig(filepath.Join(dir, "full"), big, big))
	must(writeBig(filepath.Join(dir, "sparse"), big, 3<<20))
	return dir
}

// writeBig makes a file of size bytes, of which the last are random.
func writeBig(name string, size, random int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	src := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 1<<20)
	for off := size - random; off < size; off += int64(len(buf)) {
		_, _ = src.Read(buf)
		if _, err := f.WriteAt(buf, off); err != nil {
			return err
		}
	}
	return f.Close()
}

func TestBigFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 15 GiB")
	}
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "qemu-system-x86_64", "isoinfo")
	c := testenv.Closure(t)
	tree := bigTree(t)
	var list bytes.Buffer
	if err := treelist.Write(&list, tree, treelist.Options{Hardlinks: true}); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	image := filepath.Join(out, "big.iso")
	r := press(t, "build", "--root", tree, "--kernel", c.Kernel, "--kernel-modules", c.Modules,
		"--compression", "zstd:1", "-o", image,
		"--cmdline", "console=ttyS0 panic=-1 check.list=/dev/vdb check.image=/dev/loop0")
	if r.Size < big {
		t.Fatalf("the ISO has %d bytes, it should have over %d", r.Size, int64(big))
	}
	disk, err := guesttest.ListDisk(filepath.Join(out, "list"), bytes.NewReader(list.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	if err := guesttest.Verdict(qemu.Run(ctx, qemu.Config{Image: image, Attach: qemu.Virtio, Disks: []string{disk}, Expect: guesttest.Expected()})); err != nil {
		t.Error(err)
	}
}
