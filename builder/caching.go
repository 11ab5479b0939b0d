package builder

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/isopress/isopress/internal/cache"
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/squashfs"
)

// The kinds of blob in a cache.
const (
	cachedBlocks = "block" // compressed blocks, by what is in them
	cachedTrees  = "tree"  // what is known of a store path, by its NAR hash
	cachedFiles  = "file"  // what is known of other files, by their stat data
)

// openCache opens the cache, if there is to be one. A build can do without.
func (o *Options) openCache() {
	if o.Cache == "" {
		return
	}
	if o.pressesCache() {
		o.warn("the build goes on without a cache: %s lies within %s, which is to go into the image", o.Cache, o.Source.Root)
		return
	}
	o.oneAtATime()
	s, err := cache.Open(o.Cache, o.CacheSize, func(msg string) { o.warn("%s", msg) })
	if err != nil {
		o.warn("the build goes on without a cache: %v", err)
		return
	}
	o.cache = s
}

// pressesCache tells whether the cache lies in the tree that is pressed, which would change
// while it is read, and with each build.
func (o *Options) pressesCache() bool {
	if o.Source.Root == "" {
		return false
	}
	dir, err := filepath.Abs(o.Cache)
	for ; err == nil; dir = filepath.Dir(dir) {
		real, err := realDir(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			continue // what is there lies further up
		}
		return err == nil && target{file: filepath.Join(real, "cache")}.checkOutside(o.Source.Root) != nil
	}
	return false
}

// oneAtATime keeps Progress and Warn from being called by the cache and by package
// squashfs at once.
func (o *Options) oneAtATime() {
	var mu sync.Mutex
	if tell := o.Progress; tell != nil {
		o.Progress = func(p Progress) {
			mu.Lock()
			defer mu.Unlock()
			tell(p)
		}
	}
	if tell := o.Warn; tell != nil {
		o.Warn = func(msg string) {
			mu.Lock()
			defer mu.Unlock()
			tell(msg)
		}
	}
}

// closeCache keeps it to its limit.
func (o *Options) closeCache() {
	if o.cache == nil {
		return
	}
	if err := o.cache.Close(); err != nil {
		o.warn("%v", err)
	}
}

// cacheOptions lets the squashfs use the cache.
func (o *Options) cacheOptions(opts *squashfs.Options) {
	if opts.Base = o.base; o.base != nil && !o.base.Fits(*opts) {
		o.warn("--base %s: nothing is taken from it: it was made with another --compression or --block-size, or by another version of the engine", o.Base)
	}
	if o.cache == nil {
		return
	}
	// What a fast codec makes is made again as quickly as it is kept.
	if o.Compression.DefaultOrder() == squashfs.OrderSimilar {
		opts.Blocks = kindOfCache{o.cache, cachedBlocks}
	}
	if o.trustsRegistration() {
		opts.Trees = kindOfCache{o.cache, cachedTrees}
		opts.TreeKey = o.Source.Closure.treeKeys()
		opts.TreeCheck = o.Source.Closure.narChecks()
	}
	files := kindOfCache{o.cache, cachedFiles}
	if opts.Files = files; o.NoStatCache {
		opts.Files = forgetful{files}
	}
}

// trustsRegistration tells whether store paths are taken to be what their NAR hashes say.
func (o *Options) trustsRegistration() bool {
	return o.cache != nil && o.Source.Closure != nil && o.Source.Closure.registration != nil
}

// treeKeys name the state of store paths, which never change: by path and NAR
// hash.
func (c *Closure) treeKeys() func(path string) string {
	keys := map[string]string{}
	for _, i := range c.registration {
		keys[nix.Base(i.Path)] = i.Path + " " + i.NarHash
	}
	return func(path string) string {
		if strings.Contains(path, "/") {
			return ""
		}
		return keys[path]
	}
}

// kindOfCache is one kind of the cache's blobs, for package squashfs.
type kindOfCache struct {
	store *cache.Store
	kind  string
}

func (k kindOfCache) Load(key [32]byte, buf []byte) []byte { return k.store.Load(k.kind, key, buf) }
func (k kindOfCache) Save(key [32]byte, data ...[]byte)    { k.store.Save(k.kind, key, data...) }

// forgetful keeps what it gets in place of what there was, which it does not return.
type forgetful struct{ kindOfCache }

func (forgetful) Load([32]byte, []byte) []byte { return nil }
