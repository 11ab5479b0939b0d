package builder

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/isopress/isopress/internal/codec"
	"github.com/isopress/isopress/squashfs"
)

// AdviseOptions say what [Advise] looks at, and for whom.
type AdviseOptions struct {
	// Options name the source, what of it is left out, and the workers. Of the others none counts.
	Options
	// Image is an ISO or a squashfs to look into instead of a source; "" is none.
	Image   string
	Storage Storage
	// WorkingSet are the paths that are read, in their order; a directory stands for all below it. nil is
	// a tenth of the files' content, of directories from all over.
	WorkingSet []string
	// Time bounds the sampling. The reading of the whole source comes on top. 0 is 40 s.
	Time time.Duration
}

const defaultAdviseTime = 40 * time.Second

// Advice is what is predicted of each choice.
type Advice struct {
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`  // of content
	Unique  int64 `json:"unique"` // bytes that are left to compress where equal content is stored once
	Beside  int64 `json:"beside"` // bytes of the image beside its squashfs, for an ISO
	Workers int   `json:"workers"`

	Storage    Storage          `json:"storage"`
	WorkingSet WorkingSetResult `json:"working_set"`
	Choices    []Choice         `json:"choices"`
	Text       string           `json:"advice"`
}

// WorkingSetResult is what of the image is predicted to be read.
type WorkingSetResult struct {
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`
	Assumed bool  `json:"assumed"` // rather than given
}

// Choice is a compression with its block size, and what is predicted of it.
type Choice struct {
	Compression string `json:"compression"`
	BlockSize   int    `json:"block_size"`
	Order       string `json:"order"`

	Size         int64   `json:"size"`          // of the image, bytes
	SizeError    float64 `json:"size_error"`    // standard error of Size, as a share of it
	BuildSeconds float64 `json:"build_seconds"` // wall, without a cache, on this machine
	ExpandRate   float64 `json:"expand_rate"`   // bytes of content a second that Linux expands on one core
	ReadBytes    int64   `json:"read_bytes"`    // that the working set reads from the storage
	ReadSeconds  float64 `json:"read_seconds"`  // to read the working set
	Pareto       bool    `json:"pareto"`        // none is smaller and quicker to read
	Sampled      int64   `json:"sampled"`       // bytes of content that were compressed for it
}

// advised are the compressions that are tried, and how many MiB of samples each gets, in
// proportion to what it takes.
var advised = []advisedCodec{
	{"zstd:1", 32}, {"zstd:3", 48}, {"zstd:6", 40}, {"zstd:9", 40}, {"zstd:15", 16}, {hubCodec, 40}, {"zstd:22", 8},
	{"xz", 16}, {"gzip:9", 24}, {"lz4", 48}, {"lz4:hc", 16},
}

type advisedCodec struct {
	name string
	mib  int
}

// hubCodec is what others of the slow ones are compared with: block by block they differ less from it
// than from a quick one, so fewer samples are enough.
const hubCodec = "zstd:19"

// advisedSizes are the block sizes, and the share of the samples that each gets: as its blocks are more,
// they tell more.
var advisedSizes = []struct {
	size  int
	share float64
}{{1 << 20, 1}, {256 << 10, 0.4}, {128 << 10, 0.3}}

// Advise predicts size, build time and reading time of the image for several compressions, from samples of its
// real blocks.
func Advise(ctx context.Context, o AdviseOptions) (*Advice, error) {
	a := &adviser{AdviseOptions: o, advice: &Advice{Storage: o.Storage, Workers: o.Workers}}
	if a.Time == 0 {
		a.Time = defaultAdviseTime
	}
	if a.advice.Workers == 0 {
		a.advice.Workers = runtime.GOMAXPROCS(0)
	}
	if err := a.storage(ctx); err != nil {
		return nil, err
	}
	defer a.close()
	tree, err := a.openTree(ctx)
	if err != nil {
		return nil, err
	}
	rest := 0.0
	for _, s := range advisedSizes {
		rest += s.share
	}
	left := a.Time
	for _, s := range advisedSizes {
		begin := time.Now()
		if err := a.blockSize(ctx, tree, s.size, s.share, time.Duration(float64(left)*s.share/rest)); err != nil {
			return nil, err
		}
		rest -= s.share
		left = max(left-time.Since(begin), 0)
	}
	a.advice.judge()
	return a.advice, nil
}

type adviser struct {
	AdviseOptions
	advice *Advice
}

// openTree opens the source, or the image's squashfs.
func (a *adviser) openTree(ctx context.Context) (fs.FS, error) {
	if a.Image == "" {
		if err := a.checkSource(); err != nil {
			return nil, err
		}
		return a.open(ctx)
	}
	f, size, err := openFile("image", a.Image)
	if err != nil {
		return nil, err
	}
	a.files = append(a.files, f)
	r, within, err := squashfsWithin(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Image, err)
	}
	a.advice.Beside = size - within
	tree, err := squashfs.NewReader(r, within)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Image, err)
	}
	if a.excluder, err = a.validate(); err != nil {
		return nil, err
	}
	return tree, nil
}

// blockSize predicts all compressions at one block size.
func (a *adviser) blockSize(ctx context.Context, tree fs.FS, size int, share float64, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	trees := &memoryCache{}
	var all []*population
	for _, order := range []squashfs.Order{squashfs.OrderSimilar, squashfs.OrderDirectory} {
		p, err := a.population(ctx, tree, size, order, trees)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	if err := a.sample(ctx, all, share, deadline); err != nil {
		return err
	}
	for _, p := range all {
		set, err := a.workingSet(p)
		if err != nil {
			return err
		}
		for _, c := range p.codecs {
			choice := p.predict(c, a.advice.Workers)
			choice.ReadBytes, choice.ReadSeconds = set.read(p, c, choice.ExpandRate, a.Storage)
			choice.Size += a.advice.Beside
			a.advice.Choices = append(a.advice.Choices, choice)
		}
	}
	return nil
}

// population makes a plan and its blocks, with those compressions that this order is the default of.
func (a *adviser) population(ctx context.Context, tree fs.FS, size int, order squashfs.Order, trees *memoryCache) (*population, error) {
	p := &population{size: size, order: order}
	for _, c := range advised {
		compression, err := squashfs.ParseCompression(c.name)
		if err != nil {
			return nil, err
		}
		spec, err := codec.Parse(c.name)
		if err != nil {
			return nil, err
		}
		if compression.DefaultOrder() == order {
			p.codecs = append(p.codecs, &candidate{name: compression.String(), spec: spec, mib: c.mib})
		}
	}
	opts := a.squashfsOptions()
	opts.BlockSize, opts.Order = size, order
	opts.Compression, _ = squashfs.ParseCompression(hubCodec)
	opts.Trees, opts.TreeKey = trees, topLevel
	begin := time.Now()
	var err error
	if p.plan, err = squashfs.Prepare(ctx, tree, opts); err != nil {
		return nil, a.hint(err)
	}
	p.prepare = time.Since(begin)
	if trees.prepare == 0 {
		trees.prepare = p.prepare
	}
	p.prepare = max(p.prepare, trees.prepare) // the second one has not read the files
	p.blocks = p.plan.Blocks()
	st := p.plan.Stats()
	a.advice.Files, a.advice.Bytes, a.advice.Unique = st.Files, st.Bytes, st.PlannedBytes
	return p, nil
}

// memoryCache keeps what is known of trees for the next plan.
type memoryCache struct {
	blobs   map[[32]byte][]byte
	prepare time.Duration
}

// Load implements [squashfs.Cache].
func (m *memoryCache) Load(key [32]byte, _ []byte) []byte { return m.blobs[key] }

// Save implements [squashfs.Cache].
func (m *memoryCache) Save(key [32]byte, data ...[]byte) {
	if m.blobs == nil {
		m.blobs = map[[32]byte][]byte{}
	}
	var all []byte
	for _, d := range data {
		all = append(all, d...)
	}
	m.blobs[key] = all
}

// judge marks the choices that none other beats, and advises one.
func (a *Advice) judge() {
	for i := range a.Choices {
		c := &a.Choices[i]
		c.Pareto = true
		for j := range a.Choices {
			d := &a.Choices[j]
			if d.Size <= c.Size && d.ReadSeconds <= c.ReadSeconds && (d.Size < c.Size || d.ReadSeconds < c.ReadSeconds) {
				c.Pareto = false
				break
			}
		}
	}
	a.Text = a.sentence()
}

// sameWorth is how near to the best a choice is as good.
const sameWorth = 1.03

// Advised is the choice to take: the one whose size times its reading time is least, so that an image that is smaller by a tenth
// is worth as much as one that is read in a tenth less time; of those about as good, the one that is built the quickest.
func (a *Advice) Advised() Choice {
	worth := func(c Choice) float64 { return float64(c.Size) * c.ReadSeconds }
	best := worth(a.least(func(Choice) bool { return true }, worth))
	return a.least(func(c Choice) bool { return worth(c) <= best*sameWorth }, func(c Choice) float64 { return c.BuildSeconds })
}

func (a *Advice) least(of func(Choice) bool, by func(Choice) float64) (best Choice) {
	least := math.Inf(1)
	for _, c := range a.Choices {
		if v := by(c); of(c) && v < least {
			best, least = c, v
		}
	}
	return best
}

// sentence says what to take and what it is worth.
func (a *Advice) sentence() string {
	take := a.Advised()
	small := a.least(func(Choice) bool { return true }, func(c Choice) float64 { return float64(c.Size) })
	text := fmt.Sprintf("On %s, --compression %s --block-size %dK: %s, built in about %s, the working set read in %s",
		a.Storage.Name, take.Compression, take.BlockSize>>10, mebibytes(take.Size), seconds(take.BuildSeconds), seconds(take.ReadSeconds))
	if small != take {
		text += fmt.Sprintf("; the smallest, %s at %dK, saves %.0f %% and is read in %s",
			small.Compression, small.BlockSize>>10, 100*(1-float64(small.Size)/float64(take.Size)), seconds(small.ReadSeconds))
	}
	return text + "."
}

func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.0f s", s)
}

// topLevel names trees below the root whole: within one run they are taken not to change.
func topLevel(path string) string {
	if path == "." || strings.Contains(path, "/") {
		return ""
	}
	return path
}
