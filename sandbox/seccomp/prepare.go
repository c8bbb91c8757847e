package seccomp

import (
	"fmt"
	"slices"
	"strings"
)

// preparedCaps are the capabilities of a sandbox that asked for no others. The program for them is part of this one: most
// starts need no compiler.
var preparedCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_SETFCAP"}

// preparedKernel is the oldest kernel that it is right for.
var preparedKernel = Version{4, 8}

// Prepare is the program, as Load takes it, of New's policy: of docker's profile, or of base when that is not nil.
func Prepare(base *Profile, c Conditions) ([]byte, error) {
	native, _ := Native()
	if base == nil && !c.Nested && c.Native == native && c.Kernel.AtLeast(preparedKernel) && slices.Equal(c.Caps, preparedCaps) && prepared != "" {
		return []byte(prepared), nil
	}
	policy := New(base, c)
	if err := policy.usable(); err != nil {
		return nil, err
	}
	program, err := policy.Compile()
	if err != nil {
		return nil, err
	}
	return program.Bytes(), nil
}

// needed are calls that init makes under the policy, without which no command could be started or waited for.
var needed = []string{"brk", "chdir", "clock_gettime", "clone", "close", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait",
	"eventfd2", "execve", "exit", "exit_group", "fchown", "fcntl", "fstat", "fstatfs", "futex", "getdents64", "getpid", "getrandom",
	"gettid", "kill", "lseek", "madvise", "mmap", "mprotect", "munmap", "nanosleep", "newfstatat", "openat", "openat2", "pipe2", "prctl",
	"pread64", "prlimit64", "read", "readlinkat", "recvmsg", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity",
	"sched_yield", "sendmsg", "setgid", "setgroups", "setpgid", "setsid", "setuid", "sigaltstack", "tgkill", "wait4", "waitid", "write"}

// usable says why no command could be started under a policy.
func (p *Policy) usable() error {
	var refused []string
	for _, name := range needed {
		if nr, ok := p.Arches[0].Number(name); ok && !p.Eval(p.Arches[0], nr, [6]uint64{}).allows() {
			refused = append(refused, name)
		}
	}
	if refused != nil {
		return fmt.Errorf("refuses what starting a command takes: %s", strings.Join(refused, ", "))
	}
	return nil
}
