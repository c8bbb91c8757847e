//go:build amd64 || arm64

package signals

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/signal"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Notify passes each of these signals, of the numbers 1 to 31, that comes to this process on to c, when there is room in it, until Stop(c). Several
// may wait for one signal: each gets it. What the caller was told to ignore (nohup(1), a job of a plain shell) stays ignored.
//
// It does what package os/signal does, which takes two turns between threads for each signal, to begin and to end: of a
// short run's time that was a twentieth. Here the kernel calls a handler that writes the signal's number into a pipe
// (rt_sigaction(2), signal-safety(7)). It is left to os/signal where a signal was blocked when this process began, which that
// package undoes in a thread of its own, and where there is no pipe to be had. The two do not go together for one signal.
func Notify(c chan<- os.Signal, sigs ...unix.Signal) {
	blocked := blockedHere()
	if !piped() {
		blocked = ^uint64(0) // all are for os/signal
	}
	table.Lock()
	defer table.Unlock()
	for _, sig := range sigs {
		switch bit := uint64(1) << (uint(sig) - 1); {
		case Ignored(sig):
		case blocked&bit != 0:
			signal.Notify(c, sig)
		case table.wanted[c]&bit == 0:
			if table.wanted == nil {
				table.wanted = make(map[chan<- os.Signal]uint64)
			}
			table.wanted[c] |= bit
			table.listeners[sig]++
			if table.listeners[sig] == 1 {
				table.before[sig] = handle(sig)
			}
		}
	}
}

// Stop ends what Notify began. A signal that nobody else waits for does again what it did before; one that has come and was not handed
// on yet is lost.
func Stop(c chan<- os.Signal) {
	signal.Stop(c)
	table.Lock()
	defer table.Unlock()
	for sig := unix.Signal(1); sig <= unix.SIGSYS; sig++ {
		if table.wanted[c]&(1<<(uint(sig)-1)) == 0 {
			continue
		}
		table.listeners[sig]--
		if table.listeners[sig] == 0 {
			setAction(sig, table.before[sig])
		}
	}
	delete(table.wanted, c)
}

// Context is a context that one of these signals ends. The function frees what it takes.
func Context(parent context.Context, sigs ...unix.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	c := make(chan os.Signal, 1)
	Notify(c, sigs...)
	go func() {
		select {
		case <-c:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		Stop(c)
		cancel()
	}
}

// Ignored reports whether this process ignores a signal.
func Ignored(sig unix.Signal) bool {
	return action(sig).handler == sigIgnore
}

// table is who waits for what. Signal numbers begin at 1.
var table struct {
	sync.Mutex
	wanted    map[chan<- os.Signal]uint64 // bit n-1 for signal n
	listeners [unix.SIGSYS + 1]int
	before    [unix.SIGSYS + 1]sigaction
}

// deliverTo is the descriptor that deliver writes to; 0 before there is one.
var deliverTo int32

// deliverPC is the address of deliver, which is written in assembly: the kernel calls it as it calls C.
var deliverPC uintptr

// piped reports whether there is a pipe. It is made once for all, and read from then on.
func piped() bool {
	makePipe.Do(func() {
		var ends [2]int
		if unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
			return
		}
		deliverTo = int32(ends[1])
		go distribute(os.NewFile(uintptr(ends[0]), "signals"), ends[0])
	})
	return deliverTo > 0
}

var makePipe sync.Once

// distribute hands on what comes through the pipe, of this descriptor, as long as this process lives.
func distribute(pipe *os.File, fd int) {
	numbers := make([]byte, 256)
	for {
		n, err := pipe.Read(numbers)
		switch {
		case errors.Is(err, unix.EAGAIN):
			// The user has no epoll watch left (epoll_ctl(2), ENOSPC), and Go's runtime does not wait for it: then a thread does.
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		case err != nil:
			return // the other end is never closed
		}
		for b := numbers[:n]; len(b) >= 4; b = b[4:] {
			hand(unix.Signal(binary.NativeEndian.Uint32(b)))
		}
	}
}

func hand(sig unix.Signal) {
	table.Lock()
	defer table.Unlock()
	for c, wanted := range table.wanted {
		if wanted&(1<<(uint(sig)-1)) == 0 {
			continue
		}
		select {
		case c <- sig:
		default:
		}
	}
}

// handle lets deliver handle a signal, and returns what was done at it before. A child has it too, until its exec: what comes
// to it in that time (SIGTSTP and SIGCONT, the others get their default action before) comes here.
func handle(sig unix.Signal) (before sigaction) {
	ours := runtimes()
	ours.handler = deliverPC
	return swapAction(sig, ours)
}

// blockedHere is the calling thread's signal mask, which all threads have from the one that the process began with.
func blockedHere() (mask uint64) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, 0, uintptr(unsafe.Pointer(&mask)), 8, 0, 0)
	return mask
}
