package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseStorage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, make([]byte, leastMeasure), 0o644); err != nil {
		t.Fatal(err)
	}
	for text, rate := range map[string]float64{"30MB/s": 30e6, "30MiB/s": 30 << 20, "1.5 GB/s": 1.5e9, "500KB/s": 5e5, "usb2": 33e6, "USB2": 33e6, file: 0} {
		s, err := ParseStorage(text)
		if err != nil || s.Rate != rate || s.Name == "" {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "30", "30MB", "0MB/s", "-3MB/s", "NaNMB/s", "InfMB/s", "30/s", "1e30GB/s", "MB/s", file + "x", "floppy"} {
		if s, err := ParseStorage(text); err == nil {
			t.Errorf("%q: %+v, no error", text, s)
		}
	}
	for _, name := range StorageNames() {
		if s, err := ParseStorage(name); err != nil || s.Rate <= 0 || s.Latency <= 0 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestMeasureStorage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, make([]byte, leastMeasure+1), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := measureStorage(t.Context(), file)
	if err != nil || s.Rate <= 0 || s.Latency <= 0 || !strings.Contains(s.Name, file) {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.Truncate(file, leastMeasure-1); err != nil {
		t.Fatal(err)
	}
	if s, err := measureStorage(t.Context(), file); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := measureStorage(t.Context(), t.TempDir()); err == nil {
		t.Errorf("a directory: %+v", s)
	}
}
