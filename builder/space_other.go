//go:build !linux

package builder

// freeSpace is not known on this system.
func freeSpace(string) (int64, bool) { return 0, false }
