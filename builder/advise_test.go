package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/testenv"
	"github.com/isopress/isopress/squashfs"
)

// adviseTree is some text, some machine code and some noise, in files of all sizes.
func adviseTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(3, 4))
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		program = []byte(strings.Repeat("no program here ", 1<<15))
	}
	write := func(name string, data []byte) {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/program", program[:min(len(program), 512<<10)])
	noise := make([]byte, 100<<10)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	write("share/noise", noise)
	for i := range 40 {
		var b strings.Builder
		for range 50 + rnd.IntN(400) {
			fmt.Fprintf(&b, "line %d of %d\n", rnd.IntN(1000), i)
		}
		write(fmt.Sprintf("share/text/%02d", i), []byte(b.String()))
	}
	return dir
}

// Of a few blocks all are measured, and the image comes out as was said.
func TestAdviseFewBlocks(t *testing.T) {
	root := adviseTree(t)
	storage, err := ParseStorage("20MB/s")
	if err != nil {
		t.Fatal(err)
	}
	advice, err := Advise(t.Context(), AdviseOptions{Options: Options{Source: Source{Root: root}}, Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	if want := 11 * len(advisedSizes); len(advice.Choices) != want {
		t.Errorf("%d choices, want %d", len(advice.Choices), want)
	}
	if advice.Files != 42 || advice.WorkingSet.Files == 0 || !advice.WorkingSet.Assumed || !strings.Contains(advice.Text, "--compression") {
		t.Errorf("advice is %+v", advice)
	}
	for _, c := range advice.Choices {
		checkChoice(t, root, c)
	}
}

func checkChoice(t *testing.T, root string, c Choice) {
	t.Helper()
	if c.SizeError != 0 || c.ExpandRate <= 0 || c.BuildSeconds <= 0 || c.ReadSeconds <= 0 || c.ReadBytes <= 0 || c.Sampled <= 0 {
		t.Errorf("%+v: all blocks are measured, and something is not", c)
	}
	compression, err := squashfs.ParseCompression(c.Compression)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Squashfs(t.Context(), Options{Source: Source{Root: root}, Output: filepath.Join(t.TempDir(), "image"),
		Compression: compression, BlockSize: c.BlockSize, NoDigest: true})
	if err != nil {
		t.Fatal(err)
	}
	// The tables are guessed, and the image is a multiple of 4 KiB, twice: with its list of blocks.
	if d := math.Abs(float64(r.Size - c.Size)); d > 8192+0.01*float64(r.Size) {
		t.Errorf("%s, blocks of %d: %d bytes predicted, %d built", c.Compression, c.BlockSize, c.Size, r.Size)
	}
}

// Working sets: what is read, in which order, and what is not there.
func TestAdviseWorkingSet(t *testing.T) {
	root := adviseTree(t)
	o := AdviseOptions{Options: Options{Source: Source{Root: root}}, Storage: Storage{Name: "x", Rate: 1e6}}
	a := &adviser{AdviseOptions: o, advice: &Advice{Workers: 1}}
	defer a.close()
	tree, err := a.openTree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.population(t.Context(), tree, 0, squashfs.OrderDirectory, &memoryCache{})
	if err != nil {
		t.Fatal(err)
	}
	a.WorkingSet = []string{"share/text", "bin/program", "share"}
	set, err := a.workingSet(p)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.advice.WorkingSet; got.Files != 42 || got.Bytes != a.advice.Bytes || got.Assumed {
		t.Errorf("working set is %+v, of %+v", got, a.advice)
	}
	if len(set) < 4+1 || !p.plan.IsFragment(p.blocks[set[0]]) {
		t.Errorf("%d blocks, beginning with %v: the text's fragments are to be the first", len(set), set)
	}
	// The program is 4 blocks of its own, one after the other.
	first := slices.IndexFunc(set, func(b int) bool { return !p.plan.IsFragment(p.blocks[b]) })
	for k := range 4 {
		if set[first+k] != set[first]+k {
			t.Fatalf("the program's blocks are %v", set[first:first+4])
		}
	}
	a.WorkingSet = []string{"share", "shar"}
	if _, err := a.workingSet(p); err == nil || !strings.Contains(err.Error(), "working set: shar: no such file") {
		t.Errorf("error is %v", err)
	}
}

// Linux keeps three fragment blocks, in turn, and no others.
func TestKernelReader(t *testing.T) {
	var k kernelReader
	for _, b := range []int{1, 1, 2, 3, 1, 4, 2, 1} {
		k.read(b, true)
	}
	k.read(9, false)
	k.read(9, false)
	k.read(4, true)
	if want := (readSet{1, 2, 3, 4, 1, 9, 9}); !slices.Equal(k.expanded, want) {
		t.Errorf("expanded %v, want %v", k.expanded, want)
	}
}

// Reading is what is read, what is expanded, and a latency for each jump.
func TestReadSet(t *testing.T) {
	root := adviseTree(t)
	a := &adviser{AdviseOptions: AdviseOptions{Options: Options{Source: Source{Root: root}}}, advice: &Advice{Workers: 2}}
	defer a.close()
	tree, err := a.openTree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.population(t.Context(), tree, 0, squashfs.OrderDirectory, &memoryCache{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.survey(t.Context(), p, map[[32]byte]float64{}); err != nil {
		t.Fatal(err)
	}
	c := &candidate{estimate: estimate{total: p.total() / 2}}
	bytes, seconds := readSet{0, 1, 0}.read(p, c, 1e6, Storage{Rate: 1e6, Latency: time.Second})
	stored := int64(p.control[0]/2) + int64(p.control[1]/2) + int64(p.control[0]/2)
	content := 2*p.blocks[0].Size() + p.blocks[1].Size()
	want := 2 + float64(stored)/1e6 + float64(content)/1e6
	if bytes != stored || math.Abs(seconds-want) > 1e-9 {
		t.Errorf("%d bytes in %v s, want %d in %v", bytes, seconds, stored, want)
	}
}

// An image that is not worth its name, and one that is.
func TestAdviseImage(t *testing.T) {
	root := adviseTree(t)
	name := filepath.Join(t.TempDir(), "image")
	if _, err := Squashfs(t.Context(), Options{Source: Source{Root: root}, Output: name, NoDigest: true}); err != nil {
		t.Fatal(err)
	}
	storage := Storage{Name: "x", Rate: 1e6}
	advice, err := Advise(t.Context(), AdviseOptions{Image: name, Storage: storage, Options: Options{Workers: 1}})
	if err != nil || advice.Files != 42 || advice.Beside != 0 {
		t.Fatalf("%v, %+v", err, advice)
	}
	image, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	clear(image[96:8192]) // of the first block
	for what, data := range map[string][]byte{"empty": {}, "short": image[:5000], "noise": image[1000:9000], "damaged": image} {
		bad := filepath.Join(t.TempDir(), what)
		if err := os.WriteFile(bad, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Advise(t.Context(), AdviseOptions{Image: bad, Storage: storage}); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func TestAdviseEmpty(t *testing.T) {
	advice, err := Advise(t.Context(), AdviseOptions{Options: Options{Source: Source{Root: t.TempDir()}}, Storage: Storage{Name: "x", Rate: 1e6}})
	if err != nil || advice.Text == "" {
		t.Fatal(advice, err)
	}
	for _, c := range advice.Choices {
		if c.Size <= 0 || c.SizeError != 0 || c.ReadSeconds != 0 || math.IsNaN(c.ExpandRate) {
			t.Errorf("%+v", c)
		}
	}
}

func TestAdviseCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := AdviseOptions{Options: Options{Source: Source{Root: adviseTree(t)}}, Storage: Storage{Name: "x", Rate: 1e6}}
	o.Progress = func(p Progress) {
		if p.Phase == "sample" {
			cancel()
		}
	}
	if _, err := Advise(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// However little time there is, each codec gets some blocks.
func TestAdviseNoTime(t *testing.T) {
	a := &adviser{advice: &Advice{Workers: 2}}
	a.Source.Root = adviseTree(t)
	defer a.close()
	tree, err := a.openTree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := samplePopulation(t, a, tree, "zstd:3", 4)
	p.codecs[0].count = 16
	if err := a.sample(t.Context(), []*population{p}, time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if n := len(p.codecs[0].seen); n != leastDraws {
		t.Errorf("%d draws were measured, want %d", n, leastDraws)
	}
}

// Of an ISO that another program made, the largest squashfs counts, and the rest is beside it.
func TestAdviseForeignISO(t *testing.T) {
	testenv.NeedTool(t, "xorriso")
	dir := t.TempDir()
	for name, root := range map[string]string{"live.squashfs": adviseTree(t), "small": t.TempDir()} {
		o := Options{Source: Source{Root: root}, Output: filepath.Join(dir, name), NoDigest: true}
		if _, err := Squashfs(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(t.TempDir(), "iso")
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a := &adviser{AdviseOptions: AdviseOptions{Image: image}, advice: &Advice{}}
	var warnings []string
	a.Warn = func(msg string) { warnings = append(warnings, msg) }
	defer a.close()
	tree, err := a.openTree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat(tree, "bin/program"); err != nil {
		t.Error(err)
	}
	live, err := os.Stat(filepath.Join(dir, "live.squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	if a.advice.Beside != whole.Size()-live.Size() {
		t.Errorf("beside is %d, of %d with %d", a.advice.Beside, whole.Size(), live.Size())
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "of 2 squashfs, the largest counts: live.squashfs") {
		t.Errorf("warnings are %q", warnings)
	}
}

// The kernel of one of our own ISOs is not compressed, and is not counted as if it were.
func TestAdviseOwnISO(t *testing.T) {
	dir := t.TempDir()
	kernel, err := os.ReadFile(testenv.Closure(t).Kernel)
	if err != nil {
		t.Fatal(err)
	}
	tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	writeOld(t, filepath.Join(tree, "vmlinuz"), string(kernel))
	writeOld(t, filepath.Join(tree, "vmlinuz.old"), "x"+string(kernel[:len(kernel)-1])) // no block of it is the other's
	writeOld(t, filepath.Join(tree, "sbin/init"), "#!/bin/sh")
	writeOld(t, filepath.Join(dir, "initrd"), "070701")
	o := Options{Source: Source{Root: tree}, Output: image, BlockSize: 128 << 10,
		Boot: Boot{Kernel: filepath.Join(tree, "vmlinuz"), Initrd: filepath.Join(dir, "initrd")}}
	if o.Compression, err = squashfs.ParseCompression("zstd:3"); err != nil {
		t.Fatal(err)
	}
	built, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	a := &adviser{AdviseOptions: AdviseOptions{Image: image}, advice: &Advice{Workers: 2}}
	defer a.close()
	files, err := a.openTree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.raw, []string{"vmlinuz"}) {
		t.Errorf("raw files are %q", a.raw)
	}
	p, err := a.population(t.Context(), files, 0, squashfs.OrderSimilar, &memoryCache{})
	if err != nil {
		t.Fatal(err)
	}
	p.codecs = []*candidate{p.codec("zstd:3")}
	p.codecs[0].count = len(p.blocks)
	if err := a.survey(t.Context(), p, map[[32]byte]float64{}); err != nil {
		t.Fatal(err)
	}
	if err := a.sample(t.Context(), []*population{p}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	p.estimate(nil)
	got := p.predict(p.codecs[0], 1).Size + a.advice.Beside
	if d := float64(got - built.Size); math.Abs(d) > 0.005*float64(built.Size) {
		t.Errorf("%d bytes predicted, %d built", got, built.Size)
	}
	if want := int64(len(kernel)) + 9; a.advice.Unique != want {
		t.Errorf("%d bytes to compress, want %d", a.advice.Unique, want)
	}
}

// A reader half as quick expands half as much in a second, and a working set is read in the time that goes with that.
func TestAdviseReaderSpeed(t *testing.T) {
	o := AdviseOptions{Options: Options{Source: Source{Root: adviseTree(t)}}, Storage: Storage{Name: "x", Rate: 1e6}, ReaderSpeed: 1e-4}
	advice, err := Advise(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range advice.Choices {
		expanding := c.ReadSeconds - float64(c.ReadBytes)/1e6
		if least := float64(advice.WorkingSet.Bytes) / c.ExpandRate; c.ExpandRate > 1e6 || expanding < 0.99*least {
			t.Errorf("%s: %.0f bytes a second, %v s for the expanding, want %v or more", c.Compression, c.ExpandRate, expanding, least)
		}
	}
}
