package stage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// tryName is the argv[0] under which the test binary makes the system calls of attempts, under the filters that it is told.
const tryName = "try-calls"

// attempts are calls that a stage has no use for, each with arguments at which the kernel itself says something else.
var attempts = map[string]func() syscall.Errno{
	"socket":            call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM),
	"socketpair":        call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, 1),
	"connect":           call(unix.SYS_CONNECT, ^uintptr(0)),
	"execve":            call(unix.SYS_EXECVE, 1, 1, 1),
	"execveat":          call(unix.SYS_EXECVEAT, ^uintptr(0), 1, 1, 1),
	"fork":              call(unix.SYS_CLONE, unix.CLONE_SIGHAND), // EINVAL: not without CLONE_VM
	"ptrace":            call(unix.SYS_PTRACE, unix.PTRACE_PEEKDATA, 1<<30),
	"process_vm_readv":  call(unix.SYS_PROCESS_VM_READV, 1<<30, 0, 0, 0, 0),
	"kill":              call(unix.SYS_KILL, 1<<30, 0),
	"setns":             call(unix.SYS_SETNS, ^uintptr(0)),
	"unshare user":      call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER|0x8000), // EINVAL: no such flag
	"mount":             call(unix.SYS_MOUNT, 1, 1, 1, 0, 0),
	"mount_setattr":     call(unix.SYS_MOUNT_SETATTR, ^uintptr(0), 1, ^uintptr(0), 1, 1),
	"keyctl":            call(unix.SYS_KEYCTL, 9999),
	"bpf":               call(unix.SYS_BPF, 9999, 1, 1),
	"io_uring_setup":    call(unix.SYS_IO_URING_SETUP, 0, 1),
	"userfaultfd":       call(unix.SYS_USERFAULTFD, ^uintptr(0)),
	"open_by_handle_at": call(unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0), 1),
	"terminal":          call(unix.SYS_IOCTL, ^uintptr(0), unix.TIOCSTI),
	"memfd_create":      call(unix.SYS_MEMFD_CREATE, 1, 0),
	"mmap code":         call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, 0),
	"mprotect code":     call(unix.SYS_MPROTECT, 1, 4096, unix.PROT_READ|unix.PROT_EXEC),
	"dumpable":          call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 9),
	"raise a limit":     call(unix.SYS_PRLIMIT64, 0, 9999, 1),
	"fallocate":         call(unix.SYS_FALLOCATE, ^uintptr(0)),
}

// once are what only a thread that is confined cannot do any more.
var once = map[string]func() syscall.Errno{
	"unshare":    call(unix.SYS_UNSHARE, 0),
	"open_tree":  call(unix.SYS_OPEN_TREE, ^uintptr(0), 1, 0),
	"move_mount": call(unix.SYS_MOVE_MOUNT, ^uintptr(0), 1, ^uintptr(0), 1, ^uintptr(0)),
	"capset":     call(unix.SYS_CAPSET, 1, 1),
	"prctl":      call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 9),
	"chdir":      call(unix.SYS_CHDIR, 1),
	"fchdir":     call(unix.SYS_FCHDIR, ^uintptr(0)),
}

func call(nr uintptr, args ...uintptr) func() syscall.Errno {
	var a [6]uintptr
	copy(a[:], args)
	return func() syscall.Errno {
		_, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		return errno
	}
}

// tryCalls is the process. os.Args[1] says how many of the two filters it is under.
func tryCalls() {
	runtime.LockOSThread()
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	f, ferr := newFilters()
	err = errors.Join(err, ferr)
	if n := os.Args[1]; err == nil && n != "0" {
		err = f.loadProcess()
		if err == nil && n == "2" {
			err = f.loadThread()
		}
	}
	if err != nil {
		fmt.Println("cannot:", err)
		os.Exit(1)
	}
	for _, list := range []map[string]func() syscall.Errno{attempts, once} {
		for name, attempt := range list {
			fmt.Printf("%s=%d\n", name, attempt())
		}
	}
	// What Go needs goes on: threads, timers, the collector, the poller.
	runtime.GC()
	done := make(chan int)
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Println("cannot:", err)
		os.Exit(1)
	}
	for range 20 {
		go func() {
			runtime.LockOSThread()
			b := make([]byte, 1)
			_, _ = r.Read(b)
			done <- 1
		}()
	}
	_, _ = w.Write(make([]byte, 20))
	for range 20 {
		<-done
	}
	fmt.Println("end=0")
	os.Exit(0)
}

func TestForbiddenCalls(t *testing.T) {
	run := func(filters string) map[string]string {
		t.Helper()
		cmd := exec.Command("/proc/self/exe", filters)
		cmd.Args[0] = tryName
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("with %s filters: %v\n%s", filters, err, out)
		}
		got := map[string]string{}
		for line := range strings.Lines(string(out)) {
			name, errno, _ := strings.Cut(strings.TrimSpace(line), "=")
			got[name] = errno
		}
		if got["end"] != "0" {
			t.Fatalf("with %s filters: it printed %q", filters, out)
		}
		return got
	}
	eperm := strconv.Itoa(int(unix.EPERM))
	// What is younger than all that the list names is not there at all, so that a newer Go falls back.
	refused := []string{eperm, strconv.Itoa(int(unix.ENOSYS))}
	none, stage, thread := run("0"), run("1"), run("2")
	for name := range attempts {
		if slices.Contains(refused, none[name]) {
			t.Errorf("%s: forbidden without a filter too: the attempt shows nothing", name)
		}
		if !slices.Contains(refused, stage[name]) || !slices.Contains(refused, thread[name]) {
			t.Errorf("%s: error %s in the stage, %s in the thread", name, stage[name], thread[name])
		}
	}
	for name := range once {
		if none[name] != stage[name] || thread[name] != eperm {
			t.Errorf("%s: error %s without a filter, %s in the stage, %s in the thread", name, none[name], stage[name], thread[name])
		}
	}
}

// slow is a stream that stops in the middle, until it is let go on.
type slow struct {
	io.Reader
	reached, on chan struct{}
}

func (s slow) Read(p []byte) (int, error) {
	close(s.reached)
	<-s.on
	return 0, io.EOF
}

// A stage that is at work has no thread without its filter, and none with a capability that it does not need.
func TestConfinement(t *testing.T) {
	b := newBench(t, testMap(t))
	at, path := b.fresh()
	s := slow{reached: make(chan struct{}), on: make(chan struct{})}
	head := tarOf(t, map[string]string{"a": "a", "big": strings.Repeat("b", 1<<20)}, file("a"), file("big"))[:1<<20]
	ended := make(chan error, 1)
	go func() {
		_, err := b.s.Unpack(layer.UnpackRequest{At: at}, io.MultiReader(bytes.NewReader(head), s))
		ended <- err
	}()
	<-s.reached
	for { // the unpacking thread has come as far
		if _, err := os.Lstat(path + "/a"); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	status := func(file string) map[string]string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			out[name] = strings.TrimSpace(value)
		}
		return out
	}
	mask := func(caps ...uint) string {
		var m uint64
		for _, c := range caps {
			m |= 1 << c
		}
		return fmt.Sprintf("%016x", m)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", b.s.Pid()))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("%q %v", tasks, err)
	}
	// A build with cgo, as for the race detector, cannot change the capabilities of every thread.
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0)
	reachesNotAll := errno == unix.ENOTSUP
	confined := 0
	for _, file := range tasks {
		st := status(file)
		caps := mask(append(slices.Clone(kept), unix.CAP_SYS_ADMIN)...)
		if st["Seccomp_filters"] == "2" {
			confined++
			caps = mask(kept...)
		} else if reachesNotAll {
			caps = st["CapEff"]
		}
		if st["Seccomp"] != "2" || st["NoNewPrivs"] != "1" || st["CapEff"] != caps || st["CapPrm"] != caps || !reachesNotAll && (st["CapInh"] != mask() || st["CapAmb"] != mask()) {
			t.Errorf("%s: seccomp %s (%s filters), no_new_privs %s, capabilities %s (permitted %s, inheritable %s, ambient %s), want %s",
				file, st["Seccomp"], st["Seccomp_filters"], st["NoNewPrivs"], st["CapEff"], st["CapPrm"], st["CapInh"], st["CapAmb"], caps)
		}
	}
	if confined != 1 {
		t.Errorf("%d threads are confined", confined)
	}
	close(s.on)
	if err := <-ended; err == nil {
		t.Error("a tar that was cut is taken")
	}
	// None of it stays with those that come next.
	if _, _, _, err := b.unpack(tarOf(t, nil, tar.Header{Name: "d", Typeflag: tar.TypeDir})); err != nil {
		t.Error(err)
	}
}

// The stage has a root of its own, with its folders in it and nothing of the host's.
func TestRootOfTheStage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("for root alone, who may look at the mounts of a process that is not dumpable")
	}
	b := newBench(t, testMap(t))
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", b.s.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	var at []string
	for line := range strings.Lines(string(info)) {
		at = append(at, strings.Fields(line)[4])
	}
	if slices.Sort(at); !slices.Equal(at, []string{"/", "/0"}) {
		t.Errorf("mounted: %q", at)
	}
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/root", b.s.Pid()))
	if err != nil || len(names) != 1 || names[0].Name() != "0" {
		t.Errorf("in its root: %v %v", names, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", b.s.Pid())); err != nil || cwd != "/" {
		t.Errorf("its working directory: %s %v", cwd, err)
	}
}
