//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "isopress-init: runs on Linux, as an initrd's /init")
	os.Exit(2)
}
