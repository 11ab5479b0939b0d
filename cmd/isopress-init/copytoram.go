package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	// keepFree is what a copy leaves of the memory: with less, hardly a system starts.
	keepFree = 128 << 20

	copyChunk = 1 << 20 // is read at a time
)

// Progress is said when another tenth is done, but not all at once where the
// medium is fast, nor long after the last time where it is slow.
const (
	progressStep   = 10 // percent
	progressSooner = time.Second
	progressLater  = 15 * time.Second
)

// memAvailable is MemAvailable of /proc/meminfo (proc_meminfo(5)), in bytes: what
// can be had without swapping.
func memAvailable(meminfo string) (int64, error) {
	for _, l := range strings.Split(meminfo, "\n") {
		f := strings.Fields(l)
		if len(f) != 3 || f[0] != "MemAvailable:" || f[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 54)
		if err != nil || n < 0 {
			break
		}
		return n << 10, nil
	}
	return 0, errors.New("/proc/meminfo does not say what memory is available")
}

// roomFor reports why a copy does not fit; all are bytes.
func roomFor(need, available int64) error {
	if need > available-keepFree {
		return fmt.Errorf("the medium's files need %d MiB, the system %d MiB more to start, and %d MiB of memory are available",
			toMiB(need), keepFree>>20, available>>20)
	}
	return nil
}

// toMiB rounds up, so that what does not fit never looks as if it did.
func toMiB(n int64) int64 { return (n + 1<<20 - 1) >> 20 }

// progress is how far a copy is.
type progress struct {
	total, done int64 // bytes
	said        int64 // percent, at last
	saidAt      time.Time
}

// due is the percentage, and whether it is time to say it.
func (p *progress) due(now time.Time) (percent int64, ok bool) {
	percent = p.done * 100 / max(p.total, 1)
	quiet := now.Sub(p.saidAt)
	if p.done == p.total || quiet < progressSooner || percent < p.said+progressStep && quiet < progressLater {
		return percent, false
	}
	p.said, p.saidAt = percent, now
	return percent, true
}

// readError is a medium that cannot be read.
type readError struct {
	file         string // on the medium
	offset, size int64
	err          error
}

func (e *readError) Error() string {
	return fmt.Sprintf("copying to RAM: /%s on the medium cannot be read at byte %d of %d: %v", e.file, e.offset, e.size, e.err)
}

func (e *readError) Unwrap() error { return e.err }

// copyFile copies size bytes by way of buf, and calls step after each piece. What
// is wrong with src is a *readError; another error is dst's.
func copyFile(dst io.Writer, src io.Reader, file string, size int64, buf []byte, step func(n int)) error {
	for done := int64(0); done < size; {
		n, readErr := src.Read(buf[:min(int64(len(buf)), size-done)])
		if _, err := dst.Write(buf[:n]); err != nil {
			return err
		}
		done += int64(n)
		step(n)
		if readErr == io.EOF {
			readErr = io.ErrUnexpectedEOF
		}
		if readErr != nil && done < size {
			return &readError{file, done, size, readErr}
		}
	}
	return nil
}
