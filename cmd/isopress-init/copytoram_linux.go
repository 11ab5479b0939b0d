package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ramDir is where the copy is made.
const ramDir = "/ram"

// copyToRAM puts a tmpfs with a copy of the medium's files in the medium's place,
// so that the medium can be removed. Where memory does not hold the copy, the
// medium stays.
func (b *boot) copyToRAM() error {
	start := time.Now()
	files, need, err := filesToCopy(mediumDir)
	if err != nil {
		return fmt.Errorf("copying to RAM: %w", err)
	}
	err = makeCopy(files, need)
	var unreadable *readError
	if errors.As(err, &unreadable) {
		return err
	}
	if err != nil {
		say("not copied to RAM: %v", err)
		say("the boot goes on from the medium, which has to stay where it is")
		return nil
	}
	if err := takePlace(ramDir, mediumDir); err != nil {
		return fmt.Errorf("copied to RAM, but: %w", err)
	}
	say("copied to RAM in %.1f s: the medium can be removed", time.Since(start).Seconds())
	return nil
}

// filesToCopy lists the regular files in a directory, and the memory that a tmpfs
// takes for them. What lies in directories is for firmware and boot loaders,
// whose part is over, and in part the same bytes under other names.
func filesToCopy(dir string) (files []fs.FileInfo, need int64, err error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	page := int64(os.Getpagesize())
	for _, e := range list {
		if !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, 0, err
		}
		files = append(files, info)
		need += (info.Size() + page - 1) / page * page
	}
	return files, need, nil
}

// makeCopy leaves nothing of a copy that is not complete.
func makeCopy(files []fs.FileInfo, need int64) error {
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	available, err := memAvailable(string(meminfo))
	if err != nil {
		return err
	}
	if err := roomFor(need, available); err != nil {
		return err
	}
	if err := mountAt("tmpfs", ramDir, "tmpfs", 0, fmt.Sprintf("mode=0755,size=%d", need)); err != nil {
		return err
	}
	say("copying %d MiB to RAM, where %d MiB are available", toMiB(need), available>>20)
	if err := copyAll(files); err != nil {
		return errors.Join(err, unix.Unmount(ramDir, 0))
	}
	return nil
}

func copyAll(files []fs.FileInfo) error {
	p := &progress{saidAt: time.Now()}
	for _, f := range files {
		p.total += f.Size()
	}
	buf := make([]byte, copyChunk)
	for _, f := range files {
		if err := copyToDir(ramDir, mediumDir, f, buf, p); err != nil {
			return err
		}
	}
	return nil
}

func copyToDir(to, from string, f fs.FileInfo, buf []byte, p *progress) error {
	src, err := os.Open(filepath.Join(from, f.Name()))
	if err != nil {
		return &readError{f.Name(), 0, f.Size(), cause(err)}
	}
	defer src.Close()
	dst, err := os.OpenFile(filepath.Join(to, f.Name()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	err = copyFile(dst, src, f.Name(), f.Size(), buf, func(n int) {
		p.done += int64(n)
		if percent, ok := p.due(time.Now()); ok {
			say("copying to RAM: %d %%", percent)
		}
	})
	var unreadable *readError
	if errors.As(err, &unreadable) {
		unreadable.err = cause(unreadable.err)
	}
	return errors.Join(err, dst.Close())
}

// cause leaves out the path within the initrd, which is nobody's.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// takePlace moves the copy to where the medium is mounted, read-only as that was.
func takePlace(ram, medium string) error {
	if err := unix.Mount("", ram, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount %s: %w", ram, err)
	}
	if err := unix.Unmount(medium, 0); err != nil {
		return fmt.Errorf("unmount the medium: %w", err)
	}
	return moveMount(ram, medium)
}
