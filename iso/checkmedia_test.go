package iso

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mediaImage is an image with SUSE's checksums: of the volume without pad sectors and of a partition, with a signature.
func mediaImage(t *testing.T) (im *Image, old []byte, tags func(image []byte, signature, start, blocks int) string) {
	t.Helper()
	dir := t.TempDir()
	tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, "image.iso")
	signature := append([]byte(signatureMagic), bytes.Repeat([]byte("s"), sectorSize-len(signatureMagic))...)
	writeTree(t, tree, contents{"boot.bin": pattern("boot", 5000), "live/x.sfs": oldSFS, "zz/signature": signature})
	b := makeSmall(t, tree, image, "-pad")
	tags = func(b []byte, signature, start, blocks int) string {
		b = bytes.Clone(b)
		clear(b[:512])
		copy(b[32768+883:], strings.Repeat(" ", 512))
		clear(b[signature*512:][64:2048])
		part := sha256Hex(b[start*512:][:blocks*512])
		b = b[:le.Uint32(b[32768+80:])*2048]
		clear(b[len(b)-150*2048:])
		return fmt.Sprintf("pad=150;sha256sum=%s;partition=%d,%d,%s;signature=%d", sha256Hex(b), start, blocks, part, signature)
	}
	im = open(t, image)
	x, err := im.Extents("zz/signature")
	if err != nil {
		t.Fatal(err)
	}
	text := tags(b, int(x[0].Offset/512), int(le.Uint32(b[446+8:])), int(le.Uint32(b[446+12:])))
	copy(b[32768+883:], text+strings.Repeat(" ", 512-len(text)))
	if err := os.WriteFile(image, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return open(t, image), b, tags
}

// mediaArea is the application use area's text.
func mediaArea(b []byte) string { return strings.TrimRight(string(b[32768+883:][:512]), " ") }

func TestRewriteMediaTags(t *testing.T) {
	im, _, tags := mediaImage(t)
	path, r := rewriteTo(t, im, Changes{Replace: map[string]Content{"live/x.sfs": contentOf(pattern("new", 3<<20))}})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	x, err := open(t, path).Extents("zz/signature")
	if err != nil {
		t.Fatal(err)
	}
	blocks := int(le.Uint32(b[446+12:]))
	if old := im.system.parts[0]; old.end-old.start == int64(blocks)*512 {
		t.Error("the partition did not grow")
	}
	if got, want := mediaArea(b), tags(b, int(x[0].Offset/512), int(le.Uint32(b[446+8:])), blocks); got != want {
		t.Errorf("the area holds\n%s, want\n%s", got, want)
	}
	if !r.MediaSum || fmt.Sprint(r.Stale) != "[volume descriptor: checkmedia's signature]" {
		t.Errorf("renewed %v, stale %q", r.MediaSum, r.Stale)
	}
	same, r := rewriteTo(t, open(t, path), Changes{})
	if sameFile(t, path, same); r.MediaSum || len(r.Stale) > 0 {
		t.Errorf("without changes: renewed %v, stale %q", r.MediaSum, r.Stale)
	}
}

// What is not understood is left as it is and listed.
func TestRewriteMediaTagsStale(t *testing.T) {
	_, old, _ := mediaImage(t)
	tags := mediaArea(old)
	for _, more := range []string{";pad=x", ";pad=999999", ";signature=64", ";signature=x", ";partition=1,2", ";partition=1,2,00", ";md5sum=", ";SHA1sum = 0", ";fragment count=4"} {
		copy(old[32768+883:], tags+more+strings.Repeat(" ", 512-len(tags+more)))
		im, err := Open(bytes.NewReader(old), int64(len(old)))
		if err != nil {
			t.Fatal(err)
		}
		out := new(output)
		r, err := im.Rewrite(t.Context(), out, replaceSFS)
		if err != nil {
			t.Fatal(err)
		}
		if mediaArea(out.b) != tags+more || r.MediaSum || fmt.Sprint(r.Stale) != "[volume descriptor: checkmedia's checksum]" {
			t.Errorf("%s: %s, renewed %v, stale %q", more, mediaArea(out.b), r.MediaSum, r.Stale)
		}
	}
}

// An image that was made anew has the checksum, too, but its partitions are others.
func TestRenewMediaTags(t *testing.T) {
	_, b, _ := mediaImage(t)
	for tags, want := range map[string]bool{"MD5sum = " + strings.Repeat("0", 32) + ";check=1": true, "md5sum=" + strings.Repeat("0", 32) + ";partition=64,64," + strings.Repeat("0", 32): false} {
		copy(b[32768+883:], tags+strings.Repeat(" ", 512-len(tags)))
		im, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		made := &output{memory{bytes.Clone(b)}}
		got, err := im.RenewMediaSum(t.Context(), made, int64(len(b)))
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", tags, got, err)
		}
		if blank := bytes.Clone(b); want {
			clear(blank[:512])
			copy(blank[32768+883:], strings.Repeat(" ", 512))
			tags = "MD5sum = " + md5Hex(blank) + ";check=1"
		}
		if mediaArea(made.b) != tags {
			t.Errorf("the area holds %s, want %s", mediaArea(made.b), tags)
		}
	}
}
