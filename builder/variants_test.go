package builder

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each specialisation has a directory of its own, also where case is not told apart.
func TestVariantDirs(t *testing.T) {
	b := &bootFiles{}
	var dirs []string
	for _, name := range []string{"a b", "a b-2", "a!b", "a b-1", "a-B", "", strings.Repeat("x", 65), strings.Repeat("x", 66), "ä"} {
		dir := b.variantDir(name)
		if lower := strings.ToLower(dir); slices.Contains(dirs, lower) {
			t.Errorf("%q: %s is there already", name, dir)
		}
		dirs = append(dirs, strings.ToLower(dir))
		v := variant{name: name, kernel: &payload{name: dir + "/kernel"}, initrd: &b.initrd}
		if len(dirs)%2 == 0 {
			v.kernel, v.initrd = &b.kernel, &payload{name: dir + "/initrd"}
		}
		b.variants = append(b.variants, v)
	}
}

// The manifest has room for as many specialisations as there are.
func TestManifestOfManyVariants(t *testing.T) {
	boot := &bootFiles{kernel: payload{name: kernelFile}, initrd: payload{name: initrdFile}}
	m := &Manifest{Boot: &boot.manifest}
	for i := range 300 {
		dir := fmt.Sprintf("boot/specialisation/%064d", i)
		boot.variants = append(boot.variants, variant{kernel: &payload{name: dir + "/kernel"}, initrd: &payload{name: dir + "/initrd"}})
	}
	b := &isoBuild{Options: &Options{}, boot: boot, manifest: m}
	bound, err := b.maxManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range boot.payloads() {
		m.Files = append(m.Files, ManifestEntry{Path: p.name, Size: 1 << 31, SHA256: strings.Repeat("0", 64), Within: storeFile, Offset: 1 << 31})
	}
	if text, err := m.encode(); err != nil || int64(len(text)) > bound {
		t.Errorf("%d bytes, the bound was %d; %v", len(text), bound, err)
	}
}
