package stage

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
)

// defaultIgnored gives every signal that is ignored its default action.
func defaultIgnored() {
	for sig := uintptr(1); sig <= lastSignal; sig++ {
		var old sigaction
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&old)), 8, 0, 0)
		if errno != 0 || old.handler != sigIgnore {
			continue
		}
		def := sigaction{handler: sigDefault}
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&def)), 0, 8, 0, 0)
	}
}

// unblockSignals empties the calling thread's signal mask: a fork hands it to the child.
func unblockSignals() {
	var none uint64
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
}

// withBlocked runs f with one signal blocked in this thread.
func withBlocked(sig unix.Signal, f func()) {
	mask, old := uint64(1)<<(uint(sig)-1), uint64(0)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&mask)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	f()
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
}
