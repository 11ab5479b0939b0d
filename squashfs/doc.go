// Package squashfs writes and reads squashfs 4.0 images, the read-only file
// system of the Linux kernel, in Go.
//
// [Write] presses any [io/fs.FS] into an image; [Prepare] does the same in two
// steps for callers that must know the largest size in advance. The bytes are a
// function of the tree, the [Options] and the compression engine's version alone:
// neither the number of workers, nor the clock, nor the order in which the file
// system lists its directories reaches them.
//
// [OpenReader] and [NewReader] give an image back as an [io/fs.FS]: one of any
// compression and of any writer, which need not be trusted. The reader is Go
// only, needs no mount and no privileges, and works on every system.
//
// The format is described by the kernel's fs/squashfs/squashfs_fs.h and its
// readers; comments name the kernel file that a detail comes from.
package squashfs
