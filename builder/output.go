package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/isopress/isopress/internal/patherror"
)

// output is a file that appears under its name only when it is complete.
type output struct {
	*renameio.PendingFile
	path string
}

// writeOutput lets write fill a file that gets its name when that succeeds.
func writeOutput(path string, write func(out *output) error) error {
	out, err := createOutput(path)
	if err != nil {
		return err
	}
	defer out.Cleanup()
	if err := write(out); err != nil {
		return err
	}
	return out.commit()
}

// createOutput makes the temporary file beside path, so that a directory that is
// missing or closed to us is found before any work is done.
func createOutput(path string) (*output, error) {
	switch path {
	case "":
		return nil, errors.New("no output file: name one with -o")
	case "-":
		return nil, OptionError{errors.New("no output to stdout: an image is not written from front to back; name a file with -o")}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", path, patherror.Bare(err))
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s: a directory; name a file in it", path)
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file; write to a file and copy that", path)
	}
	// A link to an old output stays, and leads to the new one.
	file := path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		file = real
	}
	f, err := renameio.NewPendingFile(file, renameio.WithTempDir(filepath.Dir(file)),
		renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: the directory %s does not exist", path, filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, patherror.Bare(err))
	}
	return &output{f, path}, nil
}

// WriteAt names the output, not the temporary file, in its errors.
func (o *output) WriteAt(b []byte, off int64) (int, error) {
	n, err := o.File.WriteAt(b, off)
	if err != nil {
		err = fmt.Errorf("%s: write: %w", o.path, patherror.Bare(err))
	}
	return n, err
}

// commit gives the file its name.
func (o *output) commit() error {
	if err := o.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("%s: %w", o.path, patherror.Bare(err))
	}
	return nil
}

// checkOutside refuses an output within the tree that goes into it.
func checkOutside(out, root string) error {
	dir, err := filepath.Abs(filepath.Dir(out))
	if err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return fmt.Errorf("%s: the directory %s does not exist", out, filepath.Dir(out))
	}
	tree, err := filepath.EvalSymlinks(root)
	if err != nil {
		return err
	}
	if tree, err = filepath.Abs(tree); err != nil {
		return err
	}
	rel, err := filepath.Rel(tree, dir)
	if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return fmt.Errorf("%s: lies within %s, which is to go into it; write it elsewhere", out, root)
	}
	return nil
}
