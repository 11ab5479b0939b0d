package builder

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/isopress/isopress/internal/bytesize"
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
	// Time, where not 0, is how long to sample, roughly: fewer blocks or more, but a few of each. The reading of
	// the whole source comes on top. 0 is as many blocks as mostly tell the sizes within 3 %.
	Time time.Duration
	// ReaderSpeed is how quick one processor of the machine that reads the image is, of this one's: 0.5 is half as
	// quick. 0 is 1.
	ReaderSpeed float64
}

// Advice is what is predicted of each choice.
type Advice struct {
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`  // of content
	Unique  int64 `json:"unique"` // bytes that are left to compress where equal content is stored once
	Beside  int64 `json:"beside"` // bytes of the image beside its squashfs, for an ISO
	Workers int   `json:"workers"`

	Storage    Storage          `json:"storage"`
	Reader     float64          `json:"reader_speed"` // of one processor, of this machine's
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
	ExpandRate   float64 `json:"expand_rate"`   // bytes of content a second that Linux expands on one core of the reading machine
	ReadBytes    int64   `json:"read_bytes"`    // that the working set reads from the storage
	ReadSeconds  float64 `json:"read_seconds"`  // to read the working set
	Pareto       bool    `json:"pareto"`        // none is smaller and quicker to read
	Sampled      int64   `json:"sampled"`       // bytes of content that were compressed for it
}

// advised are the compressions that are tried, and on how many blocks of each of advisedSizes: what takes most of them where
// less than a minute is to be enough for some GiB, and no size is to be in doubt by more than 3 %. Slow ones are
// measured on few blocks where a quick one on many tells most of what they do: a relative of the same
// format, which is no choice itself but a proxy, or what larger blocks gain their guide (see [population.bySmall]).
var advised = []advisedCodec{
	{name: "zstd:1", draws: draws{64, 64, 32}},
	{name: "zstd:3", draws: draws{512, 256, 256}},
	{name: "zstd:6", draws: draws{128, 128, 64}},
	{name: "zstd:9", draws: draws{512, 64, 64}, pieces: true},
	{name: "zstd:15", draws: draws{128, 8, 4}, pieces: true, guide: "zstd:9"},
	{name: "zstd:19", draws: draws{64, 8, 8}, pieces: true, guide: "zstd:9"},
	{name: "zstd:22", draws: draws{8, 4, 4}},
	{name: "xz:0", draws: draws{512, 0, 0}, proxy: true},
	{name: "xz", draws: draws{64, 8, 16}, pieces: true, guide: "zstd:9"},
	{name: "gzip:4", draws: draws{1024, 0, 0}, proxy: true},
	{name: "gzip:9", draws: draws{32, 4, 4}, pieces: true},
	{name: "lz4", draws: draws{4096, 512, 512}, pieces: true},
	{name: "lz4:hc:5", draws: draws{512, 0, 0}, proxy: true},
	{name: "lz4:hc", draws: draws{16, 4, 4}, pieces: true, guide: "lz4"},
}

type advisedCodec struct {
	name   string
	draws  draws
	pieces bool   // larger blocks are compressed in pieces of the smallest size, too
	guide  string // gains about as much by larger blocks, and has more draws; "" where larger blocks hardly change anything
	proxy  bool   // is no choice
}

// draws are how many blocks of each of advisedSizes are drawn: 0 or a power of two.
type draws [3]int

// advisedSizes are the block sizes that are tried, the smallest first.
var advisedSizes = [...]int{128 << 10, 256 << 10, 1 << 20}

// Advise predicts size, build time and reading time of the image for several compressions, from samples of its
// real blocks.
func Advise(ctx context.Context, o AdviseOptions) (*Advice, error) {
	a := &adviser{AdviseOptions: o, advice: &Advice{Storage: o.Storage, Workers: o.Workers, Reader: o.ReaderSpeed}}
	if o.ReaderSpeed == 0 {
		a.advice.Reader = 1
	}
	if a.advice.Workers == 0 {
		a.advice.Workers = runtime.GOMAXPROCS(0)
	}
	if err := a.storage(ctx); err != nil {
		return nil, err
	}
	defer a.close()
	a.warnEngines()
	tree, err := a.openTree(ctx)
	if err != nil {
		return nil, err
	}
	left := a.Time
	for i := range advisedSizes {
		begin := time.Now()
		if err := a.blockSize(ctx, tree, i, left/time.Duration(len(advisedSizes)-i)); err != nil {
			return nil, err
		}
		if left > 0 {
			left = max(left-time.Since(begin), time.Nanosecond*time.Duration(len(advisedSizes)))
		}
	}
	for i := range a.advice.Choices {
		a.advice.Choices[i].BuildSeconds += a.prepare.Seconds()
	}
	a.advice.judge()
	return a.advice, nil
}

type adviser struct {
	AdviseOptions
	advice *Advice
	lock   sync.Mutex // of the progress

	prepare time.Duration // the shortest time that reading the source took

	raw []string // files of an image that are not compressed, as boot loaders read them

	small [2]*population // by order, of the smallest block size: what was estimated
}

// warnEngines tells, once each, of what this build's engines do not reach.
func (a *adviser) warnEngines() {
	told := map[string]bool{}
	for _, c := range advised {
		spec, err := codec.Parse(c.name)
		if msg := codec.Warning(spec); err == nil && msg != "" && !told[msg] {
			told[msg] = true
			a.warn("%s", msg)
		}
	}
}

// openTree opens the source, or the image's squashfs.
func (a *adviser) openTree(ctx context.Context) (fs.FS, error) {
	if a.Image == "" {
		if err := a.checkSource(); err != nil {
			return nil, err
		}
		return a.open(ctx)
	}
	return a.openImage()
}

// blockSize predicts all compressions at one of advisedSizes, within a time where that is not 0.
func (a *adviser) blockSize(ctx context.Context, tree fs.FS, size int, limit time.Duration) error {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	trees := &memoryCache{}
	var all []*population
	known := map[[32]byte]float64{}
	for _, order := range []squashfs.Order{squashfs.OrderSimilar, squashfs.OrderDirectory} {
		p, err := a.population(ctx, tree, size, order, trees)
		if err != nil {
			return err
		}
		if err := a.survey(ctx, p, known); err != nil {
			return err
		}
		all = append(all, p)
	}
	if err := a.sample(ctx, all, deadline); err != nil {
		return err
	}
	for i, p := range all {
		p.estimate(a.small[i])
		if err := a.choices(p); err != nil {
			return err
		}
		p.plan, p.blocks, p.control, p.ends = nil, nil, nil, nil
		if size == 0 {
			a.small[i] = p
		}
	}
	return nil
}

// choices adds what is predicted of a population's codecs.
func (a *adviser) choices(p *population) error {
	set, err := a.workingSet(p)
	if err != nil {
		return err
	}
	for _, c := range p.codecs {
		if c.proxy {
			continue
		}
		choice := p.predict(c, a.advice.Workers)
		choice.ExpandRate *= a.advice.Reader
		choice.ReadBytes, choice.ReadSeconds = set.read(p, c, choice.ExpandRate, a.Storage)
		choice.Size += a.advice.Beside
		a.advice.Choices = append(a.advice.Choices, choice)
	}
	return nil
}

// population makes a plan and its blocks, with those compressions that this order is the default of.
func (a *adviser) population(ctx context.Context, tree fs.FS, size int, order squashfs.Order, trees *memoryCache) (*population, error) {
	p := &population{size: advisedSizes[size], order: order, pieceSize: advisedSizes[0]}
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
			p.codecs = append(p.codecs, &candidate{advisedCodec: c, title: compression.String(), spec: spec, count: c.draws[size]})
		}
	}
	opts := a.squashfsOptions()
	opts.BlockSize, opts.Order, opts.Raw = p.size, order, a.raw
	opts.Trees, opts.TreeKey, opts.Sketches = trees, topLevel, true
	first := a.prepare == 0
	if !first {
		opts.Warn = nil // it has been told
	}
	begin := time.Now()
	var err error
	if p.plan, err = squashfs.Prepare(ctx, tree, opts); err != nil {
		return nil, a.hint(err)
	}
	if first {
		for _, msg := range a.excluder.warnings() {
			a.warn("--exclude %s", msg)
		}
	}
	if took := time.Since(begin); first || !trees.used && took < a.prepare {
		a.prepare = took
	}
	p.blocks = p.plan.Blocks()
	st := p.plan.Stats()
	left := int64(0)
	for _, b := range p.blocks {
		left += int64(b.Size())
	}
	p.count, p.tables, p.uncompressed = len(p.blocks), float64(p.plan.MaxSize()-st.PlannedBytes), float64(st.PlannedBytes-left)
	a.advice.Files, a.advice.Bytes, a.advice.Unique = st.Files, st.Bytes, left
	return p, nil
}

// memoryCache keeps what is known of trees for the next plan.
type memoryCache struct {
	blobs map[[32]byte][]byte
	used  bool
}

// Load implements [squashfs.Cache].
func (m *memoryCache) Load(key [32]byte, _ []byte) []byte {
	m.used = m.used || m.blobs[key] != nil
	return m.blobs[key]
}

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
	text := fmt.Sprintf("For %s, take --compression %s --block-size %s: %s, built in about %s, and the working set is read in %s",
		a.Storage.Name, take.Compression, take.BlockSizeFlag(), bytesize.Text(take.Size), seconds(take.BuildSeconds), seconds(take.ReadSeconds))
	if saved := 1 - float64(small.Size)/float64(take.Size); saved >= 0.005 {
		text += fmt.Sprintf("; the smallest, %s in blocks of %s, saves %.0f %% of the size and is read in %s",
			small.Compression, small.BlockSizeFlag(), 100*saved, seconds(small.ReadSeconds))
	}
	return text + "."
}

// BlockSizeFlag is the block size as --block-size takes it.
func (c Choice) BlockSizeFlag() string {
	if c.BlockSize%(1<<20) == 0 {
		return fmt.Sprintf("%dM", c.BlockSize>>20)
	}
	return fmt.Sprintf("%dK", c.BlockSize>>10)
}

// seconds is a time for people.
func seconds(s float64) string {
	switch {
	case s < 0.1:
		return fmt.Sprintf("%.0f ms", 1000*s)
	case s < 10:
		return fmt.Sprintf("%.1f s", s)
	}
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

// topLevel names trees below the root whole: within one run they are taken not to change.
func topLevel(path string) string {
	if path == "." || strings.Contains(path, "/") {
		return ""
	}
	return path
}
