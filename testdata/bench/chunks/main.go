// Command chunks tells how much of a file is new to who has another: how many of NEW's bytes lie in
// content-defined chunks that OLD does not have. That is what a client which keeps chunks (casync, desync,
// restic, a CDN with delta transfer) has to fetch or to store.
//
//	chunks [-regions] OLD NEW
//
// The output is one line: bytes of NEW, bytes in new chunks, their share in percent, chunks of NEW, new
// chunks. A new chunk that NEW has several times counts once, since it is fetched once. With -regions, NEW is
// a squashfs image, and a line for each of its parts follows: its name, its bytes, those in new chunks.
package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	parts := flag.Bool("regions", false, "tell of the parts of a squashfs image")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "chunks: usage: chunks [-regions] OLD NEW")
		os.Exit(2)
	}
	d, err := compareFiles(flag.Arg(0), flag.Arg(1), *parts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chunks:", err)
		os.Exit(1)
	}
	fmt.Printf("%d %d %.3f %d %d\n", d.bytes, d.newBytes, d.share(), d.chunks, d.newChunks)
	for _, r := range d.regions {
		fmt.Printf("%s %d %d\n", r.name, r.end-r.start, r.newBytes)
	}
}

// difference counts the bytes and the chunks of a file, and those of them that another file lacks.
type difference struct {
	bytes, newBytes   int64
	chunks, newChunks int
	regions           []region // of the file, if they are asked for
}

// share is that of the new bytes, in percent.
func (d *difference) share() float64 {
	if d.bytes == 0 {
		return 0
	}
	return 100 * float64(d.newBytes) / float64(d.bytes)
}

func compareFiles(oldName, newName string, parts bool) (*difference, error) {
	older, err := os.Open(oldName)
	if err != nil {
		return nil, err
	}
	defer older.Close()
	newer, err := os.Open(newName)
	if err != nil {
		return nil, err
	}
	defer newer.Close()
	var regions []region
	if parts {
		info, err := newer.Stat()
		if err != nil {
			return nil, err
		}
		if regions, err = regionsOf(newer, info.Size()); err != nil {
			return nil, err
		}
	}
	return compare(older, newer, regions)
}

func compare(older, newer io.Reader, regions []region) (*difference, error) {
	known := map[[sha256.Size]byte]bool{}
	err := eachChunk(older, func(chunk []byte) { known[sha256.Sum256(chunk)] = true })
	if err != nil {
		return nil, err
	}
	d := &difference{regions: regions}
	err = eachChunk(newer, func(chunk []byte) {
		d.chunks++
		d.bytes += int64(len(chunk))
		if sum := sha256.Sum256(chunk); !known[sum] {
			known[sum] = true
			d.newChunks++
			d.newBytes += int64(len(chunk))
			addNew(regions, d.bytes-int64(len(chunk)), d.bytes)
		}
	})
	return d, err
}

// eachChunk calls f with each chunk of r, which is f's until it returns.
func eachChunk(r io.Reader, f func(chunk []byte)) error {
	in := bufio.NewReaderSize(r, 16*maxChunk)
	for {
		window, err := in.Peek(maxChunk)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(window) == 0 {
			return nil
		}
		n := cut(window)
		f(window[:n])
		if _, err := in.Discard(n); err != nil {
			return err
		}
	}
}
