package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

const manifestName = "/isopress.json"

// manifestFile is what the manifest of isopress's own images says of a file.
type manifestFile struct {
	Path   string
	Size   int64
	SHA256 string
	Within string
	Offset int64
}

// manifest holds an own image's manifest against the one before, of which it keeps all but how the squashfs is
// packed, and against the files.
func (j *judge) manifest(b, a tree) error {
	if b[manifestName] == nil || a[manifestName] == nil {
		return nil
	}
	before, _, err := readManifest(b[manifestName].host)
	if err != nil {
		return err
	}
	after, files, err := readManifest(a[manifestName].host)
	if err != nil {
		j.fault("%s: %v", manifestName, err)
		return nil
	}
	if options, ok := after["options"].(map[string]any); ok && j.codec != "" {
		if s, _ := options["compression"].(string); s != j.codec && !strings.HasPrefix(s, j.codec+":") {
			j.fault("%s: tells of compression %q", manifestName, s)
		}
	}
	for _, m := range []map[string]any{before, after} {
		delete(m, "builder")
		delete(m, "files")
		if options, ok := m["options"].(map[string]any); ok {
			for _, key := range []string{"compression", "block_size", "order"} {
				delete(options, key)
			}
		}
	}
	if !reflect.DeepEqual(before, after) {
		j.fault("%s: %v, it was %v", manifestName, after, before)
	}
	return j.manifestFiles(files, a)
}

func readManifest(host string) (m map[string]any, files []manifestFile, err error) {
	text, err := os.ReadFile(host)
	if err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, nil, err
	}
	all := struct{ Files *[]manifestFile }{&files}
	return m, files, json.Unmarshal(text, &all)
}

// manifestFiles: each file is as the manifest says, and there is no other but what boots.
func (j *judge) manifestFiles(files []manifestFile, a tree) error {
	told := map[string]bool{manifestName: true, "/EFI/BOOT/BOOTX64.EFI": true, "/boot/bios.bin": true}
	for _, f := range files {
		x := a["/"+f.Path]
		if told["/"+f.Path] = true; x == nil || x.size != f.Size || x.digest != f.SHA256 || f.SHA256 == "" {
			j.fault("%s: /%s is not as it says", manifestName, f.Path)
			continue
		}
		if f.Within == "" {
			continue
		}
		if holder := a["/"+f.Within]; holder == nil {
			j.fault("%s: /%s lies within %s, which is not there", manifestName, f.Path, f.Within)
		} else if sum, err := digestOf(holder.host, f.Offset, f.Size); err != nil {
			return err
		} else if sum != f.SHA256 {
			j.fault("%s: /%s does not lie at %d of %s", manifestName, f.Path, f.Offset, f.Within)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if a[name].digest != "" && !told[name] {
			j.fault("%s: does not tell of %s", manifestName, name)
		}
	}
	j.note("%s: %d files are as it says", manifestName, len(files))
	return nil
}

// digestOf is the SHA-256 of a part of a file.
func digestOf(host string, off, size int64) (string, error) {
	f, err := os.Open(host)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(f, off, size))
	return hex.EncodeToString(h.Sum(nil)), err
}
