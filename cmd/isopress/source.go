package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/internal/patherror"
	"github.com/isopress/isopress/squashfs"
)

// sourceFlags say what to press.
type sourceFlags struct {
	closure      string
	closureInfo  string
	registration string
	system       string
	root         string
	tar          []string
	allRoot      bool
	storeRoot    string
	exclude      []string
}

func (f *flags) addSource() {
	s := &f.source
	f.set.StringVar(&s.closure, "closure", "", "`FILE` with store paths, a line each (nix-store -qR); - is stdin")
	f.set.StringVar(&s.registration, "registration", "", "`FILE` with their registration (nix-store --dump-db), stored as nix-path-registration")
	f.set.StringVar(&s.closureInfo, "closure-info", "", "`DIR` with both, as nixpkgs' closureInfo makes it")
	f.set.StringVar(&s.system, "system", "", "`STOREPATH` of a NixOS-like top level; its closure is asked of nix-store where --closure is not given")
	f.set.StringVar(&s.root, "root", "", "`DIR`ectory tree to press instead, with its owners, modes, dates and xattrs")
	f.set.StringArrayVar(&s.tar, "tar", nil, "tar archive `FILE` to press instead, compressed or not; - is stdin. Of several, later ones lie over earlier ones as a container's layers do"+repeatable)
	f.set.BoolVar(&s.allRoot, "all-root", false, "with --root or --tar: make root the owner of everything")
	f.set.StringVar(&s.storeRoot, "store-root", "", "`DIR` in which the store really lies, as DIR/nix/store")
	f.set.StringArrayVar(&s.exclude, "exclude", nil, "leave out what matches `GLOB`, a directory with all in it: by name, or with a / in the pattern by path from the root. * ? [a-z] {a,b} match no /, ** any directories; / at the end is for directories only"+repeatable)
}

func (s *sourceFlags) check() error {
	// "result", as nix-build leaves it, stands for what it leads to.
	if s.system != "" && nix.CheckStorePath(s.system) != nil {
		if real, err := filepath.EvalSymlinks(s.system); err == nil && nix.CheckStorePath(real) == nil {
			s.system = real
		}
	}
	if s.closureInfo != "" {
		if s.closure != "" || s.registration != "" {
			return usagef("--closure-info stands for --closure and --registration: give either")
		}
		s.closure = filepath.Join(s.closureInfo, "store-paths")
		s.registration = filepath.Join(s.closureInfo, "registration")
	}
	return s.checkTree()
}

// checkTree checks the options about a tree against those about a closure.
func (s *sourceFlags) checkTree() error {
	tree := "--root"
	if len(s.tar) > 0 {
		tree = "--tar"
	}
	fromTree := s.root != "" || len(s.tar) > 0
	switch fromStore := s.closure != "" || s.system != ""; {
	case !fromStore && !fromTree:
		return usagef("nothing to press: give --closure, --closure-info, --system, --root or --tar")
	case fromStore && fromTree:
		return usagef("%s cannot be combined with --closure, --closure-info or --system", tree)
	case s.root != "" && len(s.tar) > 0:
		return usagef("--tar cannot be combined with --root")
	case fromTree && s.registration != "":
		return usagef("--registration is for a closure, not for %s", tree)
	case fromTree && s.storeRoot != "":
		return usagef("--store-root is for a closure, not for %s", tree)
	case s.registration == "-":
		return usagef("--registration reads a file, not stdin")
	case !fromTree && s.allRoot:
		return usagef("--all-root is for --root and --tar: in a store everything belongs to root")
	}
	return s.checkTars()
}

func (s *sourceFlags) checkTars() error {
	stdin := 0
	for _, name := range s.tar {
		switch name {
		case "":
			return usagef("--tar: no file name")
		case "-":
			stdin++
		}
	}
	if stdin > 1 {
		return usagef("--tar -: stdin can be read once")
	}
	return nil
}

// archives are what --tar names.
func (a *app) archives(names []string) []builder.Archive {
	var archives []builder.Archive
	for _, name := range names {
		one := builder.Archive{Name: name}
		if name == "-" {
			one.Reader = a.stdin
		}
		archives = append(archives, one)
	}
	return archives
}

// source reads what the options, which have been checked, name.
func (a *app) source(ctx context.Context, s *sourceFlags) (builder.Source, error) {
	if s.root != "" || len(s.tar) > 0 {
		return builder.Source{Root: s.root, Tar: a.archives(s.tar), AllRoot: s.allRoot}, nil
	}
	list, err := a.closureList(ctx, s)
	if err != nil {
		return builder.Source{}, err
	}
	c, err := builder.NewClosure(bytes.NewReader(list), s.storeRoot)
	if err != nil {
		return builder.Source{}, named(s.closure, err)
	}
	registration, err := a.registration(ctx, s, c)
	if err != nil || registration == nil {
		return builder.Source{Closure: c}, err
	}
	return builder.Source{Closure: c}, named(s.registration, c.SetRegistration(bytes.NewReader(registration)))
}

// named says which list an error is in; "" is what nix-store told.
func named(list string, err error) error {
	switch {
	case err == nil || list == "":
		return err
	case list == "-":
		list = "standard input"
	}
	return fmt.Errorf("%s: %w", list, err)
}

func (a *app) closureList(ctx context.Context, s *sourceFlags) ([]byte, error) {
	switch s.closure {
	case "":
		return nixStore(ctx, s.storeRoot, "-qR", s.system)
	case "-":
		return readAll(ctx, a.stdin)
	}
	if info, err := os.Stat(s.closure); err == nil && info.IsDir() {
		return nil, usagef("--closure %s: a directory; for one with store-paths and registration in it there is --closure-info", s.closure)
	}
	option, file := "--closure", s.closure
	list, err := readFile(ctx, file)
	if s.closureInfo != "" {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil, fmt.Errorf("--closure-info %s: %w; it must be a directory with the files store-paths and registration, as nixpkgs' closureInfo makes it", s.closureInfo, err)
		}
		option, file = "--closure-info", s.closureInfo
	}
	return list, ofOption(option, file, err)
}

// ofOption is an error about the file that an option names; one of package os
// need not name it again.
func ofOption(option, file string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s %s: %w", option, file, patherror.Bare(err))
}

// readFile reads a file that may be a pipe, until ctx ends.
func readFile(ctx context.Context, name string) ([]byte, error) {
	return await(ctx, func() ([]byte, error) { return os.ReadFile(name) })
}

func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	return await(ctx, func() ([]byte, error) { return io.ReadAll(r) })
}

// await calls what may block for ever, such as a read from a terminal.
func await(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		b   []byte
		err error
	}
	done := make(chan answer, 1)
	go func() {
		b, err := read()
		done <- answer{b, err}
	}()
	select {
	case a := <-done:
		return a.b, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// registration is nil where none is known: a list of paths alone has none.
func (a *app) registration(ctx context.Context, s *sourceFlags, c *builder.Closure) ([]byte, error) {
	switch {
	case s.registration != "":
		option, file := "--registration", s.registration
		if s.closureInfo != "" {
			option = "--closure-info"
		}
		b, err := readFile(ctx, file)
		return b, ofOption(option, file, err)
	case s.closure == "":
		return nixStore(ctx, s.storeRoot, append([]string{"--dump-db"}, c.Paths()...)...)
	}
	return nil, nil
}

// killDelay is how long the pipes of an interrupted program may stay open.
const killDelay = time.Second

// nixStore asks the machine's Nix.
func nixStore(ctx context.Context, storeRoot string, args ...string) ([]byte, error) {
	operation := args[0]
	if storeRoot != "" {
		args = append([]string{"--store", storeRoot}, args...)
	}
	cmd := exec.CommandContext(ctx, "nix-store", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = killDelay
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("no nix-store on this machine to ask for the closure: list it elsewhere with nix-store -qR, and give it with --closure")
	}
	if err != nil {
		return nil, fmt.Errorf("nix-store %s: %w: %s", operation, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// packFlags say how to press it.
type packFlags struct {
	compression string
	blockSize   string
	order       string
	memory      string
	base        string
}

func (f *flags) addPack() {
	f.set.StringVar(&f.pack.compression, "compression", "zstd:19", compressionHelp+", and further options of xz below")
	f.set.StringVar(&f.pack.blockSize, "block-size", "1M", "squashfs block `SIZE`, 4K to 1M")
	f.set.StringVar(&f.pack.order, "order", "", "`ORDER` of small files in blocks: similar ones together (smaller), or directory (quicker to read); default: similar, and directory for lz4, none and zstd:1 and 2")
	f.set.StringVar(&f.pack.memory, "memory", "256M", "bound on the memory of blocks in flight, a `SIZE`")
	f.addCache()
	f.set.StringVar(&f.pack.base, "base", "", "ISO or squashfs `FILE` that isopress built before, to take over what both have in common")
}

// compressionHelp is what all verbs that compress take.
const compressionHelp = "`CODEC`: zstd:1 to 22, xz:0 to 9, gzip:1 to 9, lz4, lz4:hc:1 to 12, or none; without a level zstd:19, xz:6, gzip:9, lz4:hc:12"

// packHelp follows the options of a verb that writes a squashfs.
const packHelp = `
Behind xz and its level, as in xz:6:bcj=arm64+x86:dict=512K, may come
  bcj=FILTERS   branch filters that are tried on each block, with a + between them: x86 (where
                nothing is said), arm, armthumb, arm64, powerpc, sparc, ia64, riscv; or none.
                Linux reads arm64 and riscv since 6.12
  dict=SIZE     a dictionary that is smaller than the block
`

// options puts together what the packing verbs have in common, but for the
// source. What is wrong with the command line is found before any file is
// looked at.
func (a *app) options(f *flags, args []string) (o builder.Options, err error) {
	if err := f.source.noArgs(args, f.output); err != nil {
		return o, err
	}
	if err := a.packOptions(f, &o); err != nil {
		return o, err
	}
	if err := f.source.check(); err != nil {
		return o, err
	}
	o.Exclude = f.source.exclude
	if err := o.Validate(); err != nil {
		return o, err
	}
	a.setCache(f, &o)
	return o, nil
}

// packOptions are those about the output and how it is packed.
func (a *app) packOptions(f *flags, o *builder.Options) (err error) {
	if f.output == "" {
		return usagef("no output file: name one with -o")
	}
	o.Output = f.output
	if err := f.setPack(o); err != nil {
		return err
	}
	o.SourceDate, err = a.sourceDate()
	return err
}

// setCache says what earlier work may be used.
func (a *app) setCache(f *flags, o *builder.Options) {
	dir, _, err := cacheDir(f.cache.dir)
	if err != nil {
		fmt.Fprintf(a.stderr, "isopress: warning: the build goes on without a cache: %v\n", err)
	}
	o.Cache, o.NoStatCache, o.Base = dir, f.cache.noStat, f.pack.base
}

// noArgs refuses arguments beyond the options: they are most likely mksquashfs's.
func (s *sourceFlags) noArgs(args []string, output string) error {
	err := noArgs(args)
	if err == nil {
		return nil
	}
	write := []string{}
	if s.closure == "" && s.closureInfo == "" && s.system == "" && s.root == "" && len(s.tar) == 0 {
		option := "--root "
		if strings.Contains(filepath.Base(args[0]), ".tar") {
			option = "--tar "
		}
		write, args = append(write, option+args[0]), args[1:]
	}
	if output == "" && len(args) > 0 {
		write = append(write, "-o "+args[0])
	}
	if len(write) == 0 {
		return err
	}
	return usagef("%w: write %s", err, strings.Join(write, " "))
}

func (f *flags) setPack(o *builder.Options) (err error) {
	if o.Compression, err = squashfs.ParseCompression(f.pack.compression); err != nil {
		return usageError{err}
	}
	size, err := parseSize(f.pack.blockSize)
	if err != nil {
		return usagef("--block-size: %w", err)
	}
	if size < squashfs.MinBlockSize || size > squashfs.MaxBlockSize || size&(size-1) != 0 {
		return usagef("--block-size %s: must be a power of two from 4K to 1M", f.pack.blockSize)
	}
	o.BlockSize = int(size)
	if f.pack.order != "" {
		if o.Order, err = squashfs.ParseOrder(f.pack.order); err != nil {
			return usagef("--order %q: must be similar or directory", f.pack.order)
		}
	}
	if o.Memory, err = parseSize(f.pack.memory); err != nil || o.Memory == 0 {
		return usagef("--memory %q: must be a size such as 256M", f.pack.memory)
	}
	if o.CacheSize, err = parseSize(f.cache.size); err != nil || o.CacheSize == 0 {
		return usagef("--cache-size %q: must be a size such as 10G; --cache off is for none", f.cache.size)
	}
	o.Workers = f.jobs
	return nil
}
