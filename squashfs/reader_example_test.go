package squashfs_test

import (
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"time"

	"github.com/isopress/isopress/squashfs"
)

func ExampleNewReader() {
	f, err := os.Open("testdata/zstd.squashfs")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	r, err := squashfs.NewReader(f, info.Size())
	if err != nil {
		log.Fatal(err)
	}
	sb := r.Superblock()
	fmt.Println(sb.Compression, sb.BlockSize, sb.Inodes)

	err = fs.WalkDir(r, "etc", func(name string, _ fs.DirEntry, err error) error {
		fmt.Println(name)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	hostname, err := fs.ReadFile(r, "etc/name") // a link to hostname
	fmt.Printf("%s%v\n", hostname, err)
	xattrs, err := r.Xattrs("bin/zeros")
	fmt.Printf("%s %v\n", xattrs["user.note"], err)
	// Output:
	// zstd 4096 13
	// etc
	// etc/empty
	// etc/hostname
	// etc/name
	// isopress
	// <nil>
	// a value that is stored once and that three files refer to <nil>
}

// An image's files have what Linux files have, beyond [fs.FileInfo].
func ExampleReader_Lstat() {
	r, err := squashfs.OpenReader("testdata/xz.squashfs")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"bin/numbers", "bin/absolute", "console"} {
		info, err := r.Lstat(name)
		if err != nil {
			log.Fatal(err)
		}
		attr := info.Sys().(*squashfs.Attr)
		fmt.Println(info.Mode(), attr.Nlink, attr.UID, attr.GID, info.Size(), name)
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := r.ReadLink(name)
			fmt.Println("  to", target, err)
		}
		if info.Mode()&fs.ModeDevice != 0 {
			fmt.Printf("  device %#x\n", attr.Rdev)
		}
	}
	// Output:
	// -rw-r--r-- 2 0 0 5893 bin/numbers
	// Lrwxrwxrwx 1 0 0 13 bin/absolute
	//   to /etc/hostname <nil>
	// Dcrw------- 1 0 0 0 console
	//   device 0x501
}

func ExampleReader_Superblock() {
	r, err := squashfs.OpenReader("testdata/xz.squashfs")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	sb := r.Superblock()
	fmt.Println(sb.Compression, sb.BlockSize, sb.Inodes, sb.Modified.Format(time.DateOnly))
	fmt.Println(sb.Options.DictionarySize, sb.Options.Filters)
	// Output:
	// xz 8192 13 2023-11-14
	// 8192 x86,arm
}

// A part of an open file is read without what is before it.
func ExampleReader_Open() {
	r, err := squashfs.OpenReader("testdata/zstd.squashfs")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	f, err := r.Open("bin/numbers")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 9)
	if _, err := f.(io.ReaderAt).ReadAt(b, 4888); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", b)
	// Output:
	// "1200\n1201"
}
