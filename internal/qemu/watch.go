package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// quietTime is how long the console must be silent before an unfinished line is looked at.
const quietTime = 200 * time.Millisecond

// watcher follows one guest's console till there is a reason to stop.
type watcher struct {
	Config
	*process
	console console
	ending  bool // the guest has ended, or said its last word
}

func (w *watcher) result() Result {
	c := &w.console
	return Result{Line: c.matchLine, Match: c.match, Tail: c.text(), Accel: w.Accel}
}

// watch returns the reason to stop; nil is a match, or the end of a guest that nothing was expected of.
func (w *watcher) watch(ctx context.Context) error {
	_ = w.monitor.handshake() // it fails when QEMU has gone already, and what it said still counts
	chunks, stop := make(chan []byte), make(chan struct{})
	defer close(stop)
	go readChunks(w.stdout, chunks, stop)

	quiet := time.NewTimer(quietTime)
	defer quiet.Stop()
	shutdown := w.shutdownEvent()
	for {
		select {
		case b, ok := <-chunks:
			if !ok {
				return w.atEOF(ctx)
			}
			if err := w.tee(b); err != nil {
				return err
			}
			if w.console.write(b) {
				if w.console.matched {
					return w.verdict()
				}
				w.ending = true // a last word: what comes before the next silence belongs to it
			}
			quiet.Reset(quietTime)
		case <-shutdown:
			shutdown, w.ending = nil, true // what is left on the console still counts
			quiet.Reset(quietTime)
		case <-quiet.C:
			if w.console.look() || w.ending {
				return w.verdict()
			}
		case <-ctx.Done():
			return w.stopped(ctx)
		}
	}
}

// shutdownEvent is nil, which never comes, when QEMU ends with the guest.
func (w *watcher) shutdownEvent() <-chan struct{} {
	if w.ScreenshotPath == "" {
		return nil
	}
	return w.monitor.shutdown
}

func (w *watcher) tee(b []byte) error {
	if w.Console == nil {
		return nil
	}
	if _, err := w.Console.Write(b); err != nil {
		return fmt.Errorf("qemu: writing the console: %w", err)
	}
	return nil
}

// verdict is what the console says of a run that is over.
func (w *watcher) verdict() error {
	switch {
	case w.console.matched:
		return nil
	case w.console.fail != nil:
		return fmt.Errorf("qemu: %w: %s", w.console.fail, w.console.failLine)
	case w.Expect != nil:
		return fmt.Errorf("qemu: %w", ErrEnded)
	}
	return nil
}

// atEOF is the verdict once QEMU has closed the console: it has ended, with the guest or by itself.
func (w *watcher) atEOF(ctx context.Context) error {
	w.console.look()
	select {
	case <-w.exited:
	case <-ctx.Done():
		return w.stopped(ctx)
	}
	if err := w.exitError(); err != nil && !w.console.done() {
		return err
	}
	return w.verdict()
}

// stopped is the verdict of a run that was broken off.
func (w *watcher) stopped(ctx context.Context) error {
	switch {
	case w.console.look():
		return w.verdict()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("qemu: %w", ErrTimeout)
	}
	return fmt.Errorf("qemu: %w", ctx.Err())
}

// readChunks sends what it reads until the end, which closes the channel, or until stop.
func readChunks(r io.Reader, chunks chan<- []byte, stop <-chan struct{}) {
	defer close(chunks)
	for {
		buf := make([]byte, 16<<10)
		n, err := r.Read(buf)
		if n > 0 {
			select {
			case chunks <- buf[:n]:
			case <-stop:
				return
			}
		}
		if err != nil {
			return
		}
	}
}
