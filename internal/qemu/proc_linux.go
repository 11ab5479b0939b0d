package qemu

import "syscall"

// processAttributes puts QEMU in a process group of its own, so that it can be killed whole and the
// terminal's Ctrl-C does not reach it, and has the kernel kill it should this process die first.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
