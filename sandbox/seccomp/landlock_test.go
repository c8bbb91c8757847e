package seccomp

import "testing"

func TestWithoutNamespaces(t *testing.T) {
	const high = 0xdead_0000_0000_0000 // of an int the kernel looks at the lower half alone
	for _, c := range []struct {
		abi     int
		host    bool
		call    string
		args    [6]uint64
		allowed bool
	}{
		{7, false, "socket", [6]uint64{afInet, 1}, false},
		{7, false, "socket", [6]uint64{afUnix, 1}, false},
		{7, false, "connect", [6]uint64{0}, false},
		{7, true, "socket", [6]uint64{afInet, 1}, true},
		{7, true, "socket", [6]uint64{afInet6, 2}, true},
		{7, true, "socket", [6]uint64{afUnix, 1}, false},
		{7, true, "socket", [6]uint64{high | afUnix, 1}, false},
		{7, true, "connect", [6]uint64{3}, true},
		{7, true, "socket", [6]uint64{40, 1}, false}, // AF_VSOCK, as everywhere
		{7, false, "socketpair", [6]uint64{afUnix, 1}, true},
		{7, false, "socketpair", [6]uint64{afUnix, 1 | 0x80800}, true}, // SOCK_CLOEXEC|SOCK_NONBLOCK
		{7, false, "socketpair", [6]uint64{afUnix, 5}, true},
		{7, false, "socketpair", [6]uint64{afUnix, 2}, false},
		{7, true, "socketpair", [6]uint64{afUnix, 3 | 0x80000}, false},
		{7, true, "socketpair", [6]uint64{afUnix, high | 2}, false},
		{7, false, "shmget", [6]uint64{}, false},
		{7, false, "mq_open", [6]uint64{}, false},
		{7, false, "prlimit64", [6]uint64{0, 7, 0x1000}, true},
		{7, false, "prlimit64", [6]uint64{77, 7, 0}, true},
		{7, false, "prlimit64", [6]uint64{77, 7, 0x1000}, false},
		{7, false, "setpriority", [6]uint64{0, 0, 5}, true},
		{7, false, "setpriority", [6]uint64{2, 1000, 5}, false},
		{7, false, "truncate", [6]uint64{}, true},
		{7, false, "kill", [6]uint64{1<<64 - 1, 9}, true}, // of its own domain alone
		{7, false, "openat2", [6]uint64{}, true},
		{6, false, "openat", [6]uint64{0, 0, 3}, false},
		{5, false, "kill", [6]uint64{1<<64 - 1, 9}, false},
		{5, false, "kill", [6]uint64{0xffffffff, 9}, false},
		{5, false, "kill", [6]uint64{1000, 9}, true},
		{5, false, "pidfd_send_signal", [6]uint64{}, false},
		{5, false, "openat", [6]uint64{0, 0, 0x80000}, true},
		{4, false, "openat", [6]uint64{0, 0, 3}, false},
		{4, false, "openat", [6]uint64{0, 0, 0x80000 | 3}, false},
		{4, false, "openat2", [6]uint64{}, false},
		{4, false, "openat", [6]uint64{0, 0, 0x200}, true},
		{2, false, "truncate", [6]uint64{}, false},
		{2, false, "openat", [6]uint64{0, 0, 0x80000}, true},
		{2, false, "openat", [6]uint64{0, 0, 0x241}, true}, // O_WRONLY|O_CREAT|O_TRUNC
		{2, false, "openat", [6]uint64{0, 0, 0x202}, true},
		{2, false, "openat", [6]uint64{0, 0, 0x200}, false},
		{2, false, "openat", [6]uint64{0, 0, 0x80203}, false},
		{2, false, "clone3", [6]uint64{}, false},
		{7, false, "write", [6]uint64{}, true},
	} {
		for _, native := range []Arch{AMD64, ARM64} {
			policy := New(nil, Conditions{Native: native, Kernel: Version{6, 1}}).With(WithoutNamespaces(c.abi, c.host)...)
			nr, ok := native.Number(c.call)
			if !ok {
				t.Fatalf("%s has no %s", native, c.call)
			}
			if got := policy.Eval(native, nr, c.args).allows(); got != c.allowed {
				t.Errorf("ABI %d, host network %v, %s: %s(%x) allowed: %v", c.abi, c.host, native, c.call, c.args, got)
			}
			if _, err := policy.Compile(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What arm64 does not have.
	policy := New(nil, Conditions{Native: AMD64, Kernel: Version{6, 1}}).With(WithoutNamespaces(2, false)...)
	if nr, _ := AMD64.Number("open"); policy.Eval(AMD64, nr, [6]uint64{0, 0x200}).allows() || !policy.Eval(AMD64, nr, [6]uint64{0, 0}).allows() {
		t.Error("open")
	}
}
