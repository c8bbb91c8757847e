package stage

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"cove/sandbox/memory"
	"cove/sandbox/network"
	"cove/sandbox/spec"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// unhurried is when that begins for which a start does not wait: most commands are over by then.
const unhurried = 10 * time.Millisecond

// sessions are the clients' sessions that are open, and the process groups of their commands.
type sessions struct {
	mu     sync.Mutex
	groups map[*session]struct{}
	seen   int // that the parent handed in
}

// serve starts the main command, where one came with the Setup, and answers the parent until it goes, or until the
// main session has ended. The calling thread, which is the process's first one, becomes the one that commands are forked from.
func (i *initStage) serve(main *spec.Start, files []*os.File) int {
	done := make(chan struct{})
	i.reaper = newReaper()
	i.spawner = &spawner{thread: unix.Getpid(), requests: make(chan spawnRequest), reaper: i.reaper}
	i.group.groups = map[*session]struct{}{}
	if main != nil {
		if err := i.first(main, files, done); err != nil {
			return 1
		}
	}
	go i.reaper.loop()
	memory.GiveBackSoon()
	spare(i.spec.Limits)
	_ = i.control.Poll()
	go i.listen(done)
	if i.watch != nil {
		// It waits in a system call. Until Go's runtime has noticed that, nobody else runs here (GOMAXPROCS is 1), and who would be late
		// is the one that follows the main command. What changes before is told then, and to a command that is over by then never.
		time.AfterFunc(unhurried, func() { i.watch.run(i.tellAll) })
	}
	i.spawner.run(done)
	if i.endAll != nil {
		i.endAll()
	}
	return 0
}

// listen reads the control socket.
func (i *initStage) listen(done chan struct{}) {
	for {
		var m spec.ToInit
		files, err := i.control.Recv(&m)
		if err != nil {
			if i.endAll != nil {
				i.endAll()
			}
			os.Exit(1) // the parent is gone: all of the namespace ends with PID 1
		}
		switch {
		case m.Session != nil && len(files) == 1:
			i.accept(files[0], m.Session, done)
		case m.Dial != nil:
			go i.dial(m.Dial)
		case m.Notice != "":
			i.tellAll(m.Notice)
		case m.Echo > 0:
			_ = i.control.Send(spec.FromInit{Echo: m.Echo})
		case m.Hold != nil:
			i.held.inTurn(func() { i.hold(m.Hold) })
		case m.Release:
			i.held.inTurn(i.release)
		case m.Stop != nil:
			i.signalAll(unix.Signal(m.Stop.Signal))
		default:
			closeFiles(files)
		}
	}
}

// first starts the main command. It is here already, and so is the thread that is to fork it: to pass it from thread
// to thread, as those that come later, would take longer than the fork.
func (i *initStage) first(start *spec.Start, files []*os.File, done chan struct{}) error {
	if len(files) == 0 {
		return errors.New("bug: no session came with the main command")
	}
	conn, err := connOf(files[0])
	if err != nil {
		return err
	}
	conn.Same()
	s := &session{init: i, conn: conn, main: true, spawn: i.spawner.now}
	i.group.groups[s] = struct{}{}
	follow := s.begin(start, files[1:])
	go func() {
		follow()
		i.group.mu.Lock()
		delete(i.group.groups, s)
		i.group.mu.Unlock()
		close(done)
	}()
	return nil
}

// connOf takes over a socket. The descriptor is duplicated, so that the os.File's own number can be given back at once.
func connOf(f *os.File) (*fdpass.Conn, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	f.Close()
	if err != nil {
		return nil, err
	}
	conn, err := fdpass.FromFD(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	_ = conn.Poll() // else it takes a thread, and works all the same
	return conn, nil
}

// accept serves a client's socket.
func (i *initStage) accept(f *os.File, what *spec.Session, done chan struct{}) {
	i.group.mu.Lock()
	i.group.seen++
	i.group.mu.Unlock()
	conn, err := connOf(f)
	if err != nil {
		i.count(nil, false) // there is one less to wait for
		return
	}
	if what.Same {
		conn.Same()
	}
	s := &session{init: i, conn: conn, main: what.Main, spawn: i.spawner.spawn}
	i.count(s, true)
	go func() {
		s.run()
		i.count(s, false)
		if what.Main {
			close(done)
		}
	}()
}

// count keeps the parent informed of how many sessions there are.
func (i *initStage) count(s *session, came bool) {
	i.group.mu.Lock()
	defer i.group.mu.Unlock()
	if came {
		i.group.groups[s] = struct{}{}
	} else {
		delete(i.group.groups, s)
	}
	_ = i.control.Send(spec.FromInit{Sessions: &spec.Sessions{Open: len(i.group.groups), Seen: i.group.seen}})
}

// tellAll sends a notice to every client.
func (i *initStage) tellAll(text string) {
	i.group.mu.Lock()
	defer i.group.mu.Unlock()
	for s := range i.group.groups {
		_ = s.conn.Send(spec.ToClient{Notice: text})
	}
}

func (i *initStage) signalAll(sig unix.Signal) {
	i.group.mu.Lock()
	defer i.group.mu.Unlock()
	for s := range i.group.groups {
		s.signal(sig)
	}
}

// dial connects to a port inside for the parent, which publishes it.
func (i *initStage) dial(d *spec.Dial) {
	answer := &spec.Dialed{Serial: d.Serial}
	f, err := network.Dial(d.Proto, d.Port)
	if err != nil {
		answer.Error = err.Error()
		_ = i.control.Send(spec.FromInit{Dialed: answer})
		return
	}
	defer f.Close()
	if err := i.control.Send(spec.FromInit{Dialed: answer}, f); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
