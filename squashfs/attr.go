package squashfs

import (
	"errors"
	"io/fs"
)

// systemAttr reads info.Sys(): an *Attr, the platform's own structure, or
// nothing, for files that belong to root and have no further names.
func systemAttr(info fs.FileInfo) (Attr, error) {
	switch sys := info.Sys().(type) {
	case *Attr:
		if sys == nil {
			return Attr{}, errors.New("Sys is a nil *Attr")
		}
		return *sys, nil
	default:
		return platformAttr(sys)
	}
}
