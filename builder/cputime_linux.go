package builder

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the processor time of the thread that calls: what a measurement takes whatever else the machine
// does. The caller is locked to its thread.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // Linux has always had it
	return time.Duration(t.Nano())
}
