package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// monitor is a client of QMP, QEMU's machine protocol: a JSON object a message; replies come in the
// order of the commands, events between them.
// https://www.qemu.org/docs/master/interop/qmp-spec.html
type monitor struct {
	conn     io.ReadWriteCloser
	replies  chan qmpMessage
	shutdown chan struct{} // closed at the first SHUTDOWN event
	finished chan struct{} // closed when the connection has ended
	id       int           // of the last command

	mu     sync.Mutex
	reason string
}

type qmpMessage struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	ID    int    `json:"id"`
	Event string `json:"event"`
	Data  struct {
		Reason string `json:"reason"`
	} `json:"data"`
}

func newMonitor(conn io.ReadWriteCloser) *monitor {
	m := &monitor{
		conn:     conn,
		replies:  make(chan qmpMessage, 8),
		shutdown: make(chan struct{}),
		finished: make(chan struct{}),
	}
	go m.read()
	return m
}

func (m *monitor) read() {
	defer close(m.finished)
	for d := json.NewDecoder(m.conn); ; {
		var msg qmpMessage
		if d.Decode(&msg) != nil {
			return
		}
		switch {
		case msg.Event == "SHUTDOWN":
			m.noteShutdown(msg.Data.Reason)
		case msg.Return != nil || msg.Error != nil:
			select {
			case m.replies <- msg:
			default: // nobody waits for so many
			}
		}
	}
}

func (m *monitor) noteShutdown(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reason == "" {
		m.reason = reason
		if reason == "" {
			m.reason = "unknown"
		}
		close(m.shutdown)
	}
}

// shutdownReason is why the guest ended, once it has.
func (m *monitor) shutdownReason() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason
}

// handshake leaves QMP's negotiation mode; only then are events sent and commands taken. It does not
// wait for the reply.
func (m *monitor) handshake() error { return m.send("qmp_capabilities", 0, nil) }

func (m *monitor) send(command string, id int, arguments map[string]any) error {
	request := map[string]any{"execute": command, "id": id}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return nil
}

// execute runs one command and waits for its reply. It is not for concurrent use.
func (m *monitor) execute(ctx context.Context, command string, arguments map[string]any) error {
	m.id++
	if err := m.send(command, m.id, arguments); err != nil {
		return err
	}
	for {
		select {
		case r := <-m.replies:
			if r.ID != m.id {
				continue
			}
			if r.Error != nil {
				return fmt.Errorf("qmp %s: %s", command, r.Error.Desc)
			}
			return nil
		case <-m.finished:
			return fmt.Errorf("qmp %s: the emulator has gone", command)
		case <-ctx.Done():
			return fmt.Errorf("qmp %s: %w", command, ctx.Err())
		}
	}
}
