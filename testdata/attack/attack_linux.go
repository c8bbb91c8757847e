// Package attack tries, from inside, what landlock and a filter of system calls alone have to keep from a command: it is
// the program `attack` of testdata/script.
package attack

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Main tries everything. OUTSIDE is a folder of the caller's that is not granted, with a file "secret" and a listening socket
// "sock"; READONLY is one that may be read; PORT is one of loopback's that answers; PID is a process of the caller's. It
// prints what worked, and "held" for each thing that did not.
//
//	attack OUTSIDE READONLY PORT PID
func Main(args []string) int {
	if len(args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: attack OUTSIDE READONLY PORT PID")
		return 2
	}
	port, err1 := strconv.Atoi(args[2])
	pid, err2 := strconv.Atoi(args[3])
	if err1 != nil || err2 != nil {
		return 2
	}
	out, ro := args[0], args[1]
	escaped := 0
	for _, t := range append(append(processes(pid), files(out, ro)...), append(sockets(out, port), kernel()...)...) {
		err := t.try()
		if err == nil {
			escaped++
			fmt.Printf("ESCAPED %s\n", t.name)
		} else {
			fmt.Printf("held %s: %v\n", t.name, err)
		}
	}
	if escaped > 0 {
		return 1
	}
	return 0
}

type try struct {
	name string
	try  func() error
}

func open(name string, flags int) func() error {
	return func() error {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			_ = unix.Close(fd)
		}
		return err
	}
}

func files(out, ro string) []try {
	secret := filepath.Join(out, "secret")
	link := "link-" + strconv.Itoa(os.Getpid())
	return []try{
		{"read outside", open(secret, unix.O_RDONLY)},
		{"write outside", open(secret, unix.O_WRONLY)},
		{"append outside", open(secret, unix.O_WRONLY|unix.O_APPEND)},
		{"create outside", open(filepath.Join(out, "new"), unix.O_WRONLY|unix.O_CREAT)},
		{"truncate outside", func() error { return unix.Truncate(secret, 0) }},
		{"truncate outside by opening", open(secret, unix.O_RDONLY|unix.O_TRUNC)},
		{"truncate outside by opening for nothing", open(secret, 3|unix.O_TRUNC)},
		{"list outside", func() error { _, err := os.ReadDir(out); return err }},
		{"remove outside", func() error { return unix.Unlink(secret) }},
		{"make a folder outside", func() error { return unix.Mkdir(filepath.Join(out, "dir"), 0o700) }},
		{"link out", func() error { return unix.Link(secret, link) }},
		{"rename out", func() error {
			if err := os.WriteFile(link+"x", []byte("x"), 0o600); err != nil {
				return err
			}
			defer os.Remove(link + "x")
			return unix.Rename(link+"x", filepath.Join(out, "moved"))
		}},
		{"read by a link", func() error {
			if err := unix.Symlink(secret, link); err != nil {
				return err
			}
			defer os.Remove(link)
			return open(link, unix.O_RDONLY)()
		}},
		{"read by /proc/self/root", open("/proc/self/root"+secret, unix.O_RDONLY)},
		{"execute outside", func() error { return unix.Exec(secret, []string{secret}, nil) }},
		{"write what may be read", open(filepath.Join(ro, "file"), unix.O_RDWR)},
		{"truncate what may be read", func() error { return unix.Truncate(filepath.Join(ro, "file"), 0) }},
		{"truncate what may be read by opening", open(filepath.Join(ro, "file"), unix.O_RDONLY|unix.O_TRUNC)},
		{"truncate what may be read by opening for nothing", open(filepath.Join(ro, "file"), 3|unix.O_TRUNC)},
		{"read the caller's home", open(filepath.Join(os.Getenv("OUTER_HOME"), ".bait"), unix.O_RDONLY)},
		{"make in /tmp", open("/tmp/attack-"+strconv.Itoa(os.Getpid()), unix.O_WRONLY|unix.O_CREAT)},
		{"make in /dev/shm", open("/dev/shm/attack-"+strconv.Itoa(os.Getpid()), unix.O_WRONLY|unix.O_CREAT)},
		{"list terminals", func() error { _, err := os.ReadDir("/dev/pts"); return err }},
		{"make a terminal", open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY)},
		{"device for ioctl alone", open("/dev/fuse", 3)},
		{"write cove", open("/proc/self/exe", unix.O_WRONLY)},
		{"mount", func() error { return unix.Mount("none", ".", "tmpfs", 0, "") }},
	}
}

func sockets(out string, port int) []try {
	dial := func(family, kind int, to unix.Sockaddr) func() error {
		return func() error {
			fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Connect(fd, to)
		}
	}
	loopback := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	list := []try{
		{"a socket's file", dial(unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: filepath.Join(out, "sock")})},
		{"an abstract socket", dial(unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: "@attack" + out})},
		{"a pair connected anew", func() error {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			return unix.Connect(fds[0], &unix.SockaddrUnix{Name: filepath.Join(out, "log")})
		}},
		{"a raw pair connected anew", func() error {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_RAW, 0)
			if err != nil {
				return err
			}
			return unix.Connect(fds[0], &unix.SockaddrUnix{Name: filepath.Join(out, "log")})
		}},
		{"a pair of streams connected anew", func() error {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return fmt.Errorf("NOT THERE: %w", err)
			}
			_ = unix.Close(fds[1])
			return unix.Connect(fds[0], &unix.SockaddrUnix{Name: filepath.Join(out, "sock")})
		}},
		{"vsock", dial(unix.AF_VSOCK, unix.SOCK_STREAM, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: 1})},
	}
	if os.Getenv("NETWORK") == "host" {
		return list
	}
	return append(list,
		try{"tcp", dial(unix.AF_INET, unix.SOCK_STREAM, loopback)},
		try{"udp", dial(unix.AF_INET, unix.SOCK_DGRAM, loopback)},
		try{"listen", func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err == nil {
				err = unix.Bind(fd, &unix.SockaddrInet4{})
			}
			return err
		}},
		try{"netlink", dial(unix.AF_NETLINK, unix.SOCK_RAW, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})},
	)
}

func processes(pid int) []try {
	proc := "/proc/" + strconv.Itoa(pid) + "/"
	list := []try{
		{"list processes", func() error { _, err := os.ReadDir("/proc"); return err }},
		{"command line", open(proc+"cmdline", unix.O_RDONLY)},
		{"environment", open(proc+"environ", unix.O_RDONLY)},
		{"memory", open(proc+"mem", unix.O_RDWR)},
		{"root", open(proc+"root/etc/passwd", unix.O_RDONLY)},
		{"descriptors", func() error { _, err := os.ReadDir(proc + "fd"); return err }},
		{"environment of the parent", open(fmt.Sprintf("/proc/%d/environ", os.Getppid()), unix.O_RDONLY)},
		{"trace", func() error {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			err := unix.PtraceAttach(pid)
			if err == nil {
				_, _ = unix.Wait4(pid, nil, 0, nil) // until it has stopped, without which it cannot be let go
				err = unix.PtraceDetach(pid)
			}
			return err
		}},
		{"memory by system call", func() error {
			b := make([]byte, 8)
			_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &b[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
			return err
		}},
		{"take a descriptor", func() error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			_, err = unix.PidfdGetfd(fd, 0, 0)
			return err
		}},
		{"limits", func() error { return unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil) }},
		{"priority", func() error { return unix.Setpriority(unix.PRIO_PROCESS, pid, 19) }},
		{"inherited descriptor", func() error {
			for fd := 3; fd < 1024; fd++ {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
					return nil
				}
			}
			return unix.EBADF
		}},
		{"environment of the caller", func() error {
			for _, e := range os.Environ() {
				if strings.Contains(e, "BAIT") {
					return nil
				}
			}
			return unix.ENOENT
		}},
	}
	if os.Getenv("SIGNALS") == "" { // before landlock's ABI 6
		return list
	}
	return append(list,
		try{"signal", func() error { return unix.Kill(pid, 0) }},
		try{"signal to the parent", func() error { return unix.Kill(os.Getppid(), 0) }},
		try{"signal to the parent's threads", func() error {
			// The parent's threads have numbers near its own; one of another process is not in that group.
			for tid := os.Getppid(); tid < os.Getppid()+50; tid++ {
				if unix.Tgkill(os.Getppid(), tid, 0) == nil {
					return nil
				}
			}
			return unix.EPERM
		}},
		try{"signal by descriptor", func() error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			return unix.PidfdSendSignal(fd, 0, nil, 0)
		}},
	)
}

func kernel() []try {
	call := func(nr, a, b, c uintptr) func() error {
		return func() error {
			if _, _, errno := unix.Syscall(nr, a, b, c); errno != 0 {
				return errno
			}
			return nil
		}
	}
	params := make([]byte, 128)
	name, _ := unix.BytePtrFromString("/attack")
	return []try{
		{"shared memory", call(unix.SYS_SHMGET, unix.IPC_PRIVATE, 4096, 0o600|unix.IPC_CREAT)},
		{"message queue", call(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_CREAT|unix.O_RDWR, 0o600)},
		{"user namespace", func() error {
			child, err := syscall.ForkExec("/proc/self/exe", []string{"attack"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}})
			if err == nil {
				_, _ = syscall.Wait4(child, nil, 0, nil)
			}
			return err
		}},
		{"keys", call(unix.SYS_KEYCTL, 0, ^uintptr(2), 0)}, // KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING
		{"io_uring", call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params[0])), 0)},
		{"bpf", call(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&params[0])), 128)},
		{"perf", call(unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&params[0])), 0, ^uintptr(0))},
		{"userfaultfd", call(unix.SYS_USERFAULTFD, 1, 0, 0)},
		{"typing into the terminal", func() error {
			c := byte('x')
			return call(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))()
		}},
	}
}

// Bait lays out what an attack looks for, and stays for a while. It writes "PORT PID" into OUTSIDE/bait.
//
//	bait OUTSIDE
func Bait(args []string) int {
	if len(args) != 1 {
		return 2
	}
	out := args[0]
	listen := func(family, kind int, at unix.Sockaddr) int {
		fd, err := unix.Socket(family, kind, 0)
		if err == nil {
			err = unix.Bind(fd, at)
		}
		if err == nil && kind == unix.SOCK_STREAM {
			err = unix.Listen(fd, 16)
		}
		if err != nil {
			panic(err)
		}
		return fd
	}
	listen(unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: filepath.Join(out, "sock")})
	listen(unix.AF_UNIX, unix.SOCK_DGRAM, &unix.SockaddrUnix{Name: filepath.Join(out, "log")})
	listen(unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: "@attack" + out})
	tcp := listen(unix.AF_INET, unix.SOCK_STREAM, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	name, err := unix.Getsockname(tcp)
	if err != nil {
		panic(err)
	}
	text := fmt.Sprintf("%d %d\n", name.(*unix.SockaddrInet4).Port, os.Getpid())
	if err := os.WriteFile(filepath.Join(out, "bait"), []byte(text), 0o600); err != nil {
		panic(err)
	}
	time.Sleep(2 * time.Minute)
	return 0
}
