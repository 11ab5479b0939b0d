package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/isopress/isopress/internal/treelist"
)

// compareSquashfs unpacks both and compares all that is in them: names, types, modes, owners, dates, links,
// xattrs, content. Readings of one image give the same squashfs, which is compared once.
func (j *judge) compareSquashfs(as, name string, x, y *file) error {
	codec, err := squashfsCodec(y.host)
	if err != nil {
		j.fault("%s: %s: %v", as, name, err)
		return nil
	}
	if j.codec != "" && codec != j.codec {
		j.fault("%s: %s is compressed with %s", as, name, codec)
	}
	pair := [2]string{x.digest, y.digest}
	if x.digest == y.digest || j.squashfs[pair] {
		return nil
	}
	j.squashfs[pair] = true
	was, err := squashfsCodec(x.host)
	if err != nil {
		return err
	}
	n, err := j.compareUnpacked(name, x.host, y.host)
	j.note("%s: %s, %d bytes, was %s, %d bytes; %d entries compared", name, codec, y.size, was, x.size, n)
	return err
}

func squashfsCodec(host string) (string, error) {
	out, err := run("unsquashfs", "-s", host)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		if codec, ok := strings.CutPrefix(strings.TrimSpace(line), "Compression "); ok {
			return codec, nil
		}
	}
	return "", fmt.Errorf("unsquashfs -s names no compression")
}

func (j *judge) compareUnpacked(name, before, after string) (int, error) {
	b, err := j.unpack(before, "squashfs-before")
	if err != nil {
		return 0, err
	}
	a, err := j.unpack(after, "squashfs-after")
	if err != nil {
		j.fault("%s: %v", name, err)
		return 0, nil
	}
	differences, total, entries, err := treelist.Diff(b, a, 10)
	for _, d := range differences {
		j.fault("%s: %s", name, d)
	}
	if total > len(differences) {
		j.fault("%s: and %d more", name, total-len(differences))
	}
	return entries, err
}

// unpack returns the listing of a squashfs.
func (j *judge) unpack(host, name string) (*bytes.Buffer, error) {
	dir := filepath.Join(j.before.work, name)
	defer os.RemoveAll(dir)
	if _, err := run("unsquashfs", "-q", "-n", "-d", dir, host); err != nil {
		return nil, err
	}
	var list bytes.Buffer
	return &list, treelist.Write(&list, dir, treelist.Options{Hardlinks: true})
}
