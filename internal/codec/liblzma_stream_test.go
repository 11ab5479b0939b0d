package codec

import (
	"io"
	"runtime"
	"testing"
)

// What is pinned is never freed.
func TestLZMAWriterFailsWithoutALeak(t *testing.T) {
	lib, err := liblzma()
	if err != nil {
		t.Skip(err)
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // finalizers have run
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	const n = 500 // of 64 KiB each
	for range n {
		if w, err := newLZMAWriter(lib, io.Discard, Spec{Algorithm: XZ, Level: 99}); err == nil {
			t.Fatal("a writer of level 99", w.Close())
		}
	}
	if grown := heap() - before; grown > n*64<<10/4 {
		t.Errorf("%d bytes are kept after %d failures", grown, n)
	}
}
