//go:build unix && !linux

package qemu

import "syscall"

// processAttributes puts QEMU in a process group of its own, so that it can be killed whole and the
// terminal's Ctrl-C does not reach it.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
