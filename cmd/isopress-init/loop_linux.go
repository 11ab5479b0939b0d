package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// loopDevice is an open loop device. It is detached when nothing uses it any
// more, this descriptor included.
type loopDevice struct {
	fd   int
	path string
}

// attachLoop makes a read-only block device of a file.
func attachLoop(file, name string) (loopDevice, error) {
	backing, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return loopDevice{}, fmt.Errorf("open %s: %w", file, err)
	}
	dev, err := attachFree(backing, name)
	return dev, errors.Join(err, unix.Close(backing))
}

// attachFree asks for a free device until nobody else was faster.
func attachFree(backing int, name string) (loopDevice, error) {
	var err error
	for range 8 {
		var n int
		if n, err = freeLoop(); err != nil {
			return loopDevice{}, err
		}
		dev := loopDevice{path: fmt.Sprintf("/dev/loop%d", n)}
		if dev.fd, err = unix.Open(dev.path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return loopDevice{}, fmt.Errorf("%s: %w", dev.path, err)
		}
		if err = configureLoop(dev.fd, backing, name); err == nil {
			return dev, nil
		}
		err = errors.Join(err, unix.Close(dev.fd))
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return loopDevice{}, err
}

func freeLoop() (int, error) {
	ctl, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("/dev/loop-control: %w: the module loop is missing", err)
	}
	n, err := unix.IoctlRetInt(ctl, unix.LOOP_CTL_GET_FREE)
	return n, errors.Join(err, unix.Close(ctl))
}

func configureLoop(fd, backing int, name string) error {
	conf := unix.LoopConfig{Fd: uint32(backing)}
	conf.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	copy(conf.Info.File_name[:len(conf.Info.File_name)-1], name)
	err := unix.IoctlLoopConfigure(fd, &conf)
	if err == nil || errors.Is(err, unix.EBUSY) {
		return err
	}
	// Before Linux 5.8. Without write access to the file, it is read-only.
	if err := unix.IoctlSetInt(fd, unix.LOOP_SET_FD, backing); err != nil {
		return err
	}
	return unix.IoctlLoopSetStatus64(fd, &conf.Info)
}
