package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/isopress/isopress/iso"
)

// imagePath is a path of the ISO as package fs has it.
func imagePath(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", OptionError{errors.New(`a path in the ISO has no ".."`)}
	}
	return path.Join(".", path.Clean("/" + name)[1:]), nil
}

// cleanRemove puts the paths to remove as package fs has them.
func (r *repack) cleanRemove() error {
	remove := make([]string, len(r.Remove))
	for i, name := range r.Remove {
		var err error
		if remove[i], err = imagePath(name); err != nil {
			return fmt.Errorf("--remove %s: %w", name, err)
		}
	}
	r.Remove = remove
	return nil
}

func (r *repack) removes(name string) bool {
	return slices.ContainsFunc(r.Remove, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") })
}

// removed notes which files go, and returns the bytes in them.
func (r *repack) removed(image *iso.Image) (size int64, err error) {
	if len(r.Remove) == 0 {
		return 0, nil
	}
	err = fs.WalkDir(image.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !r.removes(name) {
			return err
		}
		r.result.Removed = append(r.result.Removed, name)
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
