package main

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestMemAvailable(t *testing.T) {
	for meminfo, want := range map[string]int64{
		"MemTotal:        1014168 kB\nMemFree:          500 kB\nMemAvailable:     901234 kB\nBuffers: 1 kB\n": 901234 << 10,
		"MemAvailable: 0 kB":                       0,
		"MemAvailable: 12 kB\nMemAvailable: 13 kB": 12 << 10,
		"MemTotal: 1014168 kB\nMemFree: 500 kB\n":  -1, // Linux before 3.14
		"MemAvailable: -5 kB":                      -1,
		"MemAvailable: 99999999999999999999 kB":    -1,
		"MemAvailable: 9007199254740991 kB":        1<<63 - 1<<10,
		"MemAvailable: 9007199254740992 kB":        -1,
		"MemAvailable: 5":                          -1,
		"":                                         -1,
	} {
		got, err := memAvailable(meminfo)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v; want %d", meminfo, got, err, want)
		}
	}
}

func TestRoomFor(t *testing.T) {
	if err := roomFor(100<<20, 100<<20+keepFree); err != nil {
		t.Error(err)
	}
	err := roomFor(100<<20+1, 100<<20+keepFree)
	if err == nil || !strings.Contains(err.Error(), "need 101 MiB, the system 128 MiB more to start, and 228 MiB") {
		t.Errorf("%v", err)
	}
	if roomFor(1, 0) == nil {
		t.Error("there is no memory")
	}
}

// Each moment is seconds after the start, and the bytes done until then.
func TestProgress(t *testing.T) {
	type moment struct {
		after float64
		done  int64
	}
	for name, tc := range map[string]struct {
		moments []moment
		want    []int64
	}{
		"fast":          {[]moment{{0.1, 200}, {0.5, 500}, {0.9, 1000}}, nil},
		"steps":         {[]moment{{1, 99}, {2, 100}, {2.5, 900}, {3, 901}, {4, 1000}}, []int64{10, 90}},
		"slow":          {[]moment{{14, 1}, {15, 2}, {29, 3}, {30, 4}}, []int64{0, 0}},
		"the same once": {[]moment{{2, 500}, {2, 500}, {4, 500}}, []int64{50}},
	} {
		start := time.Unix(0, 0)
		p := progress{total: 1000, saidAt: start}
		var got []int64
		for _, m := range tc.moments {
			p.done = m.done
			if percent, ok := p.due(start.Add(time.Duration(m.after * float64(time.Second)))); ok {
				got = append(got, percent)
			}
		}
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: said %v, want %v", name, got, tc.want)
		}
	}
	empty := progress{}
	if percent, _ := empty.due(time.Now()); percent != 0 {
		t.Errorf("of nothing: %d", percent)
	}
}

// failing writes what fits into its room.
type failing struct{ room int }

var errFull = errors.New("full")

func (w *failing) Write(b []byte) (int, error) {
	if len(b) > w.room {
		return w.room, errFull
	}
	w.room -= len(b)
	return len(b), nil
}

func TestCopyFile(t *testing.T) {
	data := []byte(strings.Repeat("0123456789", 10))
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		src    io.Reader
		size   int64
		err    error // nil: all is copied
		offset int64
	}{
		"whole":                       {bytes.NewReader(data), 100, nil, 0},
		"byte by byte":                {iotest.OneByteReader(bytes.NewReader(data)), 100, nil, 0},
		"the end comes with the data": {iotest.DataErrReader(bytes.NewReader(data)), 100, nil, 0},
		"longer than it was":          {bytes.NewReader(append(data, "more"...)), 100, nil, 0},
		"empty":                       {iotest.ErrReader(broken), 0, nil, 0},
		"cut short":                   {bytes.NewReader(data[:64]), 100, io.ErrUnexpectedEOF, 64},
		"read error":                  {io.MultiReader(bytes.NewReader(data[:50]), iotest.ErrReader(broken)), 100, broken, 50},
		"with the data":               {iotest.DataErrReader(io.MultiReader(bytes.NewReader(data[:30]), iotest.ErrReader(broken))), 100, broken, 30},
	} {
		t.Run(name, func(t *testing.T) {
			var dst bytes.Buffer
			var steps int64
			err := copyFile(&dst, tc.src, "x.squashfs", tc.size, make([]byte, 32), func(n int) { steps += int64(n) })
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			copied := tc.size
			if tc.err != nil {
				copied = tc.offset
				var e *readError
				if !errors.As(err, &e) || e.offset != tc.offset || e.size != tc.size || !strings.Contains(err.Error(), "/x.squashfs") {
					t.Errorf("error %v", err)
				}
			}
			if !bytes.Equal(dst.Bytes(), data[:copied]) || steps != copied {
				t.Errorf("copied %q, %d by steps, want %d bytes", dst.Bytes(), steps, copied)
			}
		})
	}
	var e *readError
	err := copyFile(&failing{room: 40}, bytes.NewReader(data), "x", 100, make([]byte, 32), func(int) {})
	if !errors.Is(err, errFull) || errors.As(err, &e) {
		t.Errorf("without room: %v", err)
	}
}
