package stage

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// utimensatFD is futimens(3), which x/sys/unix lacks: utimensat(2) with a NULL path.
func utimensatFD(fd int, ts [2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
