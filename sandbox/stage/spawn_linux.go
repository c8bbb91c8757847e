package stage

import (
	"errors"
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

// told is for a session that has said how its command ended.
func (r *reaper) told() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.untold--
}

// settle waits until what has ended by now is reaped, and told of, but for the caller's own command.
func (r *reaper) settle() {
	for deadline := time.Now().Add(settleTime); r.unsettled() && time.Now().Before(deadline); {
		time.Sleep(50 * time.Microsecond)
	}
}

// settleTime bounds that: some messages.
const settleTime = time.Second

func (r *reaper) unsettled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.untold > 1 {
		return true
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	// Of none, the structure is left without a signal (waitid(2)).
	return err == nil && info.Signo != 0
}

func (r *reaper) loop() {
	for {
		r.mu.Lock()
		seen := r.started
		r.mu.Unlock()
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.ECHILD:
			// No child means no descendant either: the next can only come from a start.
			r.mu.Lock()
			for r.started == seen {
				r.children.Wait()
			}
			r.mu.Unlock()
		case err == nil:
			r.tell(pid, ws)
		}
	}
}

func (r *reaper) tell(pid int, ws syscall.WaitStatus) {
	r.mu.Lock()
	events := r.watched[pid]
	if r.quiet && ws.Stopped() {
		events = nil
	}
	ended := ws.Exited() || ws.Signaled()
	if ended {
		delete(r.watched, pid)
	}
	if ended && events != nil {
		r.untold++
	}
	r.mu.Unlock()
	if events == nil {
		return // an orphan
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
