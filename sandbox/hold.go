package sandbox

import (
	"errors"
	"fmt"
	"time"

	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"
)

// heldRoot is a sandbox's root file system, for another cove that reads it.
type heldRoot struct {
	Root    spec.Root     `json:"root"`
	Key     string        `json:"key"` // of its image's layers
	IDMap   userns.IDMap  `json:"idmap"`
	Argv    []spec.Arg    `json:"argv"`
	Placed  []spec.Placed `json:"placed,omitempty"`
	Running int           `json:"running,omitempty"`
	Error   string        `json:"error,omitempty"`
}

func (b *box) heldRoot() heldRoot {
	h := heldRoot{Root: b.spec.Root, IDMap: b.spec.IDMap, Argv: b.spec.Process.Argv}
	if b.opts.Image != nil {
		h.Key = b.opts.Image.Key
	}
	if b.persisted != nil {
		h.Placed = readPlaced(b.persisted.Dir)
	}
	if b.prepared != nil {
		h.Placed = readPlaced(b.prepared.Dir)
	}
	return h
}

// holdAnswer bounds the wait for init, which stops what runs meanwhile.
const holdAnswer = 15 * time.Second

// hold has init leave the root file system alone, tells the other cove of it, and lets everything go on when that one
// closes the connection, for whatever reason.
func (c *control) hold(conn *fdpass.Conn, h *spec.Hold) {
	defer conn.Close()
	c.holds.Lock()
	defer c.holds.Unlock()
	if c.root == nil {
		return
	}
	answer := c.root()
	if answer.Root.Kind == spec.RootHost {
		_ = conn.Send(answer) // there is nothing to read, and nobody is stopped for it
		return
	}
	select {
	case <-c.held: // of one that nobody waited for any more
	default:
	}
	if c.conn.Send(spec.ToInit{Hold: h}) != nil {
		return
	}
	defer func() { _ = c.conn.Send(spec.ToInit{Release: true}) }()
	select {
	case held := <-c.held:
		answer.Placed, answer.Running = append(answer.Placed, held.Placed...), held.Running
	case <-time.After(holdAnswer):
		answer.Error = "init does not answer"
	}
	if conn.Send(answer) != nil {
		return
	}
	var nothing struct{}
	_, _ = conn.Recv(&nothing)
}

// Held is a running sandbox's root file system, which stays as it is until Release.
type Held struct {
	ID, Name string
	heldRoot
	conn *fdpass.Conn
}

// Hold finds a running sandbox and has it leave its root file system alone, with all its processes stopped if pause
// says so. Should this process die, it goes on.
func Hold(runtimeDir, name string, pause bool) (*Held, error) {
	dir, r, err := find(runtimeDir, name)
	if err != nil {
		return nil, err
	}
	conn, err := dialSocket(dir)
	if err != nil {
		return nil, err
	}
	h := &Held{ID: r.ID, Name: r.Name, conn: conn}
	err = conn.Send(request{Hold: &spec.Hold{Pause: pause}})
	if err == nil {
		_, err = conn.Recv(&h.heldRoot)
	}
	if err == nil && h.Error != "" {
		err = errors.New(h.Error)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("hold sandbox %q: %w", r.Name, err)
	}
	return h, nil
}

// Release lets the sandbox go on.
func (h *Held) Release() error { return h.conn.Close() }
