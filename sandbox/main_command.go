package sandbox

import (
	"os"

	"cove/sandbox/console"
	"cove/sandbox/spec"
	"cove/userns/fdpass"
)

// mainCommand is the command whose end ends the sandbox. What it takes to start it is made before the sandbox, so that
// it can be handed to init together with the Spec.
type mainCommand struct {
	session *console.Session
	conn    *fdpass.Conn
	theirs  *os.File // the session's other end
	start   *spec.Start
	files   []*os.File // that go with start
	handed  bool       // init has them
}

func newMain(o Options) (*mainCommand, error) {
	m := &mainCommand{session: console.New(console.Stdio{In: o.Stdin, Out: o.Stdout, Err: o.Stderr, TTY: console.UseTTY(o.Stdin, o.Stdout)})}
	var err error
	if m.start, m.files, err = m.session.Start(); err == nil {
		m.conn, m.theirs, err = fdpass.Pair()
	}
	if err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// handOver is called when init has got the command together with the Spec.
func (m *mainCommand) handOver() {
	m.handed = true
	m.conn.Same()
	m.sent()
}

func (m *mainCommand) sent() {
	m.theirs.Close()
	m.session.HandedOver()
}

// run follows the command until it has ended, and starts it before where that is still to be done.
func (m *mainCommand) run(b *box) (*spec.Exited, error) {
	if !m.handed {
		if err := b.control.session(m.theirs, spec.Session{Main: true}); err != nil {
			return nil, err
		}
		m.start.Process = b.spec.Process
		err := m.conn.Send(spec.FromClient{Start: m.start}, m.files...)
		m.sent()
		if err != nil {
			return nil, err
		}
	}
	return m.session.Follow(m.conn)
}

func (m *mainCommand) close() {
	m.session.Close()
	if m.conn != nil {
		m.conn.Close()
		m.theirs.Close()
	}
}
