package stage

import (
	"errors"
	"runtime"
	"sync"
	"syscall"
	"time"

	"cove/sandbox/signals"

	"golang.org/x/sys/unix"
)

// spawner forks on the one thread that gave up its rights. Requests come from the sessions.
type spawner struct {
	thread   int // its id (gettid(2))
	requests chan spawnRequest
	reaper   *reaper
	gate     sync.RWMutex // locked while nothing new is to run
}

type spawnRequest struct {
	path  string
	argv  []string
	attr  *syscall.ProcAttr
	reply chan spawnReply
}

type spawnReply struct {
	pid    int
	events <-chan syscall.WaitStatus
	err    error
}

// spawn starts a program. events yields its wait statuses: stops, and last its end.
func (s *spawner) spawn(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	reply := make(chan spawnReply, 1)
	s.requests <- spawnRequest{path, argv, attr, reply}
	r := <-reply
	return r.pid, r.events, r.err
}

// now is spawn for who is on the thread already, before run.
func (s *spawner) now(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	if unix.Gettid() != s.thread {
		return 0, nil, errors.New("bug: not the thread that has given up what commands must not have")
	}
	signals.Unblock()
	return s.reaper.start(func() (int, error) { return syscall.ForkExec(path, argv, attr) })
}

// run serves requests until done is closed. The caller is locked to the thread.
func (s *spawner) run(done <-chan struct{}) {
	for {
		select {
		case q := <-s.requests:
			pid, events, err := s.now(q.path, q.argv, q.attr)
			q.reply <- spawnReply{pid, events, err}
		case <-done:
			return
		}
	}
}

// reaper waits for every child that PID 1 has or inherits, and tells those who started one.
type reaper struct {
	mu       sync.Mutex
	children sync.Cond // signalled when a child was started
	watched  map[int]chan syscall.WaitStatus
	started  uint64
	untold   int  // that have ended and whose sessions have not said so
	closed   bool // nothing is started any more
	quiet    bool // stops are none of the commands' own
}

func newReaper() *reaper {
	r := &reaper{watched: map[int]chan syscall.WaitStatus{}}
	r.children.L = &r.mu
	return r
}

// start forks and registers in one step, so that the end of a short child is not missed.
func (r *reaper) start(fork func() (int, error)) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, nil, errors.New("the sandbox is ending")
	}
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	events := make(chan syscall.WaitStatus, 16)
	r.watched[pid] = events
	r.started++
	r.children.Signal()
	return pid, events, nil
}

// closeIfAlone reports whether there is no process in the pid namespace but this one, not even one that has ended and is
// still to be reaped, and then lets nobody start another.
func (r *reaper) closeIfAlone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	// -1 is every process that there is but the caller and PID 1, who are one here (kill(2)); 0 sends them nothing.
	r.closed = r.closed || syscall.Kill(-1, 0) == syscall.ESRCH
	return r.closed
}

// told is for a session that has said how its command ended, or has nothing to say of it.
func (r *reaper) told() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.untold--
}

// awaitOthers waits until there is nothing that has ended and is not reaped and told of, but for the caller's own command.
func (r *reaper) awaitOthers() {
	for deadline := time.Now().Add(othersTime); r.othersPending() && time.Now().Before(deadline); {
		time.Sleep(50 * time.Microsecond)
	}
}

// othersTime bounds that: some messages, or what something inside starts and ends all the time.
const othersTime = 100 * time.Millisecond

func (r *reaper) othersPending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.untold > 1 || changed(unix.WEXITED|unix.WNOHANG) == nil
}

// changed waits for a change of a child's state, of the kinds that options say (waitid(2)), and leaves it to be waited for. ECHILD: there
// is no child; EAGAIN: there is no change.
func changed(options int) error {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, options|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && info.Signo == 0:
			return unix.EAGAIN
		}
		return err
	}
}

func (r *reaper) loop() {
	for {
		r.mu.Lock()
		seen := r.started
		r.mu.Unlock()
		err := changed(unix.WEXITED | unix.WSTOPPED)
		r.mu.Lock()
		// No child means no descendant either: the next can only come from a start.
		for err == unix.ECHILD && r.started == seen {
			r.children.Wait()
		}
		if err == nil {
			r.reap()
		}
		r.mu.Unlock()
		// Who was told of an end tells the client now. The next change is waited for in a system call, in which Go's one processor
		// (GOMAXPROCS is 1) is lost to everybody else until the runtime has looked after it.
		runtime.Gosched()
	}
}

// reap takes one change, and what it means is known at once: who asks in between finds it in one place or the other.
func (r *reaper) reap() {
	var ws syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &ws, syscall.WUNTRACED|syscall.WNOHANG, nil)
	if err == nil && pid > 0 {
		r.tell(pid, ws)
	}
}

// tell hands it to whoever started that child.
func (r *reaper) tell(pid int, ws syscall.WaitStatus) {
	events := r.watched[pid]
	if r.quiet && ws.Stopped() {
		events = nil
	}
	ended := ws.Exited() || ws.Signaled()
	if ended {
		delete(r.watched, pid)
	}
	if events == nil {
		return // an orphan
	}
	if ended {
		r.untold++
	}
	for {
		select {
		case events <- ws:
			if ended {
				close(events)
			}
			return
		default:
			// A command that stops faster than its client listens, or whose client listens no more,
			// must not keep this loop from the others' ends: its oldest stop is forgotten.
			select {
			case <-events:
			default:
			}
		}
	}
}
