package squashfs_test

import (
	"fmt"
	"io/fs"
	"log"
	"os"

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
