package stage

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"cove/sandbox/seccomp"

	"golang.org/x/sys/unix"
)

// A decoder or a tar reader that a stranger's bytes have taken over can still only make system calls: those that
// unpacking needs, and on the thread that unpacks none that could undo its confinement.

// calls are the system calls of the stage, whatever their arguments. What is new in here has to be said here.
var calls = []string{
	// Files: by descriptor, and by name below one.
	"openat", "openat2", "close", "read", "write", "pread64", "pwrite64", "lseek", "ftruncate", "copy_file_range", "getdents64",
	"fstat", "lstat", "stat", "newfstatat", "statx", "readlinkat", "fstatfs", "fsync", "fdatasync", "syncfs",
	"mkdirat", "mknodat", "unlinkat", "linkat", "symlinkat", "renameat2",
	"fchown", "fchownat", "lchown", "fchmod", "fchmodat", "utimensat",
	"fgetxattr", "lgetxattr", "flistxattr", "llistxattr", "fsetxattr", "lsetxattr", "fremovexattr", "lremovexattr",
	"fcntl", "umask", "chdir", "fchdir",
	// The parent's socket.
	"recvmsg", "sendmsg", "shutdown", "getsockopt",
	// Go's runtime, and the C library's under the race detector.
	"brk", "mincore", "madvise", "mremap", "munmap", "futex", "membarrier", "rseq", "set_robust_list", "restart_syscall",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "getpid", "gettid", "exit", "exit_group",
	"sched_yield", "sched_getaffinity", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "getrusage",
	"timer_create", "timer_settime", "timer_delete", "setitimer", "getrandom",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "pipe2",
}

// confining are the calls of confine, which the threads that it has confined cannot make any more.
var confining = []string{"unshare", "open_tree", "move_mount", "pivot_root", "umount2", "capset", "prctl", "chdir", "fchdir"}

const (
	prSetVMA   = 0x53564d41 // PR_SET_VMA: Go names its memory
	protExec   = unix.PROT_EXEC
	allOf32    = 1<<32 - 1
	allOf64    = 1<<64 - 1
	mayUnshare = unix.CLONE_FS | unix.CLONE_NEWNS
)

// policy is for the whole stage. What it does not name fails with EPERM, and what only a newer kernel has with ENOSYS.
func policy(native seccomp.Arch) seccomp.Policy {
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
			{Names: []string{"open_tree", "move_mount", "pivot_root", "umount2", "capset", "seccomp"}, Action: seccomp.Allow},
			allow("unshare", seccomp.Arg{Op: seccomp.MaskedEqual, Value: allOf64 &^ mayUnshare}),
			allow("clone", seccomp.Arg{Op: seccomp.MaskedEqual, Value: unix.CLONE_THREAD, ValueTwo: unix.CLONE_THREAD}), // no processes
			allow("ioctl", seccomp.Arg{Index: 1, Op: seccomp.MaskedEqual, Value: allOf32, ValueTwo: unix.FICLONE}),
			allow("prlimit64", seccomp.Arg{Index: 2, Op: seccomp.Equal}), // to ask
		},
	}
	for _, name := range []string{"mmap", "mprotect"} { // no new code
		p.Rules = append(p.Rules, allow(name, seccomp.Arg{Index: 2, Op: seccomp.MaskedEqual, Value: protExec}))
	}
	for _, option := range []uint64{unix.PR_SET_NO_NEW_PRIVS, unix.PR_CAP_AMBIENT, prSetVMA} {
		p.Rules = append(p.Rules, allow("prctl", seccomp.Arg{Op: seccomp.Equal, Value: option}))
	}
	return p
}

// threadPolicy is for a thread that is confined, beside the other.
func threadPolicy(native seccomp.Arch) seccomp.Policy {
	return seccomp.Policy{
		Default: seccomp.Allow,
		Arches:  []seccomp.Arch{native},
		Rules:   []seccomp.Rule{{Names: confining, Action: seccomp.Errno(uint16(unix.EPERM))}},
	}
}

// filters are the programs of both policies.
type filters struct{ process, thread []byte }

func newFilters() (*filters, error) {
	native, ok := seccomp.Native()
	if !ok {
		return nil, fmt.Errorf("filter system calls: cove has no list of them for %s", runtime.GOARCH)
	}
	var out filters
	for policy, to := range map[*seccomp.Policy]*[]byte{ptr(policy(native)): &out.process, ptr(threadPolicy(native)): &out.thread} {
		prog, err := policy.Compile()
		if err != nil {
			return nil, fmt.Errorf("filter system calls: %w", err)
		}
		*to = prog.Bytes()
	}
	return &out, nil
}

func ptr[T any](v T) *T { return &v }

// loadProcess puts every thread of the stage under its filter.
func (f *filters) loadProcess() error {
	if err := seccomp.Load(f.process); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}

// loadThread puts the calling thread, which stays locked, under the second one too.
func (f *filters) loadThread() error {
	if err := seccomp.LoadThread(f.thread); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}

// capabilities are those of kept, and more, as capset(2) takes them.
func capabilities(more ...uint) (hdr unix.CapUserHeader, data [2]unix.CapUserData) {
	for _, c := range append(more, kept...) {
		data[c/32].Effective |= 1 << (c % 32)
		data[c/32].Permitted |= 1 << (c % 32)
	}
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, data // pid 0: the thread itself
}

// fewerCaps leaves every thread of the stage the capabilities of unpacking, and that by which a thread is confined.
func fewerCaps() error {
	hdr, data := capabilities(unix.CAP_SYS_ADMIN)
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&data)
	// ENOTSUP: a build with cgo (the race detector's) cannot reach every thread.
	if errno != 0 && errno != unix.ENOTSUP {
		return fmt.Errorf("capset: %w", errno)
	}
	return nil
}
