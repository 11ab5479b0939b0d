package initrd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/isopress/isopress/internal/codec"
)

// defaultCompression suits what a kernel has to expand at every boot.
const defaultCompression = "zstd:19"

// bufferSize gathers the cpio writer's many small writes before they are
// compressed, a call into the engine each.
const bufferSize = 256 << 10

// Write writes the archive to w, as a stream: files and kernel modules are read
// as they are written. It can be called again, and writes the same bytes. A file
// whose size is no longer what it was when it was added is an error.
func (a *Archive) Write(ctx context.Context, w io.Writer, opts Options) error {
	spec, modTime, err := opts.check()
	if err != nil {
		return err
	}
	entries, err := a.complete()
	if err != nil {
		return err
	}
	comp, err := codec.NewWriter(w, spec)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	buf := bufio.NewWriterSize(comp, bufferSize)
	err = writeEntries(ctx, buf, entries, modTime)
	if err == nil {
		err = wrap(buf.Flush())
	}
	// Closed on an error too: an engine may hold memory outside Go's.
	return errors.Join(err, wrap(comp.Close()))
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("initrd: %w", err)
}

// check fills in and validates the options.
func (o Options) check() (codec.Spec, time.Time, error) {
	if o.Compression == "" {
		o.Compression = defaultCompression
	}
	spec, err := codec.Parse(o.Compression)
	if err != nil {
		return spec, time.Time{}, fmt.Errorf("initrd: %w", err)
	}
	if o.ModTime.IsZero() {
		o.ModTime = time.Unix(0, 0)
	}
	if s := o.ModTime.Unix(); s < 0 || s > math.MaxUint32 {
		return spec, time.Time{}, fmt.Errorf("initrd: date %s: outside 1970 to 2106, which a newc archive holds", o.ModTime.UTC().Format(time.RFC3339))
	}
	return spec, o.ModTime, nil
}

// complete is the entries with the module list and all implied directories.
func (a *Archive) complete() (map[string]*entry, error) {
	all := make(map[string]*entry, len(a.entries)+16)
	for name, e := range a.entries {
		all[name] = e
	}
	if list := a.modules.file(); list != nil {
		name := strings.TrimPrefix(ModulesPath, "/")
		if all[name] != nil {
			return nil, fmt.Errorf("initrd: %s: %w: it is where the list of modules goes", ModulesPath, ErrDuplicate)
		}
		all[name] = bytesEntry(cpio.TypeReg|0o644, list)
	}
	for _, name := range sortedNames(all) {
		if err := addParents(all, name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func addParents(all map[string]*entry, name string) error {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		e := all[dir]
		if e == nil {
			all[dir] = &entry{mode: cpio.TypeDir | 0o755}
		} else if !isDir(e) {
			return fmt.Errorf("initrd: /%s: %w: /%s is not a directory", name, ErrBadPath, dir)
		}
	}
	return nil
}

func sortedNames(m map[string]*entry) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names) // bytewise: a parent comes before what is in it
	return names
}

func writeEntries(ctx context.Context, w io.Writer, entries map[string]*entry, modTime time.Time) error {
	cw := cpio.NewWriter(w)
	for i, name := range sortedNames(entries) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("initrd: %w", err)
		}
		if err := writeEntry(ctx, cw, name, entries[name], int64(i+1), modTime); err != nil {
			return fmt.Errorf("initrd: /%s: %w", name, err)
		}
	}
	return wrap(cw.Close())
}

func writeEntry(ctx context.Context, cw *cpio.Writer, name string, e *entry, inode int64, modTime time.Time) error {
	hdr := &cpio.Header{
		Name:    name,
		Mode:    e.mode,
		Links:   1, // more would make the kernel look for hard links
		Size:    e.size,
		ModTime: modTime,
		Inode:   inode,
	}
	if isDir(e) {
		hdr.Links = 2 // itself and its name
	}
	if err := cw.WriteHeader(hdr); err != nil {
		return err
	}
	if e.open == nil {
		return nil
	}
	r, err := e.open()
	if err != nil {
		return err
	}
	err = copyExactly(cw, &contextReader{ctx, r}, e.size)
	return errors.Join(err, r.Close())
}

// copyExactly copies size bytes and sees to it that there are no more.
func copyExactly(w io.Writer, r io.Reader, size int64) error {
	n, err := io.CopyN(w, r, size)
	if err == io.EOF {
		return fmt.Errorf("%w: %d bytes, %d when it was added", ErrChanged, n, size)
	}
	if err != nil {
		return err
	}
	var one [1]byte
	switch _, err := io.ReadFull(r, one[:]); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: more than the %d bytes it had when it was added", ErrChanged, size)
	default:
		return err
	}
}

// contextReader ends a long copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
