//go:build !linux

package builder

import "time"

var programStart = time.Now()

// threadTime is a clock that goes on while the thread waits; others are not asked for.
func threadTime() time.Duration { return time.Since(programStart) }
