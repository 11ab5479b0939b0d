//go:build !linux

package squashfs

import "os"

func openFile(host string) (*os.File, error) { return os.Open(host) }
