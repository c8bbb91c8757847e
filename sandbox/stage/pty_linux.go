package stage

import (
	"os"

	"cove/userns"

	"golang.org/x/sys/unix"
)

// openPTY opens a pty in the sandbox's own devpts, its slave owned by uid and the group tty.
func openPTY(uid uint32, rows, cols uint16, m userns.IDMap) (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("open /dev/ptmx", err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, nil, os.NewSyscallError("unlock pty", err)
	}
	// TIOCGPTPEER opens the other side without a path, which an image could have put something at (ioctl_tty(2), Linux 4.13).
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		master.Close()
		return nil, nil, os.NewSyscallError("open pty's slave", errno)
	}
	slave = os.NewFile(peer, "pty")
	gid := -1
	if _, ok := m.HostGID(5); ok {
		gid = 5
	}
	if err = unix.Fchown(int(peer), int(uid), gid); err == nil {
		err = unix.Fchmod(int(peer), 0o620)
	}
	if err == nil && rows > 0 && cols > 0 {
		err = unix.IoctlSetWinsize(int(peer), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}
	if err != nil {
		master.Close()
		slave.Close()
		return nil, nil, os.NewSyscallError("set up pty", err)
	}
	return master, slave, nil
}
