package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stop says the last word and does not return.
func (b *boot) stop(err error) {
	b.lastWord(err)
	b.restart()
	say("waiting for ever: switch the machine off, or restart it")
	for {
		time.Sleep(time.Hour)
	}
}

// restart restarts the machine as panic= says; without it, it returns.
func (b *boot) restart() {
	if b.cfg.panic == 0 {
		return
	}
	if b.cfg.panic > 0 {
		say("restarting in %d s, as panic=%d says", b.cfg.panic, b.cfg.panic)
		time.Sleep(time.Duration(b.cfg.panic) * time.Second)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		say("restart: %v", err)
	}
}

// lastWord says on every console what is wrong and what was seen.
func (b *boot) lastWord(err error) {
	text := b.lastWordText(err)
	fmt.Fprint(os.Stderr, text)
	// One that hangs, such as a serial line without a reader, holds up nobody.
	done := make(chan struct{})
	others := otherConsoles()
	for _, path := range others {
		go func() {
			writeTerminal(path, text)
			done <- struct{}{}
		}()
	}
	timeout := time.After(5 * time.Second)
	for range others {
		select {
		case <-done:
		case <-timeout:
			return
		}
	}
}

func (b *boot) lastWordText(err error) string {
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, "isopress: "+format+"\n", args...) }
	line("")
	line("THE BOOT STOPS HERE: %s", strings.ReplaceAll(err.Error(), "\n", "\nisopress:   "))
	line("kernel %s, command line: %s", release(), strings.TrimSpace(b.cmdline))
	devs := b.devices.snapshot()
	for _, d := range devs {
		line("device %s", d)
	}
	if len(b.failed) > 0 {
		line("modules that did not load: %s", strings.Join(b.failed, ", "))
	}
	for _, hint := range hints(&b.cfg, err, devs, b.modules, release()) {
		line("try: %s", hint)
	}
	return s.String()
}

// otherConsoles are those besides /dev/console, which is the last the kernel
// names (drivers/tty/tty_io.c, show_cons_active).
func otherConsoles() []string {
	b, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		return nil
	}
	names := strings.Fields(string(b))
	if len(names) < 2 {
		return nil
	}
	var paths []string
	for _, n := range names[:len(names)-1] {
		paths = append(paths, "/dev/"+n)
	}
	return paths
}

// writeTerminal does what it can; there is nowhere to tell of an error.
func writeTerminal(path, text string) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for b := []byte(text); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil || n <= 0 {
			break
		}
		b = b[n:]
	}
	if err := unix.Close(fd); err != nil {
		return
	}
}
