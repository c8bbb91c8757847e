package main

import "golang.org/x/sys/unix"

// int80 makes a system call by the 32-bit entry, with that table's numbers.
func int80(nr, a, b, c, d uint32) int32

// x32 is the bit that the calls of the x32 table have.
const x32 = 0x40000000

// entryChecks go in by the doors that a filter for the 64-bit table does not watch.
func entryChecks() []check {
	var list []check
	for _, c := range []struct {
		name string
		nr   uint32
		args [4]uint32
	}{
		{"unshare", 310, [4]uint32{unix.CLONE_NEWUSER}},
		{"keyctl", 288, [4]uint32{999}},
		{"add_key", 286, [4]uint32{}},
		{"bpf", 357, [4]uint32{999, 0, 0}},
		{"io_uring_setup", 425, [4]uint32{0, 0}},
		{"perf_event_open", 336, [4]uint32{}},
		{"userfaultfd", 374, [4]uint32{}},
		{"mount", 21, [4]uint32{}},
		{"open_by_handle_at", 342, [4]uint32{^uint32(0), 0, 0}},
		{"clone3", 435, [4]uint32{0, 88}},
		{"vsock", 359, [4]uint32{unix.AF_VSOCK, unix.SOCK_STREAM, 0}},
	} {
		list = append(list, check{"entry-int80-" + c.name, kernel, func(*bait) (string, string) {
			got := int80(c.nr, c.args[0], c.args[1], c.args[2], c.args[3])
			return verdictOf(unix.Errno(-min(got, 0)))
		}})
	}
	list = append(list, check{"entry-int80-personality", kernel, func(*bait) (string, string) {
		if got := int80(136, 0x0400000, 0, 0, 0); got >= 0 { // ADDR_COMPAT_LAYOUT
			return open("personality(0x400000) by int 0x80")
		}
		return held("refused")
	}})
	for _, c := range []struct {
		name string
		nr   uintptr
		args [3]uintptr
	}{
		{"getpid", 39, [3]uintptr{}},
		{"unshare", unix.SYS_UNSHARE, [3]uintptr{unix.CLONE_NEWUSER}},
		{"keyctl", unix.SYS_KEYCTL, [3]uintptr{999}},
		{"bpf", unix.SYS_BPF, [3]uintptr{999}},
		{"ptrace", 521, [3]uintptr{unix.PTRACE_ATTACH, 1}},
	} {
		list = append(list, check{"entry-x32-" + c.name, kernel, func(*bait) (string, string) {
			_, _, errno := unix.RawSyscall(x32|c.nr, c.args[0], c.args[1], c.args[2])
			return verdictOf(errno)
		}})
	}
	return list
}
