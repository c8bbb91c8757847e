// Package signals sets what package os/signal cannot: default actions and masks of single threads, and waits for signals
// faster, by the kernel's own calls (rt_sigaction(2), rt_sigprocmask(2)).
package signals

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is struct sigaction of the kernel, not of libc (rt_sigaction(2)). It is the same on
// the 64-bit architectures that cove builds for.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	sigDefault = 0
	sigIgnore  = 1
	lastSignal = 64

	firstRealTime = 32 // of the kernel; libc keeps two for itself
)

func action(sig unix.Signal) (a sigaction) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&a)), 8, 0, 0)
	return a
}

func setAction(sig unix.Signal, a sigaction) { swapAction(sig, a) }

func swapAction(sig unix.Signal, a sigaction) (before sigaction) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	return before
}

// runtimes is what Go's runtime does at a signal that it lives by: for its flags, among them SA_ONSTACK, its mask of all
// signals, and its way back from a handler.
func runtimes() sigaction { return action(unix.SIGURG) }

// DefaultIgnored gives every signal that is ignored its default action.
func DefaultIgnored() {
	for sig := unix.Signal(1); sig <= lastSignal; sig++ {
		if action(sig).handler == sigIgnore {
			setAction(sig, sigaction{handler: sigDefault})
		}
	}
}

// IgnoreHandled makes this process ignore what Go's runtime has handlers for, so that nobody who may
// send it signals can end it. What it forks is not affected: the runtime gives every signal that
// it once had a handler for its default action there. Left alone are the signals that the runtime
// itself lives by, and the real-time ones, which it uses to reach all threads. A fault of its own
// (SIGSEGV and its like) ends it still: the kernel kills who ignores one (signal(7)).
//
// The real-time signals that the runtime leaves to libc, and which nobody handles here, get a handler that passes over
// them. PID 1 is safe from a signal without a handler only while its first thread does not block it: else
// another thread is chosen, and that the whole process is not to be killed is not looked at any more (complete_signal in
// kernel/signal.c). The first thread blocks all signals while it forks. To ignore them would be inherited by commands.
func IgnoreHandled() {
	handleUnused()
	for sig := unix.Signal(1); sig <= unix.SIGSYS; sig++ {
		switch sig {
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPROF, unix.SIGPIPE:
			continue
		}
		if now := action(sig).handler; now != sigDefault && now != sigIgnore {
			setAction(sig, sigaction{handler: sigIgnore})
		}
	}
}

// handleUnused handles, by doing nothing, the real-time signals that have no handler. The runtime's own does not do: it
// ends the process at a signal that it was not set up for.
func handleUnused() {
	f := nothing
	ours := runtimes()
	ours.handler = **(**uintptr)(unsafe.Pointer(&f))
	for sig := unix.Signal(firstRealTime); sig <= lastSignal; sig++ {
		if action(sig).handler == sigDefault {
			setAction(sig, ours)
		}
	}
}

// nothing is called by the kernel, with nothing of Go's in place: it must be no more than a return.
//
//go:nosplit
//go:norace
//go:noinline
func nothing() {}

// Unblock empties the calling thread's signal mask: a fork hands it to the child.
func Unblock() {
	var none uint64
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
}

// WithDefault runs f while sig has its default action. It is for what os/signal does not do:
// after a Reset Go's own handler stays, which for SIGTSTP does nothing.
func WithDefault(sig unix.Signal, f func()) {
	before := swapAction(sig, sigaction{handler: sigDefault})
	f()
	setAction(sig, before)
}

// WithBlocked runs f with one signal blocked in this thread.
func WithBlocked(sig unix.Signal, f func()) {
	mask, old := uint64(1)<<(uint(sig)-1), uint64(0)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&mask)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	f()
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
}
