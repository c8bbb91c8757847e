package console

import (
	"errors"
	"fmt"
	"os"
	"time"

	"cove/sandbox/memory"
	"cove/sandbox/signals"
	"cove/sandbox/spec"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Stdio is the caller's side of a command.
type Stdio struct {
	In, Out, Err *os.File
	TTY          bool // give the command a pty; In and Out are terminals
}

// UseTTY reports whether a command should get a pty: when both in and out are terminals.
func UseTTY(in, out *os.File) bool {
	return in != nil && out != nil && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
}

// ErrLost says that the sandbox went away before the command's end was known.
var ErrLost = errors.New("the sandbox ended before its command did")

// ErrNotStarted is an ErrLost of a command that has not run at all.
var ErrNotStarted = fmt.Errorf("%w, and before it was started", ErrLost)

// forwarded are the signals that are passed on to the command.
var forwarded = []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCONT}

// Session is a command as its client sees it.
type Session struct {
	conn     *fdpass.Conn
	io       Stdio
	incoming chan os.Signal
	master   *os.File // of the pty, with a terminal
	typing   *typing  // likewise; nil before
	relay    relays
	saved    *term.State // the terminal's state before it was made raw
	said     chan string // see Say
}

// New begins to take the caller's signals, for a command that is to be started next. Close gives them back.
func New(stdio Stdio) *Session {
	s := &Session{io: stdio, incoming: make(chan os.Signal, 32), said: make(chan string, 16)}
	signals.Notify(s.incoming, forwarded...)
	return s
}

// Close ends it, and puts the terminal back. It may be called twice.
func (s *Session) Close() {
	s.relay.handedOver()
	s.typing.end()
	s.typing = nil
	s.restore()
	signals.Stop(s.incoming)
}

// Start is what init is to be told of the command, but for the process, and the descriptors to send with it. HandedOver
// is to be called when they were.
func (s *Session) Start() (*spec.Start, []*os.File, error) {
	start := &spec.Start{TTY: s.io.TTY}
	if !s.io.TTY {
		files, err := s.relay.prepare(s.io)
		return start, files, err
	}
	if ws, err := unix.IoctlGetWinsize(int(s.io.Out.Fd()), unix.TIOCGWINSZ); err == nil {
		start.Rows, start.Cols = ws.Row, ws.Col
	}
	return start, nil, nil
}

// Say tells the caller something beside what the command prints, as a notice of init's. What was said before the command ended is told; of
// a flood there may be parts.
func (s *Session) Say(text string) {
	select {
	case s.said <- text:
	default:
	}
}

// HandedOver closes the command's own descriptors here.
func (s *Session) HandedOver() { s.relay.handedOver() }

// Run starts a command, by its Process or its Changes, over conn and returns how it ended. The caller's terminal is put back
// before it returns. A sandbox that goes away meanwhile is ErrLost.
func Run(conn *fdpass.Conn, command spec.Start, stdio Stdio) (*spec.Exited, error) {
	s := New(stdio)
	defer s.Close()
	start, files, err := s.Start()
	if err != nil {
		return nil, err
	}
	start.Process, start.Changes = command.Process, command.Changes
	if err := conn.Send(spec.FromClient{Start: start}, files...); err != nil {
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			err = ErrNotStarted
		}
		return nil, fmt.Errorf("start the command: %w", err)
	}
	s.HandedOver()
	return s.Follow(conn)
}

// Follow relays for a command that was started over conn, and returns how it ended.
func (s *Session) Follow(conn *fdpass.Conn) (*spec.Exited, error) {
	s.conn = conn
	defer s.Close()
	_ = conn.Poll()
	began := false
	messages := make(chan toClient, 4)
	go s.listen(messages)
	if s.io.TTY {
		signals.Notify(s.incoming, unix.SIGWINCH)
	}
	for {
		select {
		case m, ok := <-messages:
			switch {
			case !ok:
				s.relay.drain() // what the command wrote before
				if !began {
					return nil, ErrNotStarted
				}
				return nil, ErrLost
			case m.Taken:
				began = true
			case m.Started != nil:
				began = true
				s.master = m.master
				if err := s.started(); err != nil {
					return nil, err
				}
				memory.GiveBackSoon()
			case m.Stopped:
				s.stop()
			case m.Notice != "":
				s.notice(m.Notice)
			case m.Exited != nil:
				s.relay.drain()
				for len(s.said) > 0 {
					s.notice(<-s.said)
				}
				return s.relay.result(m.Exited), nil
			}
		case text := <-s.said:
			s.notice(text)
		case sig := <-s.incoming:
			s.signal(sig.(unix.Signal))
		}
	}
}

type toClient struct {
	spec.ToClient
	master *os.File // comes with Started
}

func (s *Session) listen(messages chan<- toClient) {
	defer close(messages)
	for {
		var m toClient
		files, err := s.conn.Recv(&m.ToClient)
		if err != nil {
			return
		}
		if m.Started != nil && len(files) == 1 {
			m.master, files = files[0], nil
		}
		for _, f := range files {
			f.Close()
		}
		messages <- m
	}
}

// started makes the terminal raw and relays between it and the pty.
func (s *Session) started() error {
	if !s.io.TTY {
		s.relay.start()
		return nil
	}
	if s.master == nil {
		return errors.New("bug: no terminal came with the command")
	}
	if err := s.raw(); err != nil {
		return err
	}
	s.relay.copy("", s.io.Out, s.master)
	var err error
	s.typing, err = startTyping(s.master, s.io.In)
	return err
}

func (s *Session) raw() error {
	old, err := term.MakeRaw(int(s.io.In.Fd()))
	if err != nil {
		return fmt.Errorf("make the terminal raw: %w", err)
	}
	if s.saved == nil {
		s.saved = old
	}
	return nil
}

func (s *Session) restore() {
	if s.saved != nil {
		_ = term.Restore(int(s.io.In.Fd()), s.saved)
	}
}

func (s *Session) signal(sig unix.Signal) {
	if sig == unix.SIGWINCH {
		if ws, err := unix.IoctlGetWinsize(int(s.io.Out.Fd()), unix.TIOCGWINSZ); err == nil && s.master != nil {
			_ = unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, ws)
		}
		return
	}
	_ = s.conn.Send(spec.FromClient{Signal: int(sig)})
}

// notice prints a line for the caller, on a terminal that may be raw.
func (s *Session) notice(text string) {
	if s.io.Err == nil {
		return
	}
	end := "\n"
	if s.saved != nil {
		end = "\r\n"
	}
	fmt.Fprintf(s.io.Err, "cove: %s%s", text, end)
}

// stop is what follows when the command was stopped, by ^Z or by a signal: the terminal goes back
// to the caller's shell, this process stops as its whole job does, and when it goes on, so does
// the command. In an orphaned process group the kernel drops SIGTSTP, and all goes on at once.
func (s *Session) stop() {
	s.restore()
	signals.WithDefault(unix.SIGTSTP, func() {
		_ = unix.Kill(0, unix.SIGTSTP)
		// A signal to a process is taken by any of its threads, not always before kill returns.
		time.Sleep(20 * time.Millisecond)
	})
	if s.io.TTY {
		_ = s.raw()
		s.signal(unix.SIGWINCH) // the window may have changed meanwhile
	}
	s.signal(unix.SIGCONT)
}
