package main

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
)

var (
	sumsName = regexp.MustCompile(`(?i)(^|[._-])(md5|sha(1|224|256|384|512))(sums?)?(\.txt)?$`)
	sumsLine = regexp.MustCompile(`^([0-9a-fA-F]{32,128})( [ *])(.+)$`)
)

func isSums(name string) bool { return sumsName.MatchString(path.Base(name)) }

// compareSums holds a list of checksums against the files, whose names are relative to the list. What was right
// must be, and nothing else may have changed.
func (j *judge) compareSums(as, name string, b, a tree) error {
	before, err := os.ReadFile(b[name].host)
	if err != nil {
		return err
	}
	after, err := os.ReadFile(a[name].host)
	if err != nil {
		return err
	}
	x, y := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	if len(x) != len(y) {
		j.fault("%s: %s has %d lines, it had %d", as, name, len(y), len(x))
		return nil
	}
	right := 0
	for i := range x {
		ok, err := j.compareSumsLine(as, name, x[i], y[i], b, a)
		if err != nil {
			return err
		}
		if ok {
			right++
		}
	}
	if string(before) != string(after) {
		j.note("%s: %s differs, and is right (%d sums)", as, name, right)
	}
	return nil
}

func (j *judge) compareSumsLine(as, name, x, y string, b, a tree) (right bool, err error) {
	p, q := sumsLine.FindStringSubmatch(x), sumsLine.FindStringSubmatch(y)
	if p == nil || q == nil || p[2] != q[2] || p[3] != q[3] {
		if x != y {
			j.fault("%s: %s: %q, it was %q", as, name, y, x)
		}
		return false, nil
	}
	target := path.Join(path.Dir(name), p[3])
	if b[target] == nil || a[target] == nil || b[target].digest == "" {
		if x != y {
			j.fault("%s: %s: the sum of %s differs, which is not there", as, name, p[3])
		}
		return false, nil
	}
	was, err := sumIs(b[target].host, p[1])
	if err != nil {
		return false, err
	}
	is, err := sumIs(a[target].host, q[1])
	if was && !is {
		j.fault("%s: %s: the sum of %s is wrong", as, name, p[3])
	}
	return is, err
}

func sumIs(host, sum string) (bool, error) {
	var h hash.Hash
	switch len(sum) {
	case 32:
		h = md5.New()
	case 40:
		h = sha1.New()
	case 64:
		h = sha256.New()
	case 128:
		h = sha512.New()
	default:
		return false, nil
	}
	f, err := os.Open(host)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return strings.EqualFold(hex.EncodeToString(h.Sum(nil)), sum), err
}
