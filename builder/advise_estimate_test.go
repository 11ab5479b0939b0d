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

// samplePopulation plans blocks of 4 KiB times a factor, and surveys them.
func samplePopulation(t *testing.T, a *adviser, tree fs.FS, name string, factor int) *population {
	t.Helper()
	spec, err := codec.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &population{size: factor << 12, order: squashfs.OrderSimilar, codecs: []*candidate{{name: name, spec: spec}}}
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
	p.codecs = append(p.codecs, more, &candidate{name: "gzip:9", spec: codec.Spec{Algorithm: codec.Gzip, Level: 9}})
	real := make([]float64, len(p.codecs))
	for _, c := range p.codecs {
		c.draws = len(p.blocks)
	}
	measure := func() {
		for _, c := range p.codecs {
			c.seen = nil
		}
		if err := a.sample(t.Context(), []*population{p}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		p.estimate()
	}
	measure()
	for i, c := range p.codecs {
		if real[i] = c.total; !c.all || c.error != 0 || len(c.seen) != len(p.blocks) {
			t.Errorf("%s: not all of the blocks: %d of %d, error %v", c.name, len(c.seen), len(p.blocks), c.error)
		}
	}
	p.codecs[0].draws, p.codecs[1].draws, p.codecs[2].draws = 128, 128, 32
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
	hub := &candidate{name: "hub", draws: 64}
	follower := &candidate{name: "follower", draws: 8}
	p.codecs = []*candidate{follower, hub}
	for _, c := range p.codecs {
		for _, d := range p.draw(c, false) {
			size := float64(40 + d.block*7919%50)
			if c == follower {
				size *= 0.9
			}
			c.seen = append(c.seen, observation{block: d.block, size: size, press: 2, expand: 1, raw: 200})
		}
	}
	p.estimate()
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
		for _, d := range p.draw(&candidate{draws: n}, false) {
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

// Codecs without draws lie between: by the logarithm of the block size, but for the level that does not.
func TestBetween(t *testing.T) {
	make := func(size int, quick, slow, odd float64) *population {
		return &population{size: size, order: squashfs.OrderSimilar, blocks: []squashfs.Block{{}}, codecs: []*candidate{
			{name: "zstd:3", seen: []observation{{}}, estimate: estimate{total: quick, press: 1, expand: 1}},
			{name: "zstd:19", estimate: estimate{total: slow, error: slow / 100, press: 10, expand: 2}},
			{name: likeSmall, estimate: estimate{total: odd, press: 3, expand: 1}},
		}}
	}
	large, small := make(1<<20, 100, 64, 90), make(128<<10, 120, 120, 96)
	p := make(256<<10, 110, 0, 0)
	p.between(large, small)
	slow, odd := p.codecs[1], p.codecs[2]
	if want := 110 * math.Pow(0.64, 1./3); math.Abs(slow.total-want) > 1e-9 || math.Abs(slow.press-10) > 1e-9 || math.Abs(slow.expand-2) > 1e-9 {
		t.Errorf("%+v, want a total of %v", slow.estimate, want)
	}
	if slow.error < slow.total*betweenError || slow.error > slow.total*0.011 {
		t.Errorf("error is %v of %v", slow.error, slow.total)
	}
	if math.Abs(odd.total-88) > 1e-9 {
		t.Errorf("%s: total is %v, want 88", odd.name, odd.total)
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
	const want = "For x, take --compression quick --block-size 128K: 0.0 MiB, built in about 5.0 s, and the working set is read in 4.0 s; " +
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
