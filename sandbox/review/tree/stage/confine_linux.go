package stage

import (
	"fmt"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"cove/sandbox/seccomp"

	"golang.org/x/sys/unix"
)

// leaveHost makes a root of the stage's own in which there are the folders and nothing else.
func (st *stage) leaveHost() error {
	const root = "/tmp" // a folder that every system has
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=1m"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", root, err)
	}
	for i, dir := range st.uppers {
		at := root + "/" + strconv.Itoa(i)
		if err := unix.Mkdir(at, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", at, err)
		}
		fd, err := attach(dir, at)
		_ = unix.Close(dir)
		if err != nil {
			return err
		}
		st.uppers[i] = fd
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("chdir: %w", err)
	}
	// The old root ends up stacked on the new one and is taken off (pivot_root(2), "." twice).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}

// attach mounts the folder that dir is open on at a path, and opens it there.
func attach(dir int, at string) (int, error) {
	mount, err := unix.OpenTree(dir, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(mount)
	// What lies in there is data: no device of it works, no program of it runs.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return -1, fmt.Errorf("mount_setattr: %w", err)
	}
	fd, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open: %w", err)
	}
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("move_mount: %w", err)
	}
	return fd, nil
}

// kept are the capabilities that it takes to read and remove what any id of the mapping owns, and to make files that are
// theirs. A whiteout, the character device 0:0, needs none (Linux 5.8).
var kept = []uint{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID}

func fewerCaps() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl CAP_AMBIENT: %w", err)
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0: each thread itself
	var data [2]unix.CapUserData
	for _, c := range kept {
		data[c/32].Effective |= 1 << (c % 32)
		data[c/32].Permitted |= 1 << (c % 32)
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&data)
	if errno == unix.ENOTSUP { // a build with cgo (the race detector's) cannot reach every thread; this one is the one that works
		return unix.Capset(&hdr, &data[0])
	}
	if errno != 0 {
		return fmt.Errorf("capset: %w", errno)
	}
	return nil
}

// calls are the system calls of the stage, whatever their arguments. What is new in here has to be said here.
var calls = []string{
	"openat", "openat2", "close", "read", "write", "pread64", "pwrite64", "lseek", "ftruncate", "getdents64", "copy_file_range",
	"fstat", "lstat", "stat", "newfstatat", "statx", "readlinkat", "fstatfs", "fsync", "fdatasync", "syncfs",
	"mkdirat", "mknodat", "unlinkat", "symlinkat", "renameat2",
	"fchown", "fchownat", "fchmod", "fchmodat", "utimensat",
	"fgetxattr", "lgetxattr", "flistxattr", "llistxattr", "fsetxattr", "fremovexattr",
	"fcntl", "umask", "fchdir",
	// The parent's socket.
	"recvmsg", "sendmsg", "shutdown", "getsockopt",
	// Go's runtime, and the C library's under the race detector.
	"brk", "mincore", "madvise", "mremap", "munmap", "futex", "membarrier", "rseq", "set_robust_list", "restart_syscall",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "getpid", "gettid", "exit", "exit_group",
	"sched_yield", "sched_getaffinity", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "getrusage",
	"timer_create", "timer_settime", "timer_delete", "setitimer", "getrandom",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "pipe2",
}

const (
	prSetVMA = 0x53564d41 // PR_SET_VMA: Go names its memory
	allOf32  = 1<<32 - 1
)

// loadFilter puts every thread under it. What it does not name fails with EPERM, and what only a newer kernel has with ENOSYS.
func loadFilter() error {
	native, ok := seccomp.Native()
	if !ok {
		return fmt.Errorf("filter system calls: cove has no list of them for %s", runtime.GOARCH)
	}
	allow := func(name string, args ...seccomp.Arg) seccomp.Rule {
		return seccomp.Rule{Names: []string{name}, Action: seccomp.Allow, Args: args}
	}
	p := seccomp.Policy{
		Default: seccomp.Errno(uint16(unix.EPERM)),
		Arches:  []seccomp.Arch{native},
		// Its argument lies in memory, where a filter cannot look; the C library falls back to clone.
		Deny: []seccomp.Rule{{Names: []string{"clone3"}, Action: seccomp.Errno(uint16(unix.ENOSYS))}},
		Rules: []seccomp.Rule{
			{Names: calls, Action: seccomp.Allow},
			allow("clone", seccomp.Arg{Op: seccomp.MaskedEqual, Value: unix.CLONE_THREAD, ValueTwo: unix.CLONE_THREAD}), // no processes
			allow("ioctl", seccomp.Arg{Index: 1, Op: seccomp.MaskedEqual, Value: allOf32, ValueTwo: unix.FICLONE}),
			allow("prlimit64", seccomp.Arg{Index: 2, Op: seccomp.Equal}), // to ask
			allow("prctl", seccomp.Arg{Op: seccomp.Equal, Value: prSetVMA}),
		},
	}
	for _, name := range []string{"mmap", "mprotect"} { // no new code
		p.Rules = append(p.Rules, allow(name, seccomp.Arg{Index: 2, Op: seccomp.MaskedEqual, Value: unix.PROT_EXEC}))
	}
	prog, err := p.Compile()
	if err == nil {
		err = seccomp.Load(prog.Bytes())
	}
	if err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}
