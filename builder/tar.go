package builder

import (
	"context"
	"io"
	"os"

	"github.com/isopress/isopress/squashfs"
)

// Archive is a tar archive, compressed or not.
type Archive struct {
	Name   string    // of a file
	Reader io.Reader // or, where not nil, the archive itself, such as stdin
}

// openTar opens the archives of the source. What must be on disk while they are
// read is kept beside the output, where there has to be room anyway.
func (o *Options) openTar(ctx context.Context) (*squashfs.Tar, error) {
	var archives []io.Reader
	for _, a := range o.Source.Tar {
		if a.Reader != nil {
			archives = append(archives, a.Reader)
			continue
		}
		f, err := openArchive(ctx, a.Name)
		if err != nil {
			return nil, err
		}
		archives, o.files = append(archives, f), append(o.files, f)
	}
	return squashfs.FromTar(ctx, squashfs.TarOptions{
		TempDir:  o.target.dir(),
		Progress: func(done, total int64) { o.progress(Progress{Phase: "spool", Done: done, Total: total}) },
		Warn:     func(path, msg string) { o.warn("%s: %s", path, msg) },
	}, archives...)
}

// openArchive opens a file, which may be a pipe that no one writes to.
func openArchive(ctx context.Context, name string) (*os.File, error) {
	type opened struct {
		f   *os.File
		err error
	}
	done := make(chan opened)
	go func() {
		f, err := os.Open(name)
		select {
		case done <- opened{f, err}:
		case <-ctx.Done(): // no one waits any more
			f.Close()
		}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, named("--tar", name, o.err)
		}
		return o.f, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
