package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/bytesize"
	"github.com/isopress/isopress/internal/cache"
)

var cacheVerb = verb{
	name:  "cache",
	args:  "info|gc|verify [OPTIONS]",
	about: "Tell what the cache holds, make it smaller, or check it",
	run:   runCache,
	flags: func(f *flags) {
		f.set.StringVar(&f.cache.dir, "cache", "", "`DIR` of the cache (default: isopress in the user's cache directory)")
		f.set.StringVar(&f.cache.limit, "limit", "10G", "`SIZE` that gc leaves at most")
	},
	quiet: "no progress and no summary",
	more: `
info    counts what there is.
gc      removes what was not used for longest, until --limit is kept, and what
        killed builds left behind. Builds may go on meanwhile.
verify  reads everything and removes what is damaged; the next build makes it
        again. The exit code is 1 then.
`,
}

// cacheFlags say where the cache is.
type cacheFlags struct {
	dir    string
	limit  string
	size   string
	noStat bool
	bytes  int64 // what limit says
}

// addCache is for verbs that use a cache and can do without.
func (f *flags) addCache() {
	f.set.StringVar(&f.cache.dir, "cache", "", "`DIR|off`, where compressed blocks and indexes are kept for the next build (default: isopress in the user's cache directory)")
	f.set.StringVar(&f.cache.size, "cache-size", "10G", "`SIZE` that the build leaves of the cache at most")
	f.set.BoolVar(&f.cache.noStat, "no-stat-cache", false, "read again what the cache knows by size, mtime, ctime and inode alone: trees, and store paths without a NAR hash")
}

// cacheDir is what --cache says. The error is of a user without a cache directory,
// where the option is not given.
func cacheDir(flag string) (dir string, off bool, err error) {
	switch flag {
	case "off":
		return "", true, nil
	case "":
		user, err := os.UserCacheDir()
		if err != nil {
			return "", false, fmt.Errorf("no cache directory: %w; name one with --cache", err)
		}
		return filepath.Join(user, "isopress"), false, nil
	}
	return flag, false, nil
}

// cacheVerbs are what can be done with a cache.
var cacheVerbs = map[string]func(ctx context.Context, a *app, f *flags, s *cache.Store) error{
	"info":   cacheInfo,
	"gc":     cacheGC,
	"verify": cacheVerify,
}

func runCache(ctx context.Context, a *app, f *flags, args []string) error {
	if len(args) == 0 {
		return usagef("say what to do with the cache: info, gc or verify")
	}
	run := cacheVerbs[args[0]]
	if run == nil {
		return usagef("cache %q: must be info, gc or verify", args[0])
	}
	if err := noArgs(args[1:]); err != nil {
		return err
	}
	if f.set.Changed("limit") && args[0] != "gc" {
		return usagef("--limit is for gc")
	}
	var err error
	if f.cache.bytes, err = parseSize(f.cache.limit); err != nil {
		return usagef("--limit: %w", err)
	}
	dir, err := f.existingCache()
	if err != nil {
		return err
	}
	s, err := cache.Open(dir, 0, a.newProgress(f.quiet).warn)
	if err != nil {
		return err
	}
	return errors.Join(run(ctx, a, f, s), s.Close())
}

// existingCache is the directory to look at. The default one may be missing before the
// first build; one that is named is not made, since its name would be wrong.
func (f *flags) existingCache() (string, error) {
	dir, off, err := cacheDir(f.cache.dir)
	if off {
		return "", usagef("--cache off: name a directory")
	}
	if err != nil || f.cache.dir == "" {
		return dir, err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("--cache %s: no such directory", dir)
	}
	return dir, nil
}

func cacheInfo(ctx context.Context, a *app, f *flags, s *cache.Store) error {
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return a.printJSON(info)
	}
	fmt.Fprintf(a.stdout, "%s: %s in %s, of %s at most\n", info.Dir, bytesize.Text(info.Bytes), counted(info.Blobs, "blob"), bytesize.Text(info.Limit))
	for _, kind := range slices.Sorted(maps.Keys(info.Kinds)) {
		fmt.Fprintf(a.stdout, "  %-10s %10s in %d\n", kind, bytesize.Text(info.Kinds[kind].Bytes), info.Kinds[kind].Blobs)
	}
	if t := info.Temporary; t.Blobs > 0 {
		fmt.Fprintf(a.stdout, "  %-10s %10s in %d, of builds that go on or were killed\n", "temporary", bytesize.Text(t.Bytes), t.Blobs)
	}
	return nil
}

func cacheGC(ctx context.Context, a *app, f *flags, s *cache.Store) error {
	r, err := s.GC(ctx, f.cache.bytes)
	if err != nil {
		return err
	}
	if !f.quiet {
		fmt.Fprintf(a.stderr, "removed %s in %s and %s of killed builds; left: %s in %s\n", bytesize.Text(r.Bytes+r.Temporary.Bytes),
			counted(r.Blobs, "blob"), counted(r.Temporary.Blobs, "file"), bytesize.Text(r.Left.Bytes), counted(r.Left.Blobs, "blob"))
	}
	if f.json {
		return a.printJSON(r)
	}
	return nil
}

func cacheVerify(ctx context.Context, a *app, f *flags, s *cache.Store) error {
	p := a.newProgress(f.quiet)
	begin := time.Now()
	res, err := s.Verify(ctx, func(done, total int64) {
		p.update(builder.Progress{Phase: "verify", Done: done, Total: total})
	})
	p.end()
	for _, d := range res.Damaged {
		fmt.Fprintf(a.stderr, "isopress: %s\n", d)
	}
	if err != nil {
		return err
	}
	if !f.quiet {
		fmt.Fprintf(a.stderr, "sound: %s in %s, read in %v\n", bytesize.Text(res.Bytes), counted(res.Blobs, "blob"), time.Since(begin).Round(time.Millisecond))
	}
	if f.json {
		err = a.printJSON(res)
	}
	if n := len(res.Damaged); n > 0 && err == nil {
		err = fmt.Errorf("%s; the next build makes what is missing again", counted(n, "damaged blob"))
	}
	return err
}
