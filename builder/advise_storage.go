package builder

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Storage is what an image is read from.
type Storage struct {
	Name    string        `json:"name"`
	Rate    float64       `json:"rate"`    // bytes a second, in one piece
	Latency time.Duration `json:"latency"` // before a piece elsewhere, in nanoseconds
}

// storages are kinds of storage as they are mostly found, read by one program that waits for each piece. The rates are
// bounded by the bus (in comments) or by what is behind it.
var storages = []struct {
	name, title string
	mb          float64 // MB a second
	latency     time.Duration
}{
	// At most 13 bulk packets of 512 bytes in each 125 µs, 53 MB/s (USB 2.0, table 5-10); the protocol of
	// mass storage, a command at a time, leaves about 33.
	{"usb2", "USB 2", 33, time.Millisecond},
	// 5 Gbit/s, 400 MB/s and more: the flash of a stick of the middle class is what bounds it.
	{"usb3", "USB 3", 150, 500 * time.Microsecond},
	// 8 times 1.385 MB/s; the head takes 100 to 200 ms to be elsewhere.
	{"dvd", "a DVD", 11, 150 * time.Millisecond},
	// 7200 turns a minute: half a turn is 4.2 ms, and the arm takes about 8.
	{"hdd", "a hard disk", 150, 12 * time.Millisecond},
	// 6 Gbit/s with 10 bits a byte: 600 MB/s, less what frames around it take. Flash answers within 100 µs.
	{"ssd", "a SATA SSD", 500, 100 * time.Microsecond},
	// Four lanes of PCIe 3.0: 3.9 GB/s, which a single reader without a queue does not reach.
	{"nvme", "NVMe", 2500, 60 * time.Microsecond},
	// Ethernet's frames of 1538 bytes carry 1448: 118 MB/s, less NFS's or NBD's own.
	{"network", "a network of 1 Gbit/s", 112, time.Millisecond},
}

// StorageNames are those that [ParseStorage] knows.
func StorageNames() []string {
	var names []string
	for _, s := range storages {
		names = append(names, s.name)
	}
	return names
}

// ParseStorage reads one of [StorageNames], a rate such as 30MB/s or 30MiB/s, or the name of a file or device, which
// is measured when it is wanted.
func ParseStorage(s string) (Storage, error) {
	for _, k := range storages {
		if strings.EqualFold(k.name, s) {
			return Storage{fmt.Sprintf("%s (%.0f MB/s, %v)", k.title, k.mb, k.latency), k.mb * 1e6, k.latency}, nil
		}
	}
	if number, ok := strings.CutSuffix(s, "/s"); ok {
		unit := 1.0
		for _, u := range []struct {
			suffix string
			bytes  float64
		}{{"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KiB", 1 << 10}, {"MB", 1e6}, {"GB", 1e9}, {"KB", 1e3}, {"kB", 1e3}} {
			if n, ok := strings.CutSuffix(number, u.suffix); ok {
				number, unit = n, u.bytes
				break
			}
		}
		rate, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(rate > 0) || unit == 1 || rate*unit > 1e15 {
			return Storage{}, fmt.Errorf("storage %q: a rate is a number with MB/s, such as 30MB/s", s)
		}
		return Storage{Name: "storage of " + s, Rate: rate * unit}, nil
	}
	if _, err := os.Stat(s); err != nil {
		return Storage{}, fmt.Errorf("storage %q: neither a rate such as 30MB/s, nor one of %s, nor a file or device that is there", s, strings.Join(StorageNames(), ", "))
	}
	return Storage{Name: s}, nil
}

// storage measures the file or device, if it is one.
func (a *adviser) storage(ctx context.Context) error {
	s := &a.Storage
	if s.Rate == 0 {
		if s.Name == "" {
			return OptionError{fmt.Errorf("no storage is named")}
		}
		measured, err := measureStorage(ctx, s.Name)
		if err != nil {
			return named("storage", s.Name, err)
		}
		*s = measured
	}
	a.advice.Storage = *s
	return nil
}

// How a file or device is measured: in one piece, and from all over, each for so long at the most.
const (
	measureTime  = 2 * time.Second
	measureChunk = 1 << 20
	measureSmall = 4096
	measureMost  = 1 << 30 // bytes
	leastMeasure = 8 << 20 // of a file that tells anything
)

// measureStorage reads without the kernel's cache where that can be had.
func measureStorage(ctx context.Context, name string) (Storage, error) {
	f, err := openUncached(name)
	if err != nil {
		return Storage{}, err
	}
	defer f.Close() // read only: nothing is lost with its error
	size, err := f.Seek(0, 2)
	if err != nil {
		return Storage{}, err
	}
	if size < leastMeasure {
		return Storage{}, fmt.Errorf("of %d bytes: too small to measure; give a file of %d MiB or more, or the device", size, leastMeasure>>20)
	}
	buf := alignedBuffer(measureChunk)
	begin, done := time.Now(), int64(0)
	for done+measureChunk <= min(size, measureMost) && time.Since(begin) < measureTime && ctx.Err() == nil {
		n, err := f.ReadAt(buf, done)
		if err != nil {
			return Storage{}, err
		}
		done += int64(n)
	}
	s := Storage{Rate: float64(done) / time.Since(begin).Seconds()}
	begin, reads := time.Now(), 0
	for ; reads < 512 && time.Since(begin) < measureTime && ctx.Err() == nil; reads++ {
		at := int64(vanDerCorput(uint32(reads))*float64(size-measureSmall)) / measureSmall * measureSmall
		if _, err := f.ReadAt(buf[:measureSmall], at); err != nil {
			return Storage{}, err
		}
	}
	s.Latency = time.Since(begin) / time.Duration(max(reads, 1))
	s.Name = fmt.Sprintf("%s (%.0f MB/s, %v)", name, s.Rate/1e6, s.Latency.Round(10*time.Microsecond))
	return s, ctx.Err()
}

// alignedBuffer begins at a multiple of 4096, as reading past the cache asks for.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+measureSmall)
	return b[offsetToAlign(b, measureSmall):][:n:n]
}
