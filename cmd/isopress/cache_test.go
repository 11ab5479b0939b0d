package main

import "testing"

func TestCacheDir(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/user/cache")
	for _, c := range []struct {
		flag, dir string
		off       bool
	}{
		{"", "/user/cache/isopress", false},
		{"off", "", true},
		{"./off", "./off", false},
		{"dir", "dir", false},
	} {
		if dir, off, err := cacheDir(c.flag); dir != c.dir || off != c.off || err != nil {
			t.Errorf("--cache %q: %q, %v, %v", c.flag, dir, off, err)
		}
	}
	// A directory that depends on where we are is none.
	t.Setenv("XDG_CACHE_HOME", "cache")
	if dir, _, err := cacheDir(""); err == nil {
		t.Errorf("relative: %q", dir)
	}
}
