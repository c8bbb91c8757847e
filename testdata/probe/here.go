package main

import (
	"fmt"
	"os"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// look is what this process was started with, before Go's runtime or this program opened or changed anything of its own.
type look struct {
	fds     []string
	umask   int
	status  map[string]string
	cwd     string
	groups  []int
	persona uintptr
	timers  uintptr
}

// maxFD is as far as descriptors are looked for: more than a shell, a build tool or a service manager leaves open.
const maxFD = 1 << 16

func firstLook() *look {
	l := &look{status: status("/proc/self/status")}
	for fd := 3; fd < maxFD; fd++ {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			// The runtime's own, which a child does not get, are close-on-exec.
			if flags&unix.FD_CLOEXEC == 0 || !strings.HasPrefix(name, "anon_inode:") {
				l.fds = append(l.fds, fmt.Sprintf("%d -> %s", fd, name))
			}
		}
	}
	l.umask = unix.Umask(0o022)
	buf := make([]byte, 4096)
	if n, err := unix.Getcwd(buf); err == nil && n > 0 {
		l.cwd = string(buf[:n-1])
	}
	l.groups, _ = unix.Getgroups()
	l.persona, _, _ = unix.Syscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	l.timers, _, _ = unix.Syscall(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0)
	return l
}

// status reads a /proc/PID/status (proc_pid_status(5)).
func status(name string) map[string]string {
	out := map[string]string{}
	text, _ := os.ReadFile(name)
	for _, line := range strings.Split(string(text), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok {
			out[k] = strings.TrimSpace(v)
		}
	}
	return out
}

// hereChecks are about what the tool's own child inherited.
func hereChecks() []check {
	none := "0000000000000000"
	signals := func(field, what string) func(*bait) (string, string) {
		return func(*bait) (string, string) {
			if got := inherited.status[field]; got != none {
				return open("%s: %s", what, got)
			}
			return held("none")
		}
	}
	return []check{
		{"inherit-descriptors", outside, func(*bait) (string, string) {
			if len(inherited.fds) > 0 {
				return open("%s", strings.Join(inherited.fds, ", "))
			}
			return held("none of 3 to %d", maxFD-1)
		}},
		{"inherit-descriptor-folder", outside, func(*bait) (string, string) {
			for fd := range 3 {
				var st unix.Stat_t
				if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
					return open("descriptor %d is a folder", fd)
				}
			}
			return held("0, 1 and 2 are none")
		}},
		{"inherit-stdin-reopened", outside, func(*bait) (string, string) {
			// lay hands over a file that is open for reading. Opened anew by /proc, it may be writable.
			name, _ := os.Readlink("/proc/self/fd/0")
			fd, err := unix.Open("/proc/self/fd/0", unix.O_RDWR, 0)
			if err != nil {
				return held("opening %s for writing: %v", name, err)
			}
			defer unix.Close(fd)
			var st unix.Stat_t
			if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
				return open("the host's file %s, open for reading, could be opened for writing", name)
			}
			return held("%s is no file of the host", name)
		}},
		{"inherit-environment", outside, func(*bait) (string, string) {
			for _, e := range os.Environ() {
				if strings.HasPrefix(e, envName+"=") {
					return open("%s", e)
				}
			}
			for _, name := range []string{"SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "GPG_AGENT_INFO", "LD_PRELOAD", "SUDO_USER"} {
				if v := os.Getenv(name); v != "" {
					return open("%s=%s", name, v)
				}
			}
			return held("%d variables, none of the caller's", len(os.Environ()))
		}},
		{"inherit-blocked-signals", outside, signals("SigBlk", "blocked")},
		{"inherit-ignored-signals", outside, signals("SigIgn", "ignored")},
		{"inherit-pending-signals", outside, signals("ShdPnd", "pending")},
		{"inherit-umask", outside, func(*bait) (string, string) {
			if inherited.umask != 0o022 {
				return open("%04o, the caller's", inherited.umask)
			}
			return held("0022")
		}},
		{"inherit-personality", outside, func(*bait) (string, string) {
			// ADDR_NO_RANDOMIZE is what an attacker wants of the programs inside.
			if inherited.persona != 0 {
				return open("%#x: the caller's, without address randomisation", inherited.persona)
			}
			return held("0")
		}},
		{"inherit-groups", outside, func(b *bait) (string, string) {
			for _, g := range inherited.groups {
				if g == 65534 {
					if b.grants("single-id") {
						return granted("groups cannot be dropped where one id is mapped")
					}
					return open("a group of the caller's that is not mapped: %v", inherited.groups)
				}
			}
			return held("%v", inherited.groups)
		}},
		{"inherit-core-limit", outside, func(*bait) (string, string) {
			var l unix.Rlimit
			_ = unix.Getrlimit(unix.RLIMIT_CORE, &l)
			if l.Cur != 0 || l.Max != 0 {
				return open("RLIMIT_CORE %d, %d: a crash inside writes a core, or feeds the host's core_pattern one", int64(l.Cur), int64(l.Max))
			}
			return held("0")
		}},
		{"inherit-oom-score", outside, func(b *bait) (string, string) {
			text, err := os.ReadFile("/proc/self/oom_score_adj")
			if err != nil {
				return cannot("%v", err)
			}
			score := 0
			_, _ = fmt.Sscan(string(text), &score)
			if score <= b.OOM {
				return open("%d, as the caller's %d: the desktop may be killed in its place", score, b.OOM)
			}
			return held("%d, above the caller's %d", score, b.OOM)
		}},
		{"inherit-cwd", outside, func(*bait) (string, string) {
			if !path.IsAbs(inherited.cwd) {
				return open("%q", inherited.cwd)
			}
			return held("%s", inherited.cwd)
		}},
		{"inherit-session", outside, func(b *bait) (string, string) {
			sid, err := unix.Getsid(0)
			if err == nil && sid == 0 {
				return open("the session's leader is outside")
			}
			return held("%d", sid)
		}},
		{"terminal-injection", outside, func(*bait) (string, string) {
			// TIOCSTI into whatever terminal came along (CVE-2005-4890, CVE-2017-5226): lay looks whether it arrived.
			return injectAll("TIOCSTI", func(fd int) error {
				c := byte('#')
				_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
				return errnoOf(errno)
			})
		}},
		{"terminal-paste", outside, func(*bait) (string, string) {
			// TIOCLINUX subcode 3 pastes the console's selection (CVE-2023-1523).
			return injectAll("TIOCLINUX", func(fd int) error {
				c := byte(3)
				_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 0x541C, uintptr(unsafe.Pointer(&c)))
				return errnoOf(errno)
			})
		}},
		{"terminal-stolen", outside, func(b *bait) (string, string) {
			// Another session's controlling terminal, taken by force.
			if _, errno := ioctl(0, unix.TIOCSCTTY, 1); errno == 0 && !b.grants("tty") {
				return open("0 became this session's controlling terminal")
			}
			return held("none was to be had")
		}},
	}
}

// injectAll tries f on every terminal within reach. A pty of the sandbox's own may take it: nobody outside reads what is
// typed there but by way of a relay, so the refusal is a matter of kernel's checks.
func injectAll(what string, f func(fd int) error) (string, string) {
	tried := 0
	for fd := range 3 {
		if _, errno := ioctl(fd, unix.TCGETS, uintptr(unsafe.Pointer(new(unix.Termios)))); errno != 0 {
			continue
		}
		tried++
		if err := f(fd); err == nil {
			return open("%s on descriptor %d went through", what, fd)
		}
	}
	if tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY, 0); err == nil {
		tried++
		if err := f(tty); err == nil {
			return open("%s on /dev/tty went through", what)
		}
	}
	return held("%d terminals within reach, none took it", tried)
}

func ioctl(fd int, request, arg uintptr) (uintptr, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	return n, errno
}

func errnoOf(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
