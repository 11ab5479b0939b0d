package codec

import (
	"strings"
	"testing"
)

// An engine is named where it decides bytes, and nowhere else.
func TestEngine(t *testing.T) {
	const judge = ", raw blocks by " + klauspostModule
	for spec, judged := range map[string]bool{
		"zstd:12": false, "zstd:13": true, "zstd:19": true, "xz": true, "xz:0:bcj=none": true,
		"gzip": false, "lz4": false, "lz4:hc": false, "none": false,
	} {
		s, err := Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewBlock(s, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		_, dense := b.(*denseBlock)
		b.Close()
		if dense != judged {
			t.Errorf("%s: raw blocks are looked for: %v, want %v", spec, dense, judged)
		}
		name := Engine(s)
		own := strings.HasPrefix(name, klauspostModule) // what compresses is named already
		if strings.Contains(name, judge) != (judged && !own) || strings.Count(name, klauspostModule) > 1 {
			t.Errorf("%s: engine %q", spec, name)
		}
		if strings.Contains(WriterEngine(s), judge) {
			t.Errorf("%s: writer's engine %q", spec, WriterEngine(s))
		}
		if (name == "") != (s.Algorithm == None) {
			t.Errorf("%s: engine %q", spec, name)
		}
	}
}
