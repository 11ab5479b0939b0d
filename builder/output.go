package builder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/google/renameio/v2"

	"github.com/isopress/isopress/internal/patherror"
)

// output is a file that appears under its name only when it is complete.
type output struct {
	*renameio.PendingFile
	path      string
	lock      io.Closer
	unstarted atomic.Int64 // bytes written since the kernel was last told to
}

// writebackEvery is after how many bytes the kernel is told to write them to the
// disk, so that the sync before the file gets its name has little left to wait for.
const writebackEvery = 16 << 20

// target is the file that an output's name leads to.
type target struct {
	path string // as it was given
	file string // without symlinks; it need not be there yet
}

// dir is where the temporary file, too, will lie.
func (t target) dir() string { return filepath.Dir(t.file) }

// writeOutput lets write fill a file that gets its name when that succeeds.
func writeOutput(t target, write func(out *output) error) error {
	removeStale(t)
	out, err := createOutput(t)
	if err != nil {
		return err
	}
	defer out.lock.Close() // last: until then nobody takes the file for left over
	defer out.Cleanup()
	if err := write(out); err != nil {
		return err
	}
	return out.commit()
}

// createOutput makes the temporary file beside the target, so that a directory
// that is closed to us is found before any work is done.
func createOutput(t target) (*output, error) {
	for {
		f, err := renameio.NewPendingFile(t.file, renameio.WithTempDir(t.dir()),
			renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, patherror.Bare(err))
		}
		if lock, ours := lockOutput(f.File); ours {
			return &output{PendingFile: f, path: t.path, lock: lock}, nil
		}
		f.Close() // another build was quicker, and removes it
	}
}

// findTarget finds what an output's name leads to, and refuses what cannot be
// replaced by a file.
func findTarget(path string) (t target, err error) {
	switch path {
	case "":
		return t, OptionError{errors.New("no output file: name one with -o")}
	case "-":
		return t, OptionError{errors.New("no output to stdout: an image is not written from front to back; name a file with -o")}
	}
	t = target{path: path}
	if t.file, err = followLinks(path); err != nil {
		return t, err
	}
	info, err := os.Lstat(t.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, nil
	case err != nil:
		return t, fmt.Errorf("%s: %w", path, patherror.Bare(err))
	case info.IsDir():
		return t, fmt.Errorf("%s: a directory; name a file in it", path)
	case !info.Mode().IsRegular():
		return t, fmt.Errorf("%s: not a regular file; write to a file and copy that", path)
	}
	return t, nil
}

// maxLinks is the kernel's limit of symlinks in one path.
const maxLinks = 40

// followLinks is the place that path, or the symlinks at its end, lead to: a link
// to an old output stays and leads to the new one, and one that dangles gets what
// it leads to.
func followLinks(path string) (string, error) {
	file := path
	for range maxLinks {
		// Not filepath.Dir, which takes "link/../x" for "x".
		dir, base := filepath.Split(file)
		if base == "" || base == "." || base == ".." {
			return "", fmt.Errorf("%s: a directory; name a file in it", path)
		}
		abs, err := realDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s: the directory %s does not exist", path, filepath.Clean(dir))
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, patherror.Bare(err))
		}
		if isDescriptor(abs, base) {
			return "", OptionError{fmt.Errorf("%s: an open file of a process, not a name that a file can get; an image is not written from front to back: name a file with -o", path)}
		}
		link := filepath.Join(abs, base)
		next, err := os.Readlink(link)
		if err != nil {
			return link, nil // no link; what it is, or that it is not there, is seen later
		}
		if file = next; !filepath.IsAbs(next) {
			file = abs + string(filepath.Separator) + next
		}
	}
	return "", fmt.Errorf("%s: more than %d symlinks", path, maxLinks)
}

// realDir is the absolute path of a directory, without symlinks. Only the whole
// path is resolved: filepath.Abs would clean "link/.." away, and the working
// directory's own name may hold symlinks.
func realDir(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		wd, err := os.Getwd()
		if err != nil {
			return "", err
		}
		dir = wd + string(filepath.Separator) + dir
	}
	return filepath.EvalSymlinks(dir)
}

// isDescriptor knows the names of a process's open files. They look like symlinks
// to the files, but who redirects to one means to append or to write through it.
func isDescriptor(dir, base string) bool {
	sep := string(filepath.Separator)
	switch dir {
	case sep + "dev":
		return base == "stdin" || base == "stdout" || base == "stderr"
	case filepath.Join(sep, "dev", "fd"):
		return true
	}
	return strings.HasPrefix(dir, filepath.Join(sep, "proc")+sep) && filepath.Base(dir) == "fd"
}

// WriteAt names the output, not the temporary file, in its errors.
func (o *output) WriteAt(b []byte, off int64) (int, error) {
	n, err := o.File.WriteAt(b, off)
	if err != nil {
		err = fmt.Errorf("%s: write: %w", o.path, patherror.Bare(err))
	}
	if o.unstarted.Add(int64(n)) >= writebackEvery {
		o.unstarted.Store(0)
		startWriteback(o.File)
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

// checkOutside refuses an output within the tree that goes into it: the temporary
// file would go in as well.
func (t target) checkOutside(root string) error {
	tree, err := realDir(root)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(tree, t.dir())
	if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return t.within(root)
	}
	return nil
}

func (t target) within(source string) error {
	return fmt.Errorf("%s: lies within %s, which is to go into it; write it elsewhere", t.path, source)
}
