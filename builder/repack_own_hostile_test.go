package builder

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isopress/isopress/iso"
	"github.com/isopress/isopress/squashfs"
)

// ownImageBytes is one of our images, and where its manifest lies.
func ownImageBytes(t *testing.T) (image []byte, manifest iso.Extent) {
	t.Helper()
	image, err := os.ReadFile(built(t, pack(t, ownSources(t)["our initrd"], 0)))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err = iso.Find(bytes.NewReader(image), int64(len(image)), ManifestFile)
	if err != nil {
		t.Fatal(err)
	}
	return image, manifest
}

// A manifest is anyone's text.
func TestHostileManifests(t *testing.T) {
	image, at := ownImageBytes(t)
	text := image[at.Offset : at.Offset+at.Size]
	set := func(key string, value any) func(m map[string]any) {
		return func(m map[string]any) {
			keys := strings.Split(key, ".")
			for _, k := range keys[:len(keys)-1] {
				m = m[k].(map[string]any)
			}
			m[keys[len(keys)-1]] = value
		}
	}
	file := func(name, key string, value any) func(m map[string]any) {
		return func(m map[string]any) {
			for _, f := range m["files"].([]any) {
				if f := f.(map[string]any); f["path"] == name {
					f[key] = value
				}
			}
		}
	}
	files := func(edit func(files []any) []any) func(m map[string]any) {
		return func(m map[string]any) { m["files"] = edit(m["files"].([]any)) }
	}
	for name, tc := range map[string]struct {
		edit func(m map[string]any)
		want string
	}{
		"nothing":                 {func(m map[string]any) { clear(m) }, "is no manifest of isopress"},
		"a newer format":          {set("isopress_manifest", 2), "of format 2"},
		"a text for a number":     {set("isopress_manifest", "1"), "cannot unmarshal"},
		"an unknown field":        {set("options.more", 1), `unknown field "more"`},
		"no compression":          {set("options.compression", "nonsense"), "nonsense"},
		"no block size":           {set("options.block_size", 3), "block size"},
		"no order":                {set("options.order", "default"), "default"},
		"a date before 1970":      {set("options.source_date_epoch", -1), "source_date_epoch -1"},
		"a date too late":         {set("options.source_date_epoch", 1<<32), "source_date_epoch 4294967296"},
		"a pattern for nothing":   {set("options.exclude", []string{"["}), "not a pattern"},
		"another volume ID":       {set("options.volume_id", "OTHER"), `volume ID "OTHER"`},
		"Joliet":                  {set("options.joliet", true), "a volume descriptor more or less"},
		"no boot":                 {func(m map[string]any) { delete(m, "boot") }, "does not say how the image boots"},
		"another command line":    {set("boot.cmdline", "init=/evil"), "is not the one in the UEFI stub"},
		"GRUB":                    {set("boot.grub", map[string]any{}), "does not tell of a file boot/grub/grub.cfg"},
		"specialisations":         {set("boot.specialisations", []any{map[string]any{"name": "x"}}), "no menu that shows them"},
		"store paths of no store": {set("store_paths", []any{map[string]any{"path": "/etc"}}), "/etc"},
		"store paths twice":       {set("store_paths", []any{map[string]any{"path": top}, map[string]any{"path": top}}), "not sorted"},
		"no store paths":          {set("store_paths", nil), "nix-store.squashfs: is the squashfs, or is none"},
		"no files":                {set("files", nil), "does not tell of a file nix-store.squashfs"},
		"a file twice":            {files(func(f []any) []any { return append(f, f[0]) }), "boot/initrd: is there twice"},
		"a file less":             {files(func(f []any) []any { return f[1:] }), "does not tell of a file boot/initrd"},
		"a path out of the image": {file("boot/kernel", "path", "../kernel"), "../kernel: not a path"},
		"a path of nothing":       {file("boot/kernel", "path", "kernel"), "kernel: is not in the image"},
		"a path of a directory":   {file("boot/kernel", "path", "boot"), "boot: is no file"},
		"a size":                  {file("boot/kernel", "size", 1), "not 1"},
		"no digest":               {file("boot/kernel", "sha256", ""), "has no SHA-256"},
		"half a digest":           {file("boot/kernel", "sha256", strings.Repeat("0", 32)), "has no SHA-256"},
		"another digest":          {file("boot/kernel", "sha256", strings.Repeat("0", 64)), "its SHA-256 is not the one"},
		"within nothing":          {file("boot/kernel", "within", "none"), `of "none"`},
		"within itself":           {file("nix-store.squashfs", "within", "nix-store.squashfs"), "cannot lie at 0"},
		"within, elsewhere":       {file("boot/kernel", "offset", 8192), "does not lie at 8192"},
		"within, far away":        {file("boot/kernel", "offset", 1<<62), "does not lie at 4611686018427387904"},
		"within, ahead":           {file("boot/kernel", "offset", -2048), "cannot lie at -2048"},
		"beside, at a place":      {file("boot/initrd", "offset", 2048), "cannot lie at 2048"},
		"the initrd within":       {file("boot/initrd", "within", "nix-store.squashfs"), "does not lie at 0"},
		"a squashfs of no size":   {file("nix-store.squashfs", "squashfs", map[string]any{"size": 1}), "is the squashfs, or is none"},
		"a kernel as a squashfs":  {file("boot/kernel", "squashfs", map[string]any{"size": 1}), "is the squashfs, or is none"},
	} {
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		tc.edit(m)
		edited, err := json.Marshal(m)
		if err != nil || len(edited) > len(text) {
			t.Fatalf("%s: %d bytes, %v", name, len(edited), err)
		}
		wantRefused(t, name, changed(image, int(at.Offset), append(edited, bytes.Repeat([]byte(" "), len(text)-len(edited))...)), tc.want)
	}
	wantRefused(t, "no JSON", changed(image, int(at.Offset), []byte("}")), "isopress.json: invalid character")
}

// changed is the image with other bytes at a place.
func changed(image []byte, at int, b []byte) []byte {
	image = bytes.Clone(image)
	copy(image[at:], b)
	return image
}

// wantRefused repacks an image, which must fail and leave nothing behind.
func wantRefused(t *testing.T, name string, image []byte, want string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in.iso")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	o := RepackOptions{Options: pack(t, Options{}, 1), Image: file}
	_, err := Repack(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "bug") {
		t.Errorf("%s: want %q, got %v", name, want, err)
	}
	if _, err := os.Stat(o.Output); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: there is an output: %v", name, err)
	}
	if errors.As(err, new(OptionError)) {
		t.Errorf("%s: the image is taken for an option: %v", name, err)
	}
}

// An image that was damaged, or changed by another program, is not pressed again.
func TestDamagedOwnImages(t *testing.T) {
	image, _ := ownImageBytes(t)
	size := len(image)
	find := func(name string) iso.Extent {
		im, err := iso.Open(bytes.NewReader(image), int64(size))
		if err != nil {
			t.Fatal(err)
		}
		e, err := im.Extents(name)
		if err != nil || len(e) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		return e[0]
	}
	flip := func(name string, at int64) []byte {
		at += find(name).Offset
		return changed(image, int(at), []byte{image[at] ^ 1})
	}
	store := find(storeFile)
	for name, tc := range map[string]struct {
		image []byte
		want  string
	}{
		"kernel":            {flip(kernelFile, 5000), "damaged ISO image: its SHA-256"},
		"initrd":            {flip(initrdFile, 3), "boot/initrd: damaged"},
		"squashfs":          {flip(storeFile, store.Size-100), "nix-store.squashfs: damaged"},
		"stub":              {flip("EFI/BOOT/BOOTX64.EFI", 0), "BOOTX64.EFI: damaged"},
		"cut off":           {image[:size-4096], "bytes of the volume's"},
		"longer":            {append(bytes.Clone(image), make([]byte, 4096)...), "4096 bytes behind the volume's end"},
		"another's volume":  {changed(image, 16*2048+446, []byte("XORRISO ")), "another program has written"},
		"another's version": {bytes.ReplaceAll(image, []byte("bios.bin"), []byte("bios.old")), "does not tell of boot/bios.old"},
		"not UTF-8":         {bytes.ReplaceAll(image, []byte("bios.bin"), []byte("b\xFFos.bin")), `does not tell of "boot/b\xffos.bin"`},
	} {
		wantRefused(t, name, tc.image, tc.want)
	}
}

// GRUB's images are taken over as they are, and a menu that is not ours is not edited.
func TestDamagedOwnGRUB(t *testing.T) {
	needGRUB(t)
	o := ownSources(t)["a tree"]
	o.Boot.Loader = LoaderGRUB
	image, err := os.ReadFile(built(t, pack(t, o, 0)))
	if err != nil {
		t.Fatal(err)
	}
	im, err := iso.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"boot/bios.bin": "GRUB's El Torito image: damaged", "EFI/BOOT/BOOTX64.EFI": "GRUB's EFI image: damaged", grubMenuFile: "grub.cfg: damaged",
	} {
		e, err := im.Extents(name)
		if err != nil {
			t.Fatal(err)
		}
		at := int(e[0].Offset + e[0].Size/2)
		wantRefused(t, name, changed(image, at, []byte{image[at] ^ 1}), want)
	}
	wantRefused(t, "boot code", changed(image, 100, []byte{image[100] ^ 1}), "GRUB's boot_hybrid.img: damaged")
}

// The title of an entry is found in its menu, or the menu is left alone.
func TestMenuTitles(t *testing.T) {
	for _, title := range []string{"NixOS", "It's $HOME {1}", "'", ""} {
		b := &bootFiles{kernel: payload{name: kernelFile}, initrd: payload{name: initrdFile}, cmdline: "quiet", manifest: ManifestBoot{Initrd: fromFile}}
		b.variants = []variant{{kernel: &b.kernel, initrd: &b.initrd, cmdline: "loud"}}
		menu := b.ownMenu([]string{title, title + " (x)"})
		text, err := menu.text()
		if err != nil {
			t.Fatal(err)
		}
		for edited, ok := range map[string]bool{string(text): true, string(text) + "#\n": false, "": false, strings.Replace(string(text), "loud", "mute", 1): false} {
			old := b.ownMenu(nil)
			b.grub = &grubBoot{files: []grubFile{{grubMenuFile, []byte(edited)}}}
			b.cmdline = "quiet more"
			err := b.appendToMenu(old)
			if (err == nil) != ok || ok && !strings.Contains(string(b.grub.files[0].Text), "linux /boot/kernel $isoboot quiet more\n") {
				t.Errorf("%q: %v in %s", title, err, b.grub.files[0].Text)
			}
			b.cmdline = "quiet"
		}
	}
}

// A manifest that would take much more memory than its size is not read.
func TestManifestOfNothings(t *testing.T) {
	for text, want := range map[string]string{
		`{"isopress_manifest": 1, "files": [` + strings.Repeat("{},", 100_000) + `{}]}`: "holds more than isopress writes",
		strings.Repeat(" ", maxOldManifest+1):                                           "over 33554432 bytes",
		`{"isopress_manifest": 1, "options": {"compression": "xz", "order": "similar"}, "boot": {"specialisations": [` +
			strings.Repeat("{"+strings.Repeat(" ", 20)+"},", 1000) + `{}]}}`: "1001 specialisations",
	} {
		if _, err := readManifest(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// FuzzManifest reads manifests of anyone.
func FuzzManifest(f *testing.F) {
	m := (&Options{}).manifest()
	m.Boot, m.StorePaths = &ManifestBoot{GRUB: &ManifestGRUB{}}, []ManifestPath{{Path: top}}
	m.Files = []ManifestEntry{{Path: storeFile, Size: 5, SHA256: strings.Repeat("0", 64), Squashfs: &squashfs.Result{Size: 5}}, {Path: kernelFile, Within: storeFile, Offset: 2048}}
	text, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"isopress_manifest":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := readManifest(bytes.NewReader(text))
		if err != nil {
			return
		}
		// What is taken is written again with nothing lost.
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readManifest(bytes.NewReader(again)); err != nil {
			t.Errorf("%v in %s", err, again)
		}
	})
}
