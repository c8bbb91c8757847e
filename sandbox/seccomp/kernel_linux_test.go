package seccomp

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// loadOnly has this test binary, started again, load a program and try what follows in the arguments.
const loadOnly = "COVE_TEST_SECCOMP"

func TestMain(m *testing.M) {
	if file := os.Getenv(loadOnly); file != "" {
		os.Exit(underFilter(file, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// underFilter loads the program in file, on a thread that is not all of this process, and becomes argv, or makes the calls.
func underFilter(file string, argv []string) int {
	program, err := os.ReadFile(file)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err == nil {
		runtime.LockOSThread()
		err = Load(program)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if len(argv) > 0 {
		fmt.Println(unix.Exec(argv[0], argv, nil))
		return 1
	}
	done := make(chan struct{})
	go func() { // the other threads are under it too
		runtime.LockOSThread()
		for _, c := range kernelCalls {
			_, _, errno := unix.RawSyscall6(c.number(), c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
			fmt.Printf("%s %d\n", c.what, errno)
		}
		close(done)
	}()
	<-done
	return 0
}

type kernelCall struct {
	what string // begins with the call's name, or is its number
	args [6]uintptr
	want unix.Errno
}

func (c kernelCall) number() uintptr {
	name, _, _ := strings.Cut(c.what, " ")
	var n uintptr
	if _, err := fmt.Sscanf(name, "%v", &n); err == nil {
		return n
	}
	native, _ := Native()
	nr, ok := native.Number(name)
	if !ok {
		return 1<<31 - 1 // none
	}
	return uintptr(nr)
}

var kernelCalls = []kernelCall{
	{"getpid", [6]uintptr{}, 0},
	{"add_key", [6]uintptr{}, unix.EPERM},
	{"keyctl", [6]uintptr{}, unix.EPERM},
	{"request_key", [6]uintptr{}, unix.EPERM},
	{"bpf", [6]uintptr{}, unix.EPERM},
	{"perf_event_open", [6]uintptr{}, unix.EPERM},
	{"io_uring_setup", [6]uintptr{}, unix.EPERM},
	{"io_uring_enter", [6]uintptr{}, unix.EPERM},
	{"io_uring_register", [6]uintptr{}, unix.EPERM},
	{"userfaultfd", [6]uintptr{}, unix.EPERM},
	{"mount", [6]uintptr{}, unix.EPERM},
	{"umount2", [6]uintptr{}, unix.EPERM},
	{"fsopen", [6]uintptr{}, unix.EPERM},
	{"fsmount", [6]uintptr{}, unix.EPERM},
	{"fsconfig", [6]uintptr{}, unix.EPERM},
	{"fspick", [6]uintptr{}, unix.EPERM},
	{"move_mount", [6]uintptr{}, unix.EPERM},
	{"open_tree", [6]uintptr{}, unix.EPERM},
	{"open_tree_attr", [6]uintptr{}, unix.EPERM},
	{"mount_setattr", [6]uintptr{}, unix.EPERM},
	{"pivot_root", [6]uintptr{}, unix.EPERM},
	{"open_by_handle_at", [6]uintptr{}, unix.EPERM},
	{"kexec_load", [6]uintptr{}, unix.EPERM},
	{"kexec_file_load", [6]uintptr{}, unix.EPERM},
	{"init_module", [6]uintptr{}, unix.EPERM},
	{"finit_module", [6]uintptr{}, unix.EPERM},
	{"delete_module", [6]uintptr{}, unix.EPERM},
	{"syslog", [6]uintptr{3}, unix.EPERM},
	{"setns", [6]uintptr{}, unix.EPERM},
	{"unshare", [6]uintptr{unix.CLONE_NEWUSER}, unix.EPERM},
	{"unshare time", [6]uintptr{unix.CLONE_NEWTIME}, unix.EPERM},
	{"clone newuser", [6]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}, unix.EPERM},
	{"clone newnet", [6]uintptr{1<<32 | unix.CLONE_NEWNET | uintptr(unix.SIGCHLD)}, unix.EPERM},
	{"clone thread", [6]uintptr{unix.CLONE_THREAD}, unix.EINVAL}, // the kernel's own word: without CLONE_SIGHAND
	{"clone3", [6]uintptr{}, unix.ENOSYS},
	{"ioctl TIOCSTI", [6]uintptr{0, tiocsti}, unix.EPERM},
	{"ioctl TIOCSTI with more", [6]uintptr{0, 1<<32 | tiocsti}, unix.EPERM},
	{"ioctl TIOCLINUX", [6]uintptr{0, 1<<63 | tioclinux}, unix.EPERM},
	{"ioctl of nothing", [6]uintptr{1 << 30, unix.TCGETS}, unix.EBADF},
	{"socket VSOCK", [6]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
	{"socket VSOCK with more", [6]uintptr{1<<32 | unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
	{"socket ALG", [6]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}, unix.EPERM},
	{"socket PACKET", [6]uintptr{unix.AF_PACKET, unix.SOCK_RAW}, unix.EPERM},
	{"socket AUDIT", [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, unix.EPROTONOSUPPORT},
	{"socket AUDIT with more", [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, 1<<32 | unix.NETLINK_AUDIT}, unix.EPROTONOSUPPORT},
	{"socket NETFILTER", [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, unix.EPROTONOSUPPORT},
	{"socket ROUTE", [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, 0},
	{"socket INET", [6]uintptr{unix.AF_INET, unix.SOCK_STREAM}, 0},
	{"socket UNIX", [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}, 0},
	{"socketpair TIPC", [6]uintptr{unix.AF_TIPC, unix.SOCK_STREAM}, unix.EPERM},
	{"personality read", [6]uintptr{0xffffffff}, 0},
	{"personality ADDR_NO_RANDOMIZE", [6]uintptr{0x0040000}, unix.EPERM},
	{"personality 0x38", [6]uintptr{0x38}, unix.EPERM},
	{"swapon", [6]uintptr{}, unix.EPERM},
	{"1073741863 x32 getpid", [6]uintptr{}, unix.ENOSYS},
	{"100000 newer than anything", [6]uintptr{}, unix.ENOSYS},
}

// What the policy says is what the kernel does, in every thread, and in what is exec'ed.
func TestKernel(t *testing.T) {
	native, ok := Native()
	if !ok {
		t.Skip("no policy for this architecture")
	}
	program, err := Prepare(nil, Conditions{Native: native, Kernel: Version{6, 1}, Caps: preparedCaps})
	if err != nil {
		t.Fatal(err)
	}
	if string(program) != prepared {
		t.Error("the usual sandbox does not get the prepared program")
	}
	file := t.TempDir() + "/program"
	if err := os.WriteFile(file, program, 0o600); err != nil {
		t.Fatal(err)
	}
	under := func(argv ...string) string {
		t.Helper()
		cmd := exec.Command("/proc/self/exe", argv...)
		cmd.Env = []string{loadOnly + "=" + file}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
		return string(out)
	}
	var want strings.Builder
	for _, c := range kernelCalls {
		fmt.Fprintf(&want, "%s %d\n", c.what, c.want)
	}
	got := strings.Split(under(), "\n")
	for i, line := range strings.Split(want.String(), "\n") {
		if i >= len(got) || got[i] != line {
			t.Errorf("%q, want %q", got[min(i, len(got)-1)], line)
		}
	}
	if native != AMD64 {
		return
	}
	if got := under(build(t, "testdata/int80.c")); got != "-38\n" {
		t.Errorf("a 32-bit getpid: %s, want -38 (ENOSYS)", got)
	}
}
