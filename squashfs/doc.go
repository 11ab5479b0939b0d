// Package squashfs writes and reads squashfs 4.0 images, the read-only file
// system of the Linux kernel, in Go.
//
// # Writing
//
// [Write] presses any [io/fs.FS] into an image: [DirFS] shows a directory of the
// host with all that an image holds, [FromTar] and [TarFS] archives and container
// layers, [Reader] another image.
//
//	f, err := os.Create("image.squashfs")
//	…
//	res, err := squashfs.Write(ctx, f, squashfs.DirFS("tree"), squashfs.Options{})
//	…
//	err = f.Close()
//
// [Prepare] does the same in two steps for callers that must know the largest size
// in advance. The bytes are a function of the tree, the [Options] and the versions
// of this package and of the compression engines alone: neither the number of
// workers, nor the clock, nor the order in which the file system lists its
// directories reaches them. The engine is libzstd, liblzma, libdeflate or liblz4,
// or one in pure Go where the library is not there, which gives other bytes. With
// xz and with zstd from level 13 on, a fast zstd in Go, always the same,
// decides which blocks of 64 KiB or more are stored raw.
//
// # What is pressed
//
// The file system given to [Write] or [Prepare] is used as follows, until Write or
// [Plan.Write] returns, and not after that:
//
//   - It is safe for concurrent use. One goroutine lists the tree (ReadDir, each
//     entry's Info, ReadLink, Xattrs) while up to [Options.Workers] others open,
//     read and close regular files; while the image is written, they and one more do.
//   - An open file that implements [io.ReaderAt] is read by ReadAt from several
//     goroutines at once, and closed once all are done. One that does not is read
//     by one goroutine from its start on, with Seek over what is not wanted where
//     it implements [io.Seeker].
//   - Each file that no cache knows is read once, by Read, for the plan, and where
//     [Options.Files] is given its Stat is asked before and behind. Of files of equal content only
//     the first is read again for the image: its blocks, and apart from these its
//     tail, for which one that can only be read from its start on is read from
//     there once more. That makes three times at most, each after an Open.
//   - Content and size are the same each time. What differs is found, and an error
//     that names the file. So is a file whose size is said to be 0 and that has
//     content, as in /proc.
//   - ReadDir lists each name once, in any order. Names are Linux's: 1 to 256
//     bytes, neither "." nor "..", without "/" and zero bytes, of any encoding. An
//     entry's Info is that of the entry, which for a symbolic link is not that of
//     what it leads to.
//   - Symbolic links need [io/fs.ReadLinkFS], and have targets of 1 to 4095 bytes.
//     They are never followed.
//   - Owners, device numbers, hard links and xattrs are taken from
//     [io/fs.FileInfo.Sys] if it is an [*Attr], or on Linux a *syscall.Stat_t; other
//     files belong to root and have one name. Names of one Dev and Inode must agree
//     in mode, size and date. Where there is no [Attr.Xattrs], [XattrFS] is asked.
//
// # Reading
//
// [OpenReader] and [NewReader] give an image back as an [io/fs.FS]: one of any
// compression and of any writer, which need not be trusted. The reader is Go
// only, needs no mount and no privileges, and works on every system.
//
//	r, err := squashfs.OpenReader("image.squashfs")
//	…
//	defer r.Close()
//	b, err := fs.ReadFile(r, "etc/hostname")
//
// The format is described by the kernel's fs/squashfs/squashfs_fs.h and its
// readers; comments name the kernel file that a detail comes from.
package squashfs
