// Package fork starts a program in namespaces of its own, with package syscall and nothing else: who has a use for the
// time in which others are still initialised can start one then (package early of the sandbox does).
package fork

import (
	"runtime"
	"strconv"
	"syscall"
)

// Child is a started program.
type Child struct {
	Pid   int
	Ended chan struct{} // closed when it has ended; it is still to be reaped then (wait(2))
}

// InNamespaces are the attributes of a child in a new user namespace and these others (CLONE_NEW*, namespaces(7)). It
// keeps its capabilities over the exec as ambient ones (capabilities(7)), so that it need have no ids by then, and dies
// with this process. With setsid it has a session of its own.
func InNamespaces(namespaces uintptr, setsid bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | namespaces | likeVfork,
		AmbientCaps: allCaps(),
		Pdeathsig:   syscall.SIGKILL,
		Setsid:      setsid,
	}
}

// Exec starts the program at path and returns when its exec has succeeded. On error nothing is left running. With slack its
// timers, and those of all that it starts, may be late by so many nanoseconds (PR_SET_TIMERSLACK(2const)).
func Exec(path string, argv []string, attr *syscall.ProcAttr, slack uintptr) (*Child, error) {
	CloseOnExec()
	c := &Child{Ended: make(chan struct{})}
	started := make(chan error)
	// On a thread of its own that lives as long as the child: PR_SET_PDEATHSIG fires when the parent *thread* ends, not
	// the process (PR_SET_PDEATHSIG(2const)). It does without package os/exec, which forks a process more to find out
	// what the kernel can do.
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		if slack > 0 {
			const setTimerSlack = 29
			_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, slack, 0)
		}
		var err error
		c.Pid, err = syscall.ForkExec(path, argv, attr)
		started <- err
		if err == nil {
			c.await()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// await waits for the child's end, without reaping it: until who may send it a signal knows that it has ended, its number
// must not be another's.
func (c *Child) await() {
	defer close(c.Ended)
	const pPID, wNoWait = 1, 0x1000000 // waitid(2)
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(c.Pid), 0, syscall.WEXITED|wNoWait, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

// likeVfork lets the child borrow this process's memory until its exec. Package syscall does so by itself but for
// CLONE_NEWUSER, where it may have to write the maps of a child that waits for them; here that is done after the exec.
// A copy would cost more than its making: every page that this process writes to meanwhile has to be copied, and each
// time the other processors are interrupted to forget the old one.
const likeVfork = syscall.CLONE_VM | syscall.CLONE_VFORK

// Executable returns the path of this binary; ok is false when what lies there is not this program any more. A stage must
// be exec'ed by path: through /proc/self/exe its file would lie on the host's mount, where /proc/1/exe could be opened
// for writing; by path it lies on the new mount namespace's copy, which the stage makes read-only.
func Executable() (path string, ok bool) {
	const self = "/proc/self/exe"
	buf := make([]byte, 4096) // PATH_MAX
	n, err := syscall.Readlink(self, buf)
	if err != nil || n == len(buf) {
		return "", false
	}
	path = string(buf[:n])
	var is, there syscall.Stat_t
	if syscall.Stat(self, &is) != nil || syscall.Stat(path, &there) != nil {
		return path, false
	}
	return path, is.Dev == there.Dev && is.Ino == there.Ino
}

// Program tells this binary from every other one, of another version say, as long as somebody runs it: until then its inode is nobody else's, and
// who writes to it, where the kernel lets them (execve(2), ETXTBSY, which Linux 6.11 and 6.12 do not know), changes its time. What was written
// down at the start is to be compared. It is letters, digits and hyphens; "" where that cannot be found out.
func Program() string {
	var st syscall.Stat_t
	if syscall.Stat("/proc/self/exe", &st) != nil {
		return ""
	}
	text := make([]byte, 0, 64)
	for i, n := range []uint64{uint64(st.Dev), st.Ino, uint64(st.Size), uint64(st.Mtim.Nano())} {
		if i > 0 {
			text = append(text, '-')
		}
		text = strconv.AppendUint(text, n, 16)
	}
	return string(text)
}

// allCaps lists every capability that this kernel knows.
func allCaps() []uintptr {
	last := 0
	for _, c := range readFile("/proc/sys/kernel/cap_last_cap") {
		if c >= '0' && c <= '9' {
			last = 10*last + int(c-'0')
		}
	}
	if last == 0 {
		last = 40 // CAP_CHECKPOINT_RESTORE, Linux 5.9
	}
	caps := make([]uintptr, 0, last+1)
	for c := range last + 1 {
		caps = append(caps, uintptr(c))
	}
	return caps
}

// readFile reads the beginning of a file, 4 KiB of it; nothing where it cannot be read.
func readFile(path string) []byte {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = syscall.Close(fd) }()
	buf := make([]byte, 4096)
	n, err := syscall.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// args is the command line, once it was read. Nobody asks for it before the first of the packages that are initialised, or at the same time as another.
var args []string

// Args is this process's command line, as far as it fits 4 KiB, for who begins before package os does.
func Args() []string {
	if args != nil {
		return args
	}
	text := readFile("/proc/self/cmdline")
	for begin, i := 0, 0; i < len(text); i++ {
		if text[i] == 0 {
			args, begin = append(args, string(text[begin:i])), i+1
		}
	}
	return args
}

// CloseOnExec keeps the descriptors that this process inherited from what it starts: Go marks the
// ones that it opens itself, but what a shell or a build tool left open (a lock file, the end of a
// pipe, a folder) would be handed on into the sandbox.
func CloseOnExec() { closeRange(3, closeRangeCloexec, syscall.CloseOnExec) }

// CloseFrom closes the descriptors from first on. It is for a process that has opened nothing of its own yet, Go's
// runtime included.
func CloseFrom(first int) { closeRange(first, 0, func(fd int) { _ = syscall.Close(fd) }) }

func closeRange(first int, flags uintptr, one func(fd int)) {
	// The call came with Linux 5.9 and its flag with 5.11; a seccomp filter around us may not know it.
	if _, _, errno := syscall.Syscall(sysCloseRange, uintptr(first), ^uintptr(0)>>32, flags); errno == 0 {
		return
	}
	dir, err := syscall.Open("/proc/self/fd", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = syscall.Close(dir) }()
	buf := make([]byte, 8192)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil || n <= 0 {
			return
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			fd := 0
			for _, c := range []byte(name) {
				fd = 10*fd + int(c-'0')
			}
			if fd >= first && fd != dir {
				one(fd)
			}
		}
	}
}

// close_range(2) has the same number on every architecture; package syscall is older than it.
const (
	sysCloseRange     = 436
	closeRangeCloexec = 1 << 2
)
