package stage

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"cove/sandbox/seccomp"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// ConfineName is the stage that becomes a command of cove-landlock's, once it has given up for ever what that must not
// have. No process of cove's own is in the commands' landlock domain, not by one thread: who is in it may send signals to,
// and trace, whoever else is.
const ConfineName = "cove-confine"

// Its descriptors, after 0, 1 and 2, which are the command's.
const (
	confineRules  = userns.ConnFD     // the landlock ruleset
	confineOrders = userns.ConnFD + 1 // a file with the order
	confineReport = userns.ConnFD + 2 // a pipe: closed by the command's start, or why there was none
)

// confinement is what a command gives up.
type confinement struct {
	rules  *os.File
	filter []byte
}

// start has fork start the stage instead of the command itself, and waits until it has become that. The error is the
// errno of the command's execve(2), or that of fork.
func (c *confinement) start(order leaderStart, attr *syscall.ProcAttr, fork func(path string, argv []string, attr *syscall.ProcAttr) error) error {
	order.Filter = c.filter
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("cove", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	orders := os.NewFile(uintptr(fd), "orders")
	defer orders.Close()
	if _, err := orders.Write(text); err != nil {
		return err
	}
	report, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer report.Close()
	attr.Env = []string{"GOMAXPROCS=1"} // the command's own is in the order
	attr.Files = append(attr.Files, c.rules.Fd(), orders.Fd(), theirs.Fd())
	err = fork("/proc/self/exe", []string{ConfineName}, attr)
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", ConfineName, err)
	}
	var errno [4]byte
	if n, _ := report.Read(errno[:]); n == len(errno) {
		return syscall.Errno(binary.LittleEndian.Uint32(errno[:]))
	}
	return nil
}

func confineMain() int {
	for fd := confineRules; fd <= confineReport; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			fmt.Fprintf(os.Stderr, "%s: a part of cove that only cove starts\n", ConfineName)
			return 2
		}
	}
	err := becomeConfined()
	errno := syscall.EIO
	if !errors.As(err, &errno) {
		errno = syscall.EIO
	}
	_, _ = unix.Write(confineReport, binary.LittleEndian.AppendUint32(nil, uint32(errno)))
	return codeFailed
}

// becomeConfined returns only when it failed. It works on the main thread, the only one that outlives an execve(2).
func becomeConfined() error {
	var st unix.Stat_t
	if err := unix.Fstat(confineOrders, &st); err != nil {
		return err
	}
	text := make([]byte, st.Size)
	if _, err := unix.Pread(confineOrders, text, 0); err != nil {
		return err
	}
	var order leaderStart
	if err := json.Unmarshal(text, &order); err != nil {
		return err
	}
	if err := newKeyring(false); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, confineRules, 0, 0); errno != 0 {
		return errno
	}
	if err := seccomp.LoadThread(order.Filter); err != nil {
		return err
	}
	return syscall.Exec(order.Path, texts(order.Argv), texts(order.Env))
}
