// Package nix reads and writes the texts in which Nix describes a closure.
package nix

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixhash"
	"github.com/nix-community/go-nix/pkg/storepath"
)

// StoreDir is the directory of all store paths, as they name themselves.
const StoreDir = storepath.StoreDir

// PathInfo is what Nix's database knows of a store path.
type PathInfo struct {
	Path       string   // absolute
	NarHash    string   // SHA-256 of the path's NAR, in lower-case base16
	NarSize    uint64   // bytes
	Deriver    string   // may be empty
	References []string // absolute
}

// CheckStorePath reports what is wrong with s as an absolute store path.
func CheckStorePath(s string) error {
	if _, err := storepath.FromAbsolutePath(s); err != nil {
		return fmt.Errorf("%q is not a store path (%s/<hash>-<name>)", s, StoreDir)
	}
	return nil
}

// Base is a store path without the store's directory.
func Base(path string) string { return strings.TrimPrefix(path, StoreDir+"/") }

// maxLine bounds a line of a registration.
const maxLine = 1 << 16

// ParseRegistration reads what `nix-store --dump-db` and nixpkgs' closureInfo
// write and `nix-store --load-db` reads: for each path the lines path, NAR hash,
// NAR size, deriver, number of references, and the references. The hash may be
// base16, sha256:<base16 or Nix's base32>, or SRI.
func ParseRegistration(r io.Reader) ([]PathInfo, error) {
	p := registrationParser{scanner: bufio.NewScanner(r)}
	p.scanner.Buffer(nil, maxLine)
	var infos []PathInfo
	for {
		info, err := p.next()
		if err == io.EOF {
			return infos, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
		infos = append(infos, info)
	}
}

type registrationParser struct {
	scanner *bufio.Scanner
	line    int
}

func (p *registrationParser) next() (info PathInfo, err error) {
	if info.Path, err = p.read(); err != nil {
		return info, err // io.EOF: between two paths is where it may end
	}
	if err := CheckStorePath(info.Path); err != nil {
		return info, err
	}
	if err := p.fields(&info); err != nil {
		if err == io.EOF {
			err = errors.New("the text ends within the entry of " + info.Path)
		}
		return info, err
	}
	return info, nil
}

func (p *registrationParser) fields(info *PathInfo) (err error) {
	text, err := p.read()
	if err != nil {
		return err
	}
	if info.NarHash, err = parseHash(text); err != nil {
		return err
	}
	if info.NarSize, err = p.number(); err != nil {
		return fmt.Errorf("NAR size: %w", err)
	}
	if info.Deriver, err = p.read(); err != nil {
		return err
	}
	count, err := p.number()
	if err != nil {
		return fmt.Errorf("number of references: %w", err)
	}
	for range count {
		ref, err := p.read()
		if err != nil {
			return err
		}
		if err := CheckStorePath(ref); err != nil {
			return err
		}
		info.References = append(info.References, ref)
	}
	return nil
}

func (p *registrationParser) number() (uint64, error) {
	text, err := p.read()
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 63)
}

func (p *registrationParser) read() (string, error) {
	p.line++
	if !p.scanner.Scan() {
		if err := p.scanner.Err(); err != nil {
			return "", err
		}
		return "", io.EOF
	}
	return p.scanner.Text(), nil
}

func parseHash(s string) (string, error) {
	algo := nixhash.SHA256
	h, err := nixhash.ParseAny(s, &algo)
	if err != nil || h.Algo() != nixhash.SHA256 {
		return "", fmt.Errorf("NAR hash %q is no SHA-256", s)
	}
	return h.Format(nixhash.Base16, false), nil
}

// FormatRegistration writes infos as `nix-store --dump-db` does.
func FormatRegistration(infos []PathInfo) []byte {
	var b bytes.Buffer
	for _, i := range infos {
		fmt.Fprintf(&b, "%s\n%s\n%d\n%s\n%d\n", i.Path, i.NarHash, i.NarSize, i.Deriver, len(i.References))
		for _, ref := range i.References {
			fmt.Fprintln(&b, ref)
		}
	}
	return b.Bytes()
}
