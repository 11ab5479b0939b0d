package initrd

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Bounds of what a module file may make us read. The largest modules of a
// distribution, with debug information, have some tens of MiB.
const (
	maxModule  = 256 << 20
	maxModinfo = 1 << 20
	maxXZDict  = 64 << 20 // xz -9's; kernels are built with 1 to 2 MiB
)

// modinfo is what decides when a module is loaded, by normal names.
type modinfo struct {
	depends   []string // without it, the module does not load
	pre, post []string // soft: loaded before and after it where there
}

// read reads a module's dependencies and its expanded size.
func (f *moduleFile) read() (modinfo, int64, error) {
	if f.rel == trimCompression(f.rel) {
		return readPlain(f.host)
	}
	b, err := f.expand()
	if err != nil {
		return modinfo{}, 0, err
	}
	info, err := parseModule(bytes.NewReader(b))
	return info, int64(len(b)), err
}

func readPlain(host string) (modinfo, int64, error) {
	f, err := os.Open(host)
	if err != nil {
		return modinfo{}, 0, err
	}
	defer f.Close() // only read
	fi, err := f.Stat()
	if err != nil {
		return modinfo{}, 0, err
	}
	info, err := parseModule(f)
	return info, fi.Size(), err
}

func (f *moduleFile) expand() ([]byte, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	defer r.Close() // only read
	b, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxModule {
		return nil, fmt.Errorf("expands to more than %d MiB", maxModule>>20)
	}
	return b, nil
}

// open opens a module's expanded content. The suffix is that of the tree's
// path: what a symlink there leads to may be named otherwise.
func (f *moduleFile) open() (io.ReadCloser, error) {
	file, err := os.Open(f.host)
	if err != nil {
		return nil, err
	}
	r, err := expander(f.rel, file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

// moduleReader closes a decompressor and the file under it.
type moduleReader struct {
	io.Reader
	close func() error
}

func (m *moduleReader) Close() error { return m.close() }

func expander(name string, f *os.File) (io.ReadCloser, error) {
	switch {
	case strings.HasSuffix(name, ".gz"):
		r, err := gzip.NewReader(f)
		return &moduleReader{r, f.Close}, err
	case strings.HasSuffix(name, ".xz"):
		r, err := xz.NewReader(f, maxXZDict)
		return &moduleReader{r, f.Close}, err
	case strings.HasSuffix(name, ".zst"):
		d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, err
		}
		return &moduleReader{d, func() error { d.Close(); return f.Close() }}, nil
	}
	return f, nil
}

// parseModule reads .modinfo of the ELF file in r, which is not trusted.
func parseModule(r io.ReaderAt) (info modinfo, err error) {
	// debug/elf says that it is not hardened against hostile files.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not an ELF file: %v", p)
		}
	}()
	f, err := elf.NewFile(r)
	if err != nil {
		return info, fmt.Errorf("not a kernel module: %w", err)
	}
	if f.Type != elf.ET_REL {
		return info, errors.New("not a kernel module: an ELF file of another kind")
	}
	s := f.Section(".modinfo")
	switch {
	case s == nil:
		return info, errors.New("not a kernel module: no .modinfo section")
	case s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_COMPRESSED != 0 || s.Size > maxModinfo:
		return info, errors.New("not a kernel module: an odd .modinfo section")
	}
	data, err := s.Data()
	if err != nil {
		return info, fmt.Errorf(".modinfo: %w", err)
	}
	return parseModinfo(data), nil
}

// parseModinfo reads NUL-terminated key=value strings.
func parseModinfo(data []byte) (info modinfo) {
	for _, field := range bytes.Split(data, []byte{0}) {
		key, value, ok := strings.Cut(string(field), "=")
		if !ok {
			continue
		}
		switch key {
		case "depends":
			for _, d := range strings.Split(value, ",") {
				if d = strings.TrimSpace(d); d != "" {
					info.depends = append(info.depends, normalName(d))
				}
			}
		case "softdep":
			info.addSoft(value)
		}
	}
	return info
}

// addSoft reads "pre: a b post: c".
func (m *modinfo) addSoft(value string) {
	var list *[]string
	for _, w := range strings.Fields(value) {
		switch {
		case w == "pre:":
			list = &m.pre
		case w == "post:":
			list = &m.post
		case list != nil:
			*list = append(*list, normalName(w))
		}
	}
}
