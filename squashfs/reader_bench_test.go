//go:build linux

package squashfs

import (
	"fmt"
	"io"
	"io/fs"
	"testing"
)

// benchmarkImages runs f on a tree of 2,000 small files and one of 64 MiB.
func benchmarkImages(b *testing.B, f func(b *testing.B, r *Reader)) {
	tree := newTestTree(b)
	for i := range 2000 {
		tree.file(fmt.Sprintf("tree/%d/%d/file-%d", i%7, i%50, i), text(uint64(i), 100+i*5))
	}
	large := text(1, 64<<20)
	for i := 0; i < len(large); i += 8192 {
		copy(large[i:], random(uint64(i), 4096))
	}
	tree.file("large", large)
	for _, comp := range []string{"gzip", "zstd", "xz", "lz4", "lzo", "lzma"} {
		image := tree.mksquashfs("-comp", comp)
		b.Run(comp, func(b *testing.B) {
			r := openImage(b, image).Reader
			b.ReportAllocs()
			f(b, r)
		})
	}
}

func BenchmarkReaderTree(b *testing.B) {
	benchmarkImages(b, func(b *testing.B, r *Reader) {
		for b.Loop() {
			var total int64
			err := fs.WalkDir(r, "tree", func(name string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				data, err := r.ReadFile(name)
				total += int64(len(data))
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(total)
		}
	})
}

// BenchmarkReaderLarge reads by WriteTo, and by Read of 32 KiB at a time.
func BenchmarkReaderLarge(b *testing.B) {
	for _, mode := range []string{"WriteTo", "Read"} {
		b.Run(mode, func(b *testing.B) {
			benchmarkImages(b, func(b *testing.B, r *Reader) {
				for b.Loop() {
					f, err := r.Open("large")
					if err != nil {
						b.Fatal(err)
					}
					var src io.Reader = f
					if mode == "Read" {
						src = struct{ io.Reader }{f}
					}
					n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, src, make([]byte, 32<<10))
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(n)
				}
			})
		})
	}
}

func BenchmarkReaderStat(b *testing.B) {
	benchmarkImages(b, func(b *testing.B, r *Reader) {
		for b.Loop() {
			if _, err := r.Stat("tree/6/48/file-48"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReaderLargeDirectory looks for files among 70,000, by the index of the
// image and by one made here.
func BenchmarkReaderLargeDirectory(b *testing.B) {
	const count = 70_000
	tree := newTestTree(b)
	for i := range count {
		tree.file(fmt.Sprintf("d/file-%d", i), nil)
	}
	r := openImage(b, tree.mksquashfs("-comp", "zstd")).Reader
	for _, index := range []string{"image", "own"} {
		dir, err := r.resolve("d", false)
		if err != nil {
			b.Fatal(err)
		}
		if index == "own" {
			dir.indexCount = 0
		}
		r.marks = newLRUCache[inodeRef, []readerMark](readerDirCache)
		b.Run(index, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i += 7919 {
				if _, err := r.lookup(dir, fmt.Sprintf("file-%d", i%count)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("ReadDir", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if list, err := r.ReadDir("d"); err != nil || len(list) != count {
				b.Fatal(len(list), err)
			}
		}
	})
	b.Run("Info", func(b *testing.B) {
		list, err := r.ReadDir("d")
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i = (i + 1) % count {
			if _, err := list[i].Info(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
