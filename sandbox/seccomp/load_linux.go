package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoFilters says that the kernel was built without CONFIG_SECCOMP_FILTER.
var ErrNoFilters = errors.New("this kernel has no system call filters (CONFIG_SECCOMP_FILTER)")

// Load puts all threads of this process, and whatever they fork and exec, under a program for ever. It needs no_new_privs
// or CAP_SYS_ADMIN in the own user namespace. program is what Bytes gave.
func Load(program []byte) error { return load(program, unix.SECCOMP_FILTER_FLAG_TSYNC) }

// LoadThread is Load for the calling thread alone, and what it forks.
func LoadThread(program []byte) error { return load(program, 0) }

func load(program []byte, flags uintptr) error {
	if len(program) == 0 || len(program)%8 != 0 {
		return fmt.Errorf("%d bytes are no program", len(program))
	}
	filter := make([]unix.SockFilter, len(program)/8)
	for i := range filter {
		b := program[8*i:]
		filter[i] = unix.SockFilter{Code: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:])}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Without SPEC_ALLOW kernels before 5.16 slow the whole sandbox down, against what only matters to a program that runs
	// hostile code within its own process; runc does the same.
	flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL:
		return fmt.Errorf("%w: %w", ErrNoFilters, errno)
	case errno != 0:
		return errno
	case thread != 0:
		return fmt.Errorf("thread %d has another filter", thread)
	}
	return nil
}
