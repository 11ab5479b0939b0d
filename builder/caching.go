package builder

import (
	"strings"

	"github.com/isopress/isopress/internal/cache"
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/squashfs"
)

// The kinds of blob in a cache.
const (
	cachedBlocks = "block" // compressed blocks, by what is in them
	cachedTrees  = "tree"  // what is known of a store path, by its NAR hash
)

// openCache opens the cache, if there is to be one. A build can do without.
func (o *Options) openCache() {
	if o.Cache == "" {
		return
	}
	s, err := cache.Open(o.Cache, 0, func(msg string) { o.warn("%s", msg) })
	if err != nil {
		o.warn("the build goes on without a cache: %v", err)
		return
	}
	o.cache = s
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
	opts.Base = o.base
	if o.cache == nil {
		return
	}
	// What a fast codec makes is made again as quickly as it is kept.
	if o.Compression.DefaultOrder() == squashfs.OrderSimilar {
		opts.Blocks = kindOfCache{o.cache, cachedBlocks}
	}
	if c := o.Source.Closure; c != nil && c.registration != nil {
		opts.Trees = kindOfCache{o.cache, cachedTrees}
		opts.TreeKey = c.treeKeys()
	}
}

// treeKeys name the state of store paths, which never change: by path and NAR
// hash. Others are read each time.
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
