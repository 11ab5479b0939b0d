package squashfs

import (
	"cmp"
	"slices"
)

// firstEquals returns for each of n items the first one that equals it, which may be itself.
// Items are sorted for that: a million are too many for a map of their digests. Equals have
// equal keys; compare decides between items of one key.
func firstEquals(n int, key func(i int) sortKey, compare func(i, j int) int) []int32 {
	type item struct {
		sortKey
		at int32
	}
	items := make([]item, n)
	for i := range items {
		items[i] = item{key(i), int32(i)}
	}
	slices.SortFunc(items, func(a, b item) int {
		if c := cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.hash, b.hash)); c != 0 {
			return c
		}
		return cmp.Or(compare(int(a.at), int(b.at)), cmp.Compare(a.at, b.at))
	})
	first := make([]int32, n)
	for i, t := range items {
		first[t.at] = t.at
		if i > 0 && items[i-1].sortKey == t.sortKey && compare(int(items[i-1].at), int(t.at)) == 0 {
			first[t.at] = first[items[i-1].at]
		}
	}
	return first
}

// sortKey is what items are compared by without a look at them.
type sortKey struct {
	size int64
	hash uint64
}
