//go:build linux

package squashfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// storeTree is like a store: directories whose names begin with hashes, of which the seed decides the order.
func storeTree(seed string) fstest.MapFS {
	tree := fstest.MapFS{}
	for p := range 60 {
		sum := sha256.Sum256(fmt.Append(nil, seed, p))
		dir := fmt.Sprintf("%x-path-%02d", sum[:16], p)
		for f := range 30 {
			tree[fmt.Sprintf("%s/share/a-file-with-a-name-%02d", dir, f)] = &fstest.MapFile{Data: words(uint64(p*100+f), 150+f)}
			tree[fmt.Sprintf("%s/lib/link-%02d", dir, f)] = &fstest.MapFile{Data: []byte(fmt.Sprint("../share/", f)), Mode: fs.ModeSymlink}
		}
		tree[dir+"/lib/large"] = &fstest.MapFile{Data: words(uint64(p), 20_000)}
	}
	return tree
}

func storeOptions(t *testing.T) Options {
	return Options{Compression: compression(t, "zstd:3"), BlockSize: 16 << 10, RootOrder: func(name string) Place {
		hash, name, _ := strings.Cut(name, "-")
		return Place{Name: name + hash}
	}}
}

// steadyImage is the image, made as if it were a large one.
func steadyImage(t *testing.T, tree fs.FS, opts Options) []byte {
	t.Helper()
	p := prepare(t, tree, opts)
	p.stats.PlannedBytes = 1 << 40
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := p.Write(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tablesOf are the blocks of the inode and of the directory table.
func tablesOf(t *testing.T, image []byte) (inodes, dirs []string) {
	t.Helper()
	sb, err := decodeSuperblock(image)
	if err != nil {
		t.Fatal(err)
	}
	blocks := func(from, to uint64) (all []string) {
		for from < to {
			end := from + 2 + uint64(binary.LittleEndian.Uint16(image[from:])&^metadataRaw)
			all = append(all, string(image[from:end]))
			from = end
		}
		return all
	}
	fragments := binary.LittleEndian.Uint64(image[sb.fragTable:])
	return blocks(sb.inodeTable, sb.dirTable), blocks(sb.dirTable, fragments)
}

// changedFrom returns how many blocks there are from the first other one on.
func changedFrom(a, b []string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return len(b) - n
}

// When all paths of a store are built anew under other hashes, the data and most of the tables stay as they are.
func TestOtherHashes(t *testing.T) {
	a, b := imageBytes(t, storeTree("a"), storeOptions(t)), imageBytes(t, storeTree("b"), storeOptions(t))
	inodesA, dirsA := tablesOf(t, a)
	inodesB, dirsB := tablesOf(t, b)
	sb, _ := decodeSuperblock(a)
	if !bytes.Equal(a[superblockSize:sb.inodeTable], b[superblockSize:sb.inodeTable]) {
		t.Error("the data are other ones")
	}
	if n := changedFrom(inodesA, inodesB); n == 0 || n > 2 || len(inodesB) < 12 {
		t.Errorf("%d of %d blocks of inodes changed, want only the paths' own", n, len(inodesB))
	}
	if n := changedFrom(dirsA, dirsB); n == 0 || n > 2 || len(dirsB) < 8 {
		t.Errorf("%d of %d blocks of directories changed, want only the root's listing", n, len(dirsB))
	}
}

// When blocks take more room than before, what names the places of blocks changes, and nothing else.
func TestOtherPlaces(t *testing.T) {
	before, after := storeTree("a"), storeTree("a")
	for name, f := range after {
		if strings.HasSuffix(name, "path-20/lib/large") {
			f.Data = append(random(1, 16<<10), f.Data[16<<10:]...)
		}
	}
	inodesA, dirsA := tablesOf(t, steadyImage(t, before, storeOptions(t)))
	inodesB, dirsB := tablesOf(t, steadyImage(t, after, storeOptions(t)))
	if n := changedFrom(dirsA, dirsB); n != 0 {
		t.Errorf("%d of %d blocks of directories changed", n, len(dirsB))
	}
	changed := 0
	for i := range inodesB {
		if inodesA[i] != inodesB[i] {
			changed++
		}
	}
	if changed == 0 || changed > 2 {
		t.Errorf("%d of %d blocks of inodes changed, want those of 60 large files", changed, len(inodesB))
	}
}

// What has a high rank lies behind the rest, and shares no block with it: when it changes, all before it stays.
func TestRanks(t *testing.T) {
	opts := storeOptions(t)
	name := opts.RootOrder
	opts.RootOrder = func(base string) Place {
		p := name(base)
		if strings.HasPrefix(p.Name, "path-30") {
			p.Rank = 1
		}
		return p
	}
	after := storeTree("a")
	for name, f := range after {
		if strings.Contains(name, "path-30/share") {
			f.Data = edited(append(f.Data, "longer"...))
		}
	}
	a, b := imageBytes(t, storeTree("a"), opts), imageBytes(t, after, opts)
	data := 0
	for a[superblockSize+data] == b[superblockSize+data] {
		data++
	}
	sb, _ := decodeSuperblock(a)
	if all := int(sb.inodeTable) - superblockSize; data < all*55/60 {
		t.Errorf("the data are the same for %d of %d bytes", data, all)
	}
	inodesA, dirsA := tablesOf(t, a)
	inodesB, dirsB := tablesOf(t, b)
	if n := changedFrom(inodesA, inodesB); n == 0 || n > 2 {
		t.Errorf("%d of %d blocks of inodes changed, want those of the last path", n, len(inodesB))
	}
	if n := changedFrom(dirsA, dirsB); n > 2 {
		t.Errorf("%d of %d blocks of directories changed, want those of the last path", n, len(dirsB))
	}
	for _, r := range prepare(t, after, opts).runs {
		for _, part := range r.parts {
			if first := strings.Contains(r.first.source.path(), "path-30"); first != strings.Contains(part.content.source.path(), "path-30") {
				t.Errorf("%s and %s share a block", r.first.source.path(), part.content.source.path())
			}
		}
	}
}
