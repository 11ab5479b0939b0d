package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// In an interactive boot every key goes to the guest, Ctrl-C too. As in QEMU's
// own serial console, Ctrl-A x ends the machine and Ctrl-A Ctrl-A sends one Ctrl-A.
const (
	escapeKey = 'A' & 0x1f
	quitKey   = 'x'
)

// console is the terminal's input without the keys that are for us.
type console struct {
	r    *bufio.Reader
	quit func()
}

func (c *console) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	key, err := c.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if key == escapeKey {
		if key, err = c.r.ReadByte(); err != nil {
			return 0, err
		}
		if key == quitKey {
			c.quit()
			return 0, io.EOF
		}
	}
	b[0] = key
	return 1, nil
}

// interactive connects the terminal to the guest, each key as it is pressed.
// Without a terminal the input goes to the guest as it is.
func (a *app) interactive(quit context.CancelFunc) (input io.Reader, restore func(), err error) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return a.stdin, func() {}, nil
	}
	fmt.Fprintln(a.stderr, "isopress: the terminal is the guest's console; Ctrl-A x ends it")
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, nil, err
	}
	return &console{bufio.NewReader(f), quit}, func() { term.Restore(int(f.Fd()), state) }, nil
}
