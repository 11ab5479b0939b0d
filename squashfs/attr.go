package squashfs

import (
	"fmt"
	"io/fs"
)

// sysAttr is what a FileInfo's Sys tells of a file.
type sysAttr struct {
	Attr
	dev uint64 // file system that Inode counts in
}

// systemAttr reads info.Sys(): an *Attr, the platform's own structure, or
// nothing, for files that belong to root and have no further names.
func systemAttr(info fs.FileInfo) (sysAttr, error) {
	switch sys := info.Sys().(type) {
	case *Attr:
		if sys == nil {
			return sysAttr{}, fmt.Errorf("Sys is a nil *Attr")
		}
		return sysAttr{Attr: *sys}, nil
	default:
		return platformAttr(sys)
	}
}
