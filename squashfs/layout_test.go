//go:build linux

package squashfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
)

// prepare plans a tree in memory.
func prepare(t *testing.T, fsys fs.FS, opts Options) *Plan {
	t.Helper()
	p, err := Prepare(t.Context(), fsys, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *Plan) fileNamed(t *testing.T, name string) *inode {
	t.Helper()
	var found *inode
	p.eachInode(p.root, func(n *inode) {
		if n.path() == name {
			found = n
		}
	})
	if found == nil {
		t.Fatalf("no %s in the plan", name)
	}
	return found
}

// fragmentBlocks returns the plan's fragment blocks, each by what is in it.
func (p *Plan) fragmentBlocks() map[string]bool {
	found := map[string]bool{}
	for _, r := range p.runs {
		if r.parts == nil {
			continue
		}
		var b strings.Builder
		for _, t := range r.parts {
			d := t.digest()
			b.Write(d.sum[:])
		}
		found[b.String()] = true
	}
	return found
}

// words is text that compresses, of a vocabulary of its own, so that texts of
// other seeds are not like it.
func words(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	vocabulary := make([]string, 200)
	for i := range vocabulary {
		vocabulary[i] = fmt.Sprintf("%x", r.Uint32N(1<<24))
	}
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(vocabulary[r.IntN(len(vocabulary))])
		b.WriteByte(' ')
	}
	return b.Bytes()[:n]
}

// edited is b with a few lines in the middle replaced.
func edited(b []byte) []byte {
	b = bytes.Clone(b)
	copy(b[len(b)/2:], "a few words that were not there before, and some more of them")
	return b
}

func TestAlikeFilesLieTogether(t *testing.T) {
	tree := fstest.MapFS{}
	const versions, files = 3, 40
	for f := range files {
		b := words(uint64(f), 6000+f*10)
		for v := range versions {
			if v > 0 {
				b = edited(append(b[:100:100], b...))
			}
			tree[fmt.Sprintf("version-%d/file-%02d", v, f)] = &fstest.MapFile{Data: b}
		}
	}
	// Binary that nothing is like.
	tree["version-1/random"] = &fstest.MapFile{Data: random(1, 5000)}
	blocks := func(o Order) (together int) {
		p := prepare(t, tree, Options{Order: o, BlockSize: 64 << 10})
		for f := range files {
			in := map[uint32]bool{}
			for v := range versions {
				n := p.fileNamed(t, fmt.Sprintf("version-%d/file-%02d", v, f))
				in[p.tails[n.content.tail].block] = true
			}
			if len(in) == 1 {
				together++
			}
		}
		return together
	}
	if n := blocks(OrderSimilar); n != files {
		t.Errorf("similar: of %d files only %d have their %d versions in one block", files, n, versions)
	}
	if n := blocks(OrderDirectory); n != 0 {
		t.Errorf("directory: %d files have their versions in one block", n)
	}
}

// manyFiles is a tree of small files in which some are like others.
func manyFiles() fstest.MapFS {
	tree := fstest.MapFS{}
	r := rand.New(rand.NewPCG(7, 7))
	for d := range 60 {
		for f := range 50 {
			b := words(uint64(d*50+f), 500+r.IntN(9000))
			tree[fmt.Sprintf("d%02d/f%02d", d, f)] = &fstest.MapFile{Data: b}
			if f%7 == 0 {
				tree[fmt.Sprintf("x%02d/g%02d", (d*7)%60, f)] = &fstest.MapFile{Data: edited(b)}
			}
		}
	}
	return tree
}

// What changes in one place of a tree changes the fragment blocks there, and
// leaves the others as they were.
func TestFragmentBlocksStayPut(t *testing.T) {
	changes := map[string]struct {
		change func(fstest.MapFS)
		blocks int // that may differ
	}{
		"a file changed": {func(m fstest.MapFS) {
			m["d10/f10"] = &fstest.MapFile{Data: edited(m["d10/f10"].Data)}
		}, 2},
		"a file grown": {func(m fstest.MapFS) {
			m["d20/f14"] = &fstest.MapFile{Data: append(words(999_999, 300), m["d20/f14"].Data...)}
		}, 4},
		"a file added":   {func(m fstest.MapFS) { m["d00/f00a"] = &fstest.MapFile{Data: words(12345, 4000)} }, 12},
		"a file removed": {func(m fstest.MapFS) { delete(m, "d30/f30") }, 4},
		"a directory removed": {func(m fstest.MapFS) {
			for name := range m {
				if strings.HasPrefix(name, "d05/") {
					delete(m, name)
				}
			}
		}, 12},
	}
	for _, order := range []Order{OrderSimilar, OrderDirectory} {
		opts := Options{Order: order, BlockSize: 64 << 10}
		before := prepare(t, manyFiles(), opts).fragmentBlocks()
		if len(before) < 200 {
			t.Fatalf("%d fragment blocks: too few to tell", len(before))
		}
		for name, c := range changes {
			tree := manyFiles()
			c.change(tree)
			changed := 0
			for b := range prepare(t, tree, opts).fragmentBlocks() {
				if !before[b] {
					changed++
				}
			}
			if changed > c.blocks || changed == 0 {
				t.Errorf("%v, %s: %d of %d fragment blocks are other ones, want 1 to %d", order, name, changed, len(before), c.blocks)
			}
		}
	}
}

// volatileFiles is manyFiles, of which some refer to others by a name that a renaming changes.
func volatileFiles(name string) fstest.MapFS {
	tree := manyFiles()
	for path, f := range tree {
		if strings.HasSuffix(path, "f07") {
			copy(f.Data[len(f.Data)/3:], "/store/"+name)
		}
	}
	large := random(3, 150_000)
	copy(large[140_000:], "/store/"+name)
	tree["d30/large"] = &fstest.MapFile{Data: large}
	return tree
}

// A renaming changes the blocks of what refers to others, which lie behind the rest.
func TestVolatileFilesLieApart(t *testing.T) {
	for _, order := range []Order{OrderSimilar, OrderDirectory} {
		opts := Options{Order: order, BlockSize: 64 << 10, Volatile: "/store/"}
		before, after := prepare(t, volatileFiles("abcdef"), opts), prepare(t, volatileFiles("123456"), opts)
		known := before.fragmentBlocks()
		kept := 0
		for b := range after.fragmentBlocks() {
			if known[b] {
				kept++
			}
		}
		refers := 0
		for i, r := range after.runs {
			for _, t := range r.parts {
				if t.content.refers {
					refers++
				}
				if t.content.refers != r.first.refers {
					refers = -1 << 20
				}
			}
			if refers > 0 && (r.parts == nil || !r.first.refers) {
				t.Errorf("%v: run %d of %d is none of references", order, i, len(after.runs))
			}
		}
		if refers != 61 {
			t.Errorf("%v: %d tails of 61 lie apart", order, refers)
		}
		if changed := len(known) - kept; changed < 5 || changed > 7 {
			t.Errorf("%v: %d of %d blocks changed, want 61 tails' of 5 KB", order, changed, len(known))
		}
	}
}

// runsTree has files whose blocks are blocks of others.
func runsTree(blockSize int) fstest.MapFS {
	long := random(5, 12*blockSize)
	clear(long[3*blockSize : 5*blockSize])
	clear(long[:blockSize])
	blocks := func(from, to int) []byte { return bytes.Clone(long[from*blockSize : to*blockSize]) }
	tree := fstest.MapFS{}
	for name, b := range map[string][]byte{
		"long":           append(blocks(0, 12), "its tail"...),
		"a-middle":       blocks(6, 9),
		"b-over-zeros":   blocks(2, 7),
		"c-with-a-tail":  append(blocks(7, 9), words(1, blockSize/2)...),
		"d-from-zeros":   blocks(4, 6),
		"e-to-zeros":     blocks(1, 4),
		"f-one":          blocks(11, 12),
		"g-same-tail":    append(blocks(0, 12), "another tail"...),
		"h-not-aligned":  bytes.Clone(long[5*blockSize+1 : 8*blockSize+1]),
		"i-begins-alike": append(blocks(5, 7), random(6, blockSize)...),
		"j-zeros":        make([]byte, 3*blockSize),
	} {
		tree[name] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	return tree
}

func TestRunsOfBlocksAreShared(t *testing.T) {
	const size = 16 << 10
	p := prepare(t, runsTree(size), Options{BlockSize: size})
	for name, base := range map[string]string{
		"a-middle": "g-same-tail", "b-over-zeros": "g-same-tail", "c-with-a-tail": "g-same-tail",
		"d-from-zeros": "g-same-tail", "e-to-zeros": "g-same-tail", "f-one": "g-same-tail", "long": "g-same-tail",
		"g-same-tail": "", "h-not-aligned": "", "i-begins-alike": "", "j-zeros": "",
	} {
		b := p.fileNamed(t, name).content.blocks
		switch {
		case base == "" && b.base != nil:
			t.Errorf("%s lies in another file", name)
		case base != "" && b.base != p.fileNamed(t, base).content.blocks:
			t.Errorf("%s does not lie in %s", name, base)
		}
	}
	// 9 blocks of the base, 3 + 3.
	if st := p.Stats(); st.Blocks != 15 || st.SharedBlocks != 9+3+3+2+1+2+1 {
		t.Errorf("%d blocks, %d shared", st.Blocks, st.SharedBlocks)
	}
}

// An adversary's tree must not make the search for likeness or for runs slow:
// all of its files have the same shingles, or the same first block.
func TestManyLikeFiles(t *testing.T) {
	tree := fstest.MapFS{}
	common := words(1, 2000)
	for i := range 3000 {
		tree[fmt.Sprintf("small-%04d", i)] = &fstest.MapFile{Data: append(words(uint64(i), 100), common...)}
		tree[fmt.Sprintf("large-%04d", i)] = &fstest.MapFile{Data: append(bytes.Repeat([]byte("x"), 8192), fmt.Sprint(i)...)}
	}
	p := prepare(t, tree, Options{BlockSize: 4096})
	if st := p.Stats(); st.Blocks != 2 || st.SharedBlocks != 2*2999 {
		t.Errorf("%d blocks, %d shared", st.Blocks, st.SharedBlocks)
	}
}
