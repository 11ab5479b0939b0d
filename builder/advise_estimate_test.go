package builder

import (
	"io/fs"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/codec"
	"github.com/isopress/isopress/squashfs"
)

func testCandidate(name string, count int, spec codec.Spec) *candidate {
	return &candidate{advisedCodec: advisedCodec{name: name}, title: name, spec: spec, count: count}
}

// samplePopulation plans blocks of 4 KiB times a factor, and surveys them.
func samplePopulation(t *testing.T, a *adviser, tree fs.FS, name string, factor int) *population {
	t.Helper()
	spec, err := codec.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &population{size: factor << 12, order: squashfs.OrderSimilar, codecs: []*candidate{testCandidate(name, 0, spec)}}
	p.plan, err = squashfs.Prepare(t.Context(), tree, squashfs.Options{BlockSize: p.size, Order: p.order})
	if err != nil {
		t.Fatal(err)
	}
	p.blocks = p.plan.Blocks()
	if err := a.survey(t.Context(), p, map[[32]byte]float64{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// What a sample says is what all blocks together come to: of Go's own source, in two codecs that differ from the
// control, one of them by way of the other.
func TestSampleAgainstAll(t *testing.T) {
	a := &adviser{advice: &Advice{Workers: 2}}
	a.Source.Root = goSource(t)
	defer a.close()
	tree, err := a.openTree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := samplePopulation(t, a, tree, "lz4", 4)
	more := samplePopulation(t, a, tree, "zstd:9", 4).codecs[0]
	p.codecs = append(p.codecs, more, testCandidate("gzip:9", 0, codec.Spec{Algorithm: codec.Gzip, Level: 9}))
	real := make([]float64, len(p.codecs))
	for _, c := range p.codecs {
		c.count = len(p.blocks)
	}
	measure := func() {
		for _, c := range p.codecs {
			c.seen = nil
		}
		if err := a.sample(t.Context(), []*population{p}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		p.estimate(nil)
	}
	measure()
	for i, c := range p.codecs {
		if real[i] = c.total; !c.all || c.error != 0 || len(c.seen) != len(p.blocks) {
			t.Errorf("%s: not all of the blocks: %d of %d, error %v", c.name, len(c.seen), len(p.blocks), c.error)
		}
	}
	p.codecs[0].count, p.codecs[1].count, p.codecs[2].count = 128, 128, 32
	measure()
	for i, c := range p.codecs {
		off := c.total/real[i] - 1
		if c.all || math.Abs(off) > 0.05 || math.Abs(off) > 4*c.error/c.total || c.error > 0.03*c.total {
			t.Errorf("%s: %.0f bytes predicted ± %.2f %%, %.0f real, off by %.2f %%", c.name, c.total, 100*c.error/c.total, real[i], 100*off)
		}
	}
}

// A codec of few draws that follows another one of many exactly has the other one's error.
func TestByHub(t *testing.T) {
	p := &population{control: make([]float64, 1000), ends: make([]float64, 1000), blocks: make([]squashfs.Block, 1000)}
	for i := range p.control {
		p.control[i] = 100
		p.ends[i] = float64(100 * (i + 1))
	}
	hub := testCandidate("hub", 64, codec.Spec{})
	follower := testCandidate("follower", 8, codec.Spec{})
	p.codecs = []*candidate{follower, hub}
	for _, c := range p.codecs {
		for _, d := range p.draw(c, false) {
			size := float64(40 + d.block*7919%50)
			if c == follower {
				size *= 0.9
			}
			c.seen = append(c.seen, observation{block: d.block, raw: 200, measure: measure{size, 2, 1}})
		}
	}
	p.estimate(nil)
	if hub.error <= 0 || math.Abs(follower.total/hub.total-0.9) > 1e-12 || math.Abs(follower.error/hub.error-0.9) > 1e-12 {
		t.Errorf("hub %v ± %v, follower %v ± %v", hub.total, hub.error, follower.total, follower.error)
	}
	if math.Abs(hub.press-2000) > 1e-6 || math.Abs(hub.expand-1000) > 1e-6 {
		t.Errorf("press %v s, expand %v s", hub.press, hub.expand)
	}
}

// The draws of a codec are evenly spaced, and among those of one that has more.
func TestDraw(t *testing.T) {
	p := &population{blocks: make([]squashfs.Block, 1000)}
	for i := range p.blocks {
		p.control = append(p.control, 1)
		p.ends = append(p.ends, float64(i+1))
	}
	var last []int
	for _, n := range []int{64, 16, 8} {
		var blocks []int
		for _, d := range p.draw(&candidate{count: n}, false) {
			blocks = append(blocks, d.block)
		}
		slices.Sort(blocks)
		for i, b := range blocks {
			gap := (1000 + blocks[(i+1)%n] - b) % 1000
			if gap < 1000/n-1 || gap > 1000/n+2 {
				t.Errorf("%d draws: %v: a gap of %d behind %d", n, blocks, gap, b)
			}
			if last != nil && !slices.Contains(last, b) {
				t.Errorf("%d draws: %d is not among those of more draws", n, b)
			}
		}
		last = blocks
	}
}

// What larger blocks gain a slow codec is found by way of its guide, whatever a block gains by itself; without one, by the
// blocks alone.
func TestBySmall(t *testing.T) {
	of := func(size int, guide, slow float64) *population {
		p := &population{size: size, pieceSize: 128 << 10, codecs: []*candidate{
			testCandidate("guide", 0, codec.Spec{}), testCandidate("slow", 0, codec.Spec{}), testCandidate("same", 0, codec.Spec{})}}
		for i, total := range []float64{guide, slow, slow} {
			p.codecs[i].estimate = estimate{total: total, error: total / 100, press: 10, expand: 2}
		}
		p.codecs[1].guide = "guide"
		for k := range 8 {
			p.control = append(p.control, 10)
			p.ends = append(p.ends, float64(10*(k+1)))
			gain := 1 / float64(k+1)
			p.codecs[0].seen = append(p.codecs[0].seen, observation{block: k, measure: measure{10 * gain, 1, 1}, pieces: measure{10, 1, 1}})
			p.codecs[1].seen = append(p.codecs[1].seen, observation{block: k, measure: measure{8 * gain * 0.9, 3, 1}, pieces: measure{8, 2, 2}})
			p.codecs[2].seen = append(p.codecs[2].seen, observation{block: k, measure: measure{7.2, 1, 1}, pieces: measure{8, 1, 1}})
		}
		return p
	}
	small, large := of(128<<10, 1000, 800), of(1<<20, 500, 1e6)
	for i, want := range []float64{500, 800 * 500 / 1000 * 0.9, 720} {
		c := large.codecs[i]
		large.bySmall(c, small)
		if i > 0 && math.Abs(c.total-want) > 1e-9 {
			t.Errorf("%s: %+v, want a total of %v", c.name, c.estimate, want)
		}
	}
	slow, same := large.codecs[1], large.codecs[2]
	if got, want := slow.error/slow.total, math.Sqrt(3)/100; math.Abs(got-want) > 1e-9 {
		t.Errorf("error is %v of the total, want %v: that of three totals", got, want)
	}
	if got, want := same.error/same.total, math.Hypot(0.01, planError); math.Abs(got-want) > 1e-9 {
		t.Errorf("error is %v of the total without a guide, want %v", got, want)
	}
	if math.Abs(slow.press-15) > 1e-9 || math.Abs(slow.expand-1) > 1e-9 {
		t.Errorf("press %v, expand %v: want 15 and 1", slow.press, slow.expand)
	}
}

func TestJudge(t *testing.T) {
	a := &Advice{Storage: Storage{Name: "x"}, Choices: []Choice{
		{Compression: "small", BlockSize: 1 << 20, Size: 100, ReadSeconds: 9, BuildSeconds: 90},
		{Compression: "best", BlockSize: 1 << 20, Size: 150, ReadSeconds: 4, BuildSeconds: 50},
		{Compression: "quick", BlockSize: 128 << 10, Size: 153, ReadSeconds: 4, BuildSeconds: 5},
		{Compression: "fast", BlockSize: 1 << 20, Size: 400, ReadSeconds: 2, BuildSeconds: 1},
	}}
	a.judge()
	for i, want := range []bool{true, true, false, true} {
		if a.Choices[i].Pareto != want {
			t.Errorf("%s: Pareto is %v", a.Choices[i].Compression, !want)
		}
	}
	if got := a.Advised().Compression; got != "quick" {
		t.Errorf("advised is %s", got)
	}
	const want = "For x, take --compression quick --block-size 128K: 153 B, built in about 5.0 s, and the working set is read in 4.0 s; " +
		"the smallest, small in blocks of 1M, saves 35 % of the size and is read in 9.0 s."
	if a.Text != want {
		t.Errorf("text is %q, want %q", a.Text, want)
	}
}

// goSource is a part of the source of the Go that builds the tests, some 10 MB.
func goSource(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src", "cmd", "compile")
}
