package builder

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A build that is killed leaves its temporary output behind, which may be large. Each build holds a
// lock on its own: a file without one is left over, and the next build of the same output removes it.

// staleDigits is how long the number behind a temporary file's name is at the least: renameio takes one
// of 63 bits, and shorter ones, which are rare, may be somebody's own.
const staleDigits = 16

// removeStale removes what killed builds of an output have left. What cannot be removed stays.
func removeStale(t target) {
	prefix := "." + filepath.Base(t.file)
	found, err := os.ReadDir(t.dir())
	if err != nil {
		return // who writes there says so
	}
	for _, d := range found {
		number, ok := strings.CutPrefix(d.Name(), prefix)
		if ok && len(number) >= staleDigits && strings.Trim(number, "0123456789") == "" && d.Type().IsRegular() {
			removeUnlocked(filepath.Join(t.dir(), d.Name()))
		}
	}
}

// removeUnlocked removes a file that no process has locked, and no other has by another name.
func removeUnlocked(name string) {
	f, err := openStale(name)
	if err != nil {
		return
	}
	defer f.Close()
	if tryLock(f) == nil && names(f) == 1 {
		os.Remove(name)
	}
}

// lockOutput locks a temporary file until it is closed, also where the file itself is closed earlier. It
// is not ours where another build has found it without a lock and removes it. Where there are no locks,
// nobody removes anything.
func lockOutput(f *os.File) (lock io.Closer, ours bool) {
	switch err := tryLock(f); {
	case err == errLocked:
		return nil, false
	case err == nil && names(f) == 0:
		return nil, false
	}
	return duplicate(f), true
}
