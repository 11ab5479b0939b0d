package squashfs

import (
	"cmp"
	"math/rand/v2"
	"testing"
)

// Equals are found however many items share a key with what they do not equal.
func TestFirstEquals(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, values := range []int{1, 7, 300, 100_000} {
		items := make([]int, 3000)
		for i := range items {
			items[i] = r.IntN(values)
		}
		got := firstEquals(len(items), func(i int) sortKey {
			return sortKey{int64(items[i] % 3), uint64(items[i] % 5)}
		}, func(i, j int) int { return cmp.Compare(items[i], items[j]) })
		first := map[int]int{}
		for i, v := range items {
			if _, ok := first[v]; !ok {
				first[v] = i
			}
			if int(got[i]) != first[v] {
				t.Fatalf("%d values: item %d equals %d first, not %d", values, i, first[v], got[i])
			}
		}
	}
	if got := firstEquals(0, nil, nil); len(got) != 0 {
		t.Errorf("of no items: %v", got)
	}
}
