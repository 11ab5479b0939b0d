package squashfs

import (
	"io/fs"
	"os"
)

// DirFS returns the tree at dir as [os.DirFS] does, with its extended attributes.
func DirFS(dir string) fs.FS { return dirFS{os.DirFS(dir).(osDirFS), dir} }

// osDirFS lists what os.DirFS implements, so that dirFS has it too.
type osDirFS interface {
	fs.StatFS
	fs.ReadFileFS
	fs.ReadDirFS
	fs.ReadLinkFS
}

type dirFS struct {
	osDirFS
	dir string
}
