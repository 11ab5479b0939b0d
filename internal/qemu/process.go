package qemu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// process is a running QEMU with its serial console and monitor.
type process struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stdout  io.ReadCloser
	stderr  *boundedBuffer
	monitor *monitor
	exited  chan struct{} // closed when the process has been waited for
	err     error         // of the wait; read it after exited
}

// start runs the emulator. The caller must kill and wait.
func start(emulator string, args []string, tempDir string) (*process, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("qemu: monitor socket: %w", err)
	}
	defer theirs.Close()
	p := &process{stderr: &boundedBuffer{}, exited: make(chan struct{})}
	if err := p.launch(emulator, args, tempDir, theirs); err != nil {
		ours.Close()
		return nil, err
	}
	p.monitor = newMonitor(ours)
	return p, nil
}

func (p *process) launch(emulator string, args []string, tempDir string, qmp *os.File) error {
	p.cmd = exec.Command(emulator, args...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+tempDir) // for the overlays of snapshot=on
	p.cmd.ExtraFiles = []*os.File{qmp}
	p.cmd.Stderr = p.stderr
	p.cmd.SysProcAttr = processAttributes()
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	var stdout *os.File
	if p.stdout, stdout, err = os.Pipe(); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	defer stdout.Close()
	p.cmd.Stdout = stdout
	if err := p.startAndWait(); err != nil {
		p.stdin.Close()
		p.stdout.Close()
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}

// startAndWait starts the process on a thread that lives as long as it: the death signal is sent when
// the thread that forked ends, and Go ends threads as it likes (golang/go#27505).
func (p *process) startAndWait() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.exited)
		}
	}()
	return <-started
}

// kill ends the process group and waits till nothing of it is left.
func (p *process) kill() {
	// The group's number is not reused before the wait is over; after it there is nothing to kill.
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.exited
	p.monitor.conn.Close()
	<-p.monitor.finished
	p.stdout.Close()
}

// exitError is how the emulator failed, if it did. Wait for exited first.
func (p *process) exitError() error {
	if p.err == nil {
		return nil
	}
	return &ExitError{Err: p.err, Stderr: p.stderr.String()}
}

// socketPair returns two connected sockets, the second one to be inherited.
func socketPair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	ours := os.NewFile(uintptr(fds[0]), "qmp")
	defer ours.Close() // FileConn duplicates it
	theirs := os.NewFile(uintptr(fds[1]), "qmp")
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
	}
	return conn, theirs, err
}

// boundedBuffer keeps the first bytes of what is written to it: QEMU says what is wrong first.
type boundedBuffer struct {
	mu  sync.Mutex
	buf []byte
}

const maxStderr = 8 << 10

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p[:min(len(p), maxStderr-len(b.buf))]...)
	return len(p), nil
}

func (b *boundedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.TrimSpace(string(b.buf))
}

// findEmulator looks QEMU up on PATH, unless its name is a path.
func findEmulator(name string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return "", &NotFoundError{name, "PATH", "qemu-system-x86"}
	}
	if err != nil {
		return "", fmt.Errorf("qemu: %w", err)
	}
	return path, nil
}
