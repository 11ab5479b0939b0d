package squashfs

import (
	"container/list"
	"sync"
)

// cacheOverhead is what an entry takes besides its value's cost, in bytes: a
// hostile image has a block for each of its bytes.
const cacheOverhead = 256

// lruCache keeps the values used last, as many as their costs in bytes allow.
// It is safe for concurrent use; the values must not be changed once added.
type lruCache[K comparable, V any] struct {
	mu     sync.Mutex
	max    int
	used   int
	items  map[K]*list.Element
	recent list.List // of *cacheItem, the one used last in front
}

type cacheItem[K comparable, V any] struct {
	key   K
	value V
	cost  int
}

func newLRUCache[K comparable, V any](max int) *lruCache[K, V] {
	return &lruCache[K, V]{max: max, items: make(map[K]*list.Element)}
}

func (c *lruCache[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		var none V
		return none, false
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cacheItem[K, V]).value, true
}

// add keeps value and drops the ones unused longest. A value that alone costs
// more than the whole cache is not kept. Two goroutines that missed the same key
// may both add it: the first stays.
func (c *lruCache[K, V]) add(key K, value V, cost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cost += cacheOverhead
	if _, ok := c.items[key]; ok || cost > c.max {
		return
	}
	for c.used+cost > c.max {
		c.drop(c.recent.Back())
	}
	c.items[key] = c.recent.PushFront(&cacheItem[K, V]{key, value, cost})
	c.used += cost
}

func (c *lruCache[K, V]) drop(e *list.Element) {
	item := c.recent.Remove(e).(*cacheItem[K, V])
	delete(c.items, item.key)
	c.used -= item.cost
}
