package stage

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"cove/sandbox/spec"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// session is one client's command.
type session struct {
	init  *initStage
	conn  *fdpass.Conn
	main  bool // with its end the sandbox's begins
	spawn func(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error)

	mu    sync.Mutex
	pid   int  // the command, or its leader with a terminal; 0 when there is none
	group bool // pid leads a process group of its own, to which signals go
}

// run serves the client until the command has ended or the client is gone.
func (s *session) run() {
	var m spec.FromClient
	files, err := s.conn.Recv(&m)
	if err != nil || m.Start == nil {
		closeFiles(files)
		s.conn.Close()
		return
	}
	// Who loses the sandbox before this may ask another one to start it.
	_ = s.conn.Send(spec.ToClient{Taken: true})
	if c := m.Start.Changes; c != nil {
		m.Start.Process = s.init.spec.Process.With(c)
	}
	s.begin(m.Start, files)()
}

// begin starts the command and tells the client; follow tells the rest, and ends when the command has.
func (s *session) begin(start *spec.Start, files []*os.File) (follow func()) {
	events, master, err := s.start(start, files)
	closeFiles(files)
	if err != nil {
		return func() {
			_ = s.conn.Send(spec.ToClient{Exited: exitedBecause(err)})
			s.conn.Close()
		}
	}
	return func() {
		defer s.conn.Close()
		s.follow(events, master)
	}
}

// follow tells the client of the command until that has ended.
func (s *session) follow(events <-chan syscall.WaitStatus, master *os.File) {
	var err error
	if master != nil {
		err = s.conn.Send(spec.ToClient{Started: &spec.Started{}}, master)
		master.Close()
	} else {
		err = s.conn.Send(spec.ToClient{Started: &spec.Started{}})
	}
	if err != nil {
		s.signal(unix.SIGKILL)
	}
	go s.listen()
	for ws := range events {
		switch {
		case ws.Exited():
			s.tellEnd(&spec.Exited{Code: ws.ExitStatus()})
		case ws.Signaled():
			s.tellEnd(&spec.Exited{Signal: int(ws.Signal())})
		case ws.Stopped():
			_ = s.conn.Send(spec.ToClient{Stopped: true})
		}
	}
}

// tellEnd tells the client how the command ended. The main one's end is told of last: with it the others lose their commands. Where
// nobody is left init ends, too, at once: its end takes the mounts apart, which the parent's undoing has to wait for. With a
// control group it waits to be killed: the group goes with its last process, and what its counters say is still to be read.
func (s *session) tellEnd(e *spec.Exited) {
	s.ended()
	if s.main {
		s.init.reaper.awaitOthers()
	}
	e.Last = s.last()
	_ = s.conn.Send(spec.ToClient{Exited: e})
	s.init.reaper.told()
	switch {
	case !e.Last:
	case s.init.spec.Limits.Cgroup == "":
		os.Exit(0)
	default:
		select {}
	}
}

// listen takes the client's signals. A client that is gone loses its command.
func (s *session) listen() {
	for {
		var m spec.FromClient
		files, err := s.conn.Recv(&m)
		closeFiles(files)
		if err != nil {
			s.signal(unix.SIGKILL)
			return
		}
		if m.Signal > 0 {
			s.signal(unix.Signal(m.Signal))
		}
	}
}

// signal sends sig to the command: to its process group, or to the leader that passes it on.
func (s *session) signal(sig unix.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.pid == 0:
	case s.group:
		_ = unix.Kill(-s.pid, sig)
	default:
		_ = unix.Kill(s.pid, sig)
	}
}

// last reports whether nobody is left inside after this session's command, nor will be.
func (s *session) last() bool {
	return s.main && s.init.endAll == nil && s.init.reaper.closeIfAlone()
}

// ended forgets the process id, which the kernel may give to another from now on.
func (s *session) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = 0
}

// start forks the command. With a terminal it returns the pty's master.
func (s *session) start(st *spec.Start, files []*os.File) (<-chan syscall.WaitStatus, *os.File, error) {
	c, err := prepare(&st.Process, s.init.spec)
	if err != nil {
		return nil, nil, err
	}
	if st.TTY {
		return s.startTTY(c, st)
	}
	if len(files) != 3 {
		return nil, nil, fmt.Errorf("bug: %d descriptors came with a command", len(files))
	}
	attr := c.attr()
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	attr.Sys.Setpgid = true
	s.mu.Lock()
	defer s.mu.Unlock()
	var pid int
	var events <-chan syscall.WaitStatus
	fork := func(path string, argv []string, attr *syscall.ProcAttr) (err error) {
		pid, events, err = s.spawn(path, argv, attr)
		return err
	}
	var startErr error
	if s.init.confine != nil {
		attr.Sys.Pdeathsig = unix.SIGKILL
		startErr = s.init.confine.start(c.start(), attr, fork)
	} else {
		startErr = fork(c.path, c.argv, attr)
	}
	if startErr != nil {
		if events != nil {
			go func() {
				for range events { // the end of what did not become the command
				}
				s.init.reaper.told()
			}()
		}
		return nil, nil, c.execError(startErr)
	}
	s.pid, s.group = pid, true
	return events, nil, nil
}

// startTTY opens a pty of the sandbox's own and starts the command under a leader of a session on it.
func (s *session) startTTY(c *command, st *spec.Start) (<-chan syscall.WaitStatus, *os.File, error) {
	master, slave, err := openPTY(c.uid, st.Rows, st.Cols, s.init.spec.IDMap)
	if err != nil {
		return nil, nil, fmt.Errorf("open a pty: %w", err)
	}
	defer slave.Close()
	conn, theirs, err := fdpass.Pair()
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	defer conn.Close()
	attr := c.attr()
	attr.Files = []uintptr{slave.Fd(), slave.Fd(), slave.Fd(), theirs.Fd()}
	confine := s.init.confine
	if confine != nil {
		attr.Files = append(attr.Files, confine.rules.Fd())
	}
	attr.Env = []string{"GOMAXPROCS=1"} // it waits, most of the time
	attr.Sys.Setsid, attr.Sys.Setctty, attr.Sys.Ctty = true, true, 0
	s.mu.Lock()
	pid, events, err := s.spawn("/proc/self/exe", []string{LeaderName}, attr)
	if err == nil {
		s.pid = pid
	}
	s.mu.Unlock()
	theirs.Close()
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("start %s as uid %d (cove's own file must be executable for everyone, and the working directory %q open to that user): %w", LeaderName, c.uid, c.cwd, err)
	}
	if err := c.handToLeader(conn, confine); err != nil {
		master.Close()
		s.signal(unix.SIGKILL)
		// Not here: the first command is started before anybody reaps.
		go func() {
			for range events {
			}
			s.ended()
			s.init.reaper.told()
		}()
		return nil, nil, err
	}
	return events, master, nil
}

// An execError says that a command was not found or cannot be run, with the exit code for it.
type execError struct {
	code int
	err  error
}

func (e *execError) Error() string { return e.err.Error() }
func (e *execError) Unwrap() error { return e.err }

func exitedBecause(err error) *spec.Exited {
	var e *execError
	if errors.As(err, &e) {
		return &spec.Exited{Code: e.code, Text: err.Error()}
	}
	return &spec.Exited{Code: codeFailed, Text: err.Error()}
}

// The exit codes of what never ran, as env(1) and the container engines have them.
const (
	codeFailed      = 125
	codeNotRunnable = 126
	codeNotFound    = 127
)
