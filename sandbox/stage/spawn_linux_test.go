package stage

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stopped = syscall.WaitStatus(0x137f) // by SIGSTOP
	exited3 = syscall.WaitStatus(0x0300)
)

// A client that does not listen, as one that is itself stopped, must not keep PID 1 from reaping.
func TestReaperNeverWaitsForAClient(t *testing.T) {
	r := &reaper{watched: map[int]chan syscall.WaitStatus{}}
	events := make(chan syscall.WaitStatus, 16)
	r.watched[7] = events
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			r.tell(7, stopped)
		}
		r.tell(7, exited3)
		r.tell(7, exited3) // the number was given to an orphan meanwhile
		r.tell(8, exited3)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the reaper waits")
	}
	var last syscall.WaitStatus
	for ws := range events {
		last = ws
	}
	if !last.Exited() || last.ExitStatus() != 3 {
		t.Errorf("the last event is %#x", uint32(last))
	}
}

// Whoever was told that nobody is left inside must not find somebody there.
func TestReaperStartsNothingWhenClosed(t *testing.T) {
	r := newReaper()
	r.closed = true
	forked := false
	if _, _, err := r.start(func() (int, error) { forked = true; return 0, nil }); err == nil || forked {
		t.Errorf("forked %v, error %v", forked, err)
	}
	if r = newReaper(); r.closeIfAlone() {
		t.Error("alone, on a machine with more than one process")
	}
	if _, _, err := r.start(func() (int, error) { return 1, nil }); err != nil {
		t.Errorf("not closed: %v", err)
	}
}

func TestReaperTellsShortLives(t *testing.T) {
	r := newReaper()
	go r.loop()
	s := &spawner{requests: make(chan spawnRequest), reaper: r}
	over := make(chan struct{})
	defer close(over)
	go func() {
		runtime.LockOSThread() // never unlocked
		s.thread = unix.Gettid()
		s.run(over)
	}()
	for i := range 50 {
		attr := &syscall.ProcAttr{Env: []string{}, Files: []uintptr{0, 1, 2}}
		pid, events, err := s.spawn("/bin/sh", []string{"sh", "-c", "exit 9"}, attr)
		if err != nil {
			t.Fatal(err)
		}
		var last syscall.WaitStatus
		for ws := range events {
			last = ws
		}
		if !last.Exited() || last.ExitStatus() != 9 {
			t.Fatalf("child %d (%d) ended as %#x", i, pid, uint32(last))
		}
	}
	if _, _, err := s.spawn("/nonexistent", []string{"x"}, &syscall.ProcAttr{}); err != syscall.ENOENT {
		t.Errorf("error %v", err)
	}
	// No other thread forks, whoever calls.
	if _, _, err := s.now("/bin/true", []string{"true"}, &syscall.ProcAttr{}); err == nil {
		t.Error("forked on a thread that is not the spawner's")
	}
}

// The main command's end is told of when those of others that have ended by then are, and not much later where one is never.
func TestReaperAwaitsOthers(t *testing.T) {
	r := newReaper()
	begun := time.Now()
	r.awaitOthers()
	if took := time.Since(begun); took >= othersTime {
		t.Errorf("waited %v for nothing", took)
	}
	end := func(pid int) {
		r.watched[pid] = make(chan syscall.WaitStatus, 16)
		r.tell(pid, 0)
	}
	end(7) // the caller's own
	end(8)
	told := make(chan struct{})
	go func() {
		time.Sleep(othersTime / 4)
		close(told)
		r.told()
	}()
	r.awaitOthers()
	select {
	case <-told:
	default:
		t.Error("did not wait for another that had ended")
	}
	end(9)
	begun = time.Now()
	r.awaitOthers()
	if took := time.Since(begun); took < othersTime {
		t.Errorf("waited %v for one that is never told of", took)
	}
}
