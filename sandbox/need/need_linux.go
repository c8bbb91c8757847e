// Package need looks, before anything else is begun, whether this process may have what Go's runtime and a sandbox cannot
// do without: descriptors, threads, address space, signals that wait. The runtime ends a program that lacks one in the
// middle, with the stacks of all goroutines, or waits for ever; here it is one line.
//
// The runtime's own beginning comes before every package: where it has not even 820 MB of address space, or no second
// thread (getrlimit(2), RLIMIT_AS, RLIMIT_NPROC), it speaks for itself. Between 720 and 820 that is a matter of chance:
// the heap begins at a random place of its first 64 MB (Go 1.26), and so the next 64 are soon wanted, or late.
//
// It imports syscall and next to nothing else: it comes before package early, which comes before package os.
package need

import (
	"strconv"
	"syscall"
	"unsafe"

	"cove/userns/fork"
)

// What a run needs besides what is there already. Few machines allow less; where they do, each is a little more than
// what was seen to be enough.
const (
	descriptors = 16
	tasks       = 24 // threads of the parent and init, the helpers that map ids, a command
	addresses   = 900 << 20
	signals     = 8 // a system call made in all threads sends each a real-time signal, which waits
)

// Numbers of limits that package syscall has no names for (getrlimit(2)).
const (
	limitTasks   = 6  // RLIMIT_NPROC
	limitSignals = 11 // RLIMIT_SIGPENDING
)

// few is below what machines allow that are not set up to allow little: only there it is counted what is left.
const few = 1024

func init() {
	args := fork.Args()
	if len(args) > 0 && len(args[0]) > 5 && args[0][:5] == "cove-" {
		return // a stage: its parent has looked, and is among what there is now
	}
	text := lacking()
	if text == "" {
		return
	}
	_, _ = syscall.Write(2, []byte("cove: "+text+"\n"))
	syscall.Exit(code(args))
}

// code is the exit code of cove's own failure: of a command that runs another, 125. Where there was no descriptor to
// read the command line by, it is most likely one.
func code(args []string) int {
	if len(args) == 0 {
		return 125
	}
	if len(args) > 1 {
		switch args[1] {
		case "run", "shell", "exec", "try", "unshare":
			return 125
		}
	}
	return 1
}

// lacking says what there is too little of; "" when of nothing.
func lacking() string {
	var l syscall.Rlimit
	// The hard limit: package os makes the soft one as high, later.
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil && l.Max < few {
		if open := openDescriptors(int(l.Max)); int(l.Max)-open < descriptors {
			return tooFew("descriptors", l.Max, open, "-n", descriptors)
		}
	}
	if syscall.Getrlimit(syscall.RLIMIT_AS, &l) == nil && l.Cur < addresses {
		return "it may have " + strconv.FormatUint(l.Cur>>20, 10) + " MB of address space (ulimit -v), and needs " + strconv.Itoa(addresses>>20)
	}
	// Of these not the limit counts but what all of the user's processes have left of it: a program that sends itself
	// signals without end, in a sandbox or out of it, uses up what there is.
	if !canQueue(signals) && syscall.Getrlimit(limitSignals, &l) == nil {
		return "your processes may have " + strconv.FormatUint(l.Cur, 10) + " signals waiting (ulimit -i), and not " + strconv.Itoa(signals) + " of these are left"
	}
	// Root, for one, may have more than its limit.
	if syscall.Getrlimit(limitTasks, &l) == nil && l.Cur < few && syscall.Geteuid() != 0 {
		if now := ownTasks(syscall.Getuid()); int(l.Cur)-now < tasks {
			return tooFew("processes and threads", l.Cur, now, "-u", tasks)
		}
	}
	return ""
}

// canQueue tries whether n real-time signals can wait for this thread at once (sigqueue(3), EAGAIN), and takes them back.
// The caller is bound to its thread, as the goroutine is that initialises packages (package runtime, LockOSThread).
func canQueue(n int) bool {
	const probe = 40 // a real-time signal that neither Go's runtime nor a C library has a use for
	block, old := uint64(1)<<(probe-1), uint64(0)
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 0 /* SIG_BLOCK */, uintptr(unsafe.Pointer(&block)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); errno != 0 {
		return true // nothing is known
	}
	queued := 0
	for ; queued < n; queued++ {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(syscall.Getpid()), uintptr(syscall.Gettid()), probe); errno != 0 {
			break
		}
	}
	for range queued {
		var now syscall.Timespec
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&block)), 0, uintptr(unsafe.Pointer(&now)), 8, 0, 0)
	}
	const setMask = 2 // SIG_SETMASK
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	return queued == n
}

func tooFew(what string, limit uint64, used int, option string, need int) string {
	return "it may have " + strconv.FormatUint(limit, 10) + " " + what + " (ulimit " + option + "), has " + strconv.Itoa(used) + ", and needs " +
		strconv.Itoa(need) + " more"
}

func openDescriptors(limit int) int {
	n := 0
	for fd := range limit {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0); errno == 0 {
			n++
		}
	}
	return n
}

// ownTasks counts the user's threads, which is what the limit is about, as far as /proc shows them.
func ownTasks(uid int) int {
	dir, err := syscall.Open("/proc", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer func() { _ = syscall.Close(dir) }()
	total := 0
	buf := make([]byte, 8192)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil || n <= 0 {
			return total
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if name[0] < '0' || name[0] > '9' {
				continue
			}
			if owner, threads := tasksOf(read("/proc/" + name + "/status")); owner == uid {
				total += threads
			}
		}
	}
}

// read returns the beginning of a file, which of a /proc/PID/status is all of it; nothing of one that is gone.
func read(name string) []byte {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = syscall.Close(fd) }()
	buf := make([]byte, 8192)
	n, _ := syscall.Read(fd, buf)
	return buf[:max(n, 0)]
}

// tasksOf reads the real uid and the number of threads from a /proc/PID/status (proc_pid_status(5)).
func tasksOf(status []byte) (uid, threads int) {
	return number(status, "\nUid:\t", -1), number(status, "\nThreads:\t", 0)
}

// number is the one that follows key, or none.
func number(text []byte, key string, none int) int {
	for i := range text {
		if i+len(key) >= len(text) || string(text[i:i+len(key)]) != key {
			continue
		}
		n := none
		for _, c := range text[i+len(key):] {
			if c < '0' || c > '9' {
				break
			}
			n = max(n, 0)*10 + int(c-'0')
		}
		return n
	}
	return none
}
