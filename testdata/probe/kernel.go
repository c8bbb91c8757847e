package main

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// verdictOf judges a call that is to be refused before the kernel looks at its arguments: they are wrong, so that a call
// that was let through says so by any other error.
func verdictOf(errno unix.Errno) (string, string) {
	switch errno {
	case unix.EPERM, unix.ENOSYS, unix.EACCES:
		return held("%v", errno)
	case 0:
		return open("done")
	}
	return open("it reached the kernel, which says: %v", errno)
}

// kernelChecks are the system calls that sandboxes have been left by, or that none needs.
func kernelChecks() []check {
	nothing := unsafe.Pointer(&[256]byte{})
	null := uintptr(0)
	var list []check
	for _, c := range []struct {
		name string
		nr   uintptr
		args []uintptr
	}{
		{"keyctl", unix.SYS_KEYCTL, []uintptr{999}},
		{"add_key", unix.SYS_ADD_KEY, nil},
		{"request_key", unix.SYS_REQUEST_KEY, nil},
		{"bpf", unix.SYS_BPF, []uintptr{999}},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, nil},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, nil},
		{"io_uring_enter", unix.SYS_IO_URING_ENTER, []uintptr{^null}},
		{"io_uring_register", unix.SYS_IO_URING_REGISTER, []uintptr{^null}},
		{"userfaultfd", unix.SYS_USERFAULTFD, []uintptr{1 /* UFFD_USER_MODE_ONLY */}},
		{"mount", unix.SYS_MOUNT, nil},
		{"umount2", unix.SYS_UMOUNT2, nil},
		{"pivot_root", unix.SYS_PIVOT_ROOT, nil},
		{"open_tree", unix.SYS_OPEN_TREE, []uintptr{^null, null, 0}},
		{"open_tree-clone", unix.SYS_OPEN_TREE, []uintptr{^null, null, unix.OPEN_TREE_CLONE}},
		{"move_mount", unix.SYS_MOVE_MOUNT, []uintptr{^null, null, ^null, null, 0}},
		{"fsopen", unix.SYS_FSOPEN, nil},
		{"fsconfig", unix.SYS_FSCONFIG, []uintptr{^null, 99}},
		{"fsmount", unix.SYS_FSMOUNT, []uintptr{^null}},
		{"fspick", unix.SYS_FSPICK, []uintptr{^null}},
		{"mount_setattr", unix.SYS_MOUNT_SETATTR, []uintptr{^null, null, 0, null, 0}},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, []uintptr{^null, null, 0}},
		{"setns", unix.SYS_SETNS, []uintptr{^null, 0}},
		{"kexec_load", unix.SYS_KEXEC_LOAD, []uintptr{0, 99}},
		{"kexec_file_load", 320, []uintptr{^null, ^null}},
		{"init_module", unix.SYS_INIT_MODULE, nil},
		{"finit_module", unix.SYS_FINIT_MODULE, []uintptr{^null}},
		{"delete_module", unix.SYS_DELETE_MODULE, nil},
		{"swapon", unix.SYS_SWAPON, nil},
		{"swapoff", unix.SYS_SWAPOFF, nil},
		{"reboot", unix.SYS_REBOOT, nil}, // without its magic numbers
		{"acct", unix.SYS_ACCT, []uintptr{^null}},
		{"quotactl", unix.SYS_QUOTACTL, []uintptr{0x800001 << 8}},
		{"quotactl_fd", unix.SYS_QUOTACTL_FD, []uintptr{^null}},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, []uintptr{^null}},
		{"clock_settime", unix.SYS_CLOCK_SETTIME, []uintptr{999}},
		{"sethostname", unix.SYS_SETHOSTNAME, []uintptr{null, 5000}},
		{"setdomainname", unix.SYS_SETDOMAINNAME, []uintptr{null, 5000}},
		{"syslog", unix.SYS_SYSLOG, []uintptr{999}},
		{"fanotify_init", unix.SYS_FANOTIFY_INIT, []uintptr{0xffff}},
		{"kcmp", unix.SYS_KCMP, []uintptr{0x7fffffff, 0x7fffffff}},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, []uintptr{^null}},
		{"process_madvise", 440, []uintptr{^null}},
		{"move_pages", unix.SYS_MOVE_PAGES, []uintptr{0x7fffffff}},
		{"migrate_pages", unix.SYS_MIGRATE_PAGES, []uintptr{0x7fffffff}},
		{"mbind", unix.SYS_MBIND, []uintptr{1, 0, 99}},
		{"set_mempolicy", unix.SYS_SET_MEMPOLICY, []uintptr{99}},
		{"lookup_dcookie", unix.SYS_LOOKUP_DCOOKIE, nil},
		{"vhangup", unix.SYS_VHANGUP, nil},
	} {
		list = append(list, check{"call-" + c.name, kernel, func(b *bait) (string, string) {
			if strings.HasPrefix(c.name, "vhangup") && b.grants("tty") {
				return cannot("it would take the terminal away")
			}
			return verdictOf(call(c.nr, c.args...))
		}})
	}
	for name, flags := range map[string]uintptr{"user": unix.CLONE_NEWUSER, "mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "net": unix.CLONE_NEWNET,
		"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP, "time": unix.CLONE_NEWTIME} {
		list = append(list, check{"namespace-unshare-" + name, kernel, func(*bait) (string, string) {
			if err := unix.Unshare(int(flags)); err == nil {
				return open("made one")
			} else {
				return verdictOf(err.(unix.Errno))
			}
		}})
	}
	return append(append(list, []check{
		{"namespace-clone-user", kernel, func(*bait) (string, string) {
			pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
			if errno == 0 && pid == 0 {
				unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return verdictOf(errno)
		}},
		{"namespace-clone3-user", kernel, func(*bait) (string, string) {
			args := [11]uint64{unix.CLONE_NEWUSER, 0, 0, 0, uint64(unix.SIGCHLD)}
			pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), 64, 0, 0, 0, 0)
			if errno == 0 && pid == 0 {
				unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return verdictOf(errno)
		}},
		{"namespace-clone3-answer", kernel, func(*bait) (string, string) {
			// Whatever else it answers, libc does not fall back on clone(2), whose flags a filter can see.
			errno := call(unix.SYS_CLONE3, 0, 0)
			if errno != unix.ENOSYS {
				return open("%v: a filter cannot look at the flags of clone3", errno)
			}
			return held("%v", errno)
		}},
		{"namespace-fill", kernel, func(*bait) (string, string) {
			// In a nested user namespace every capability is to be had, and with it what only root's code was meant to see.
			got, err := nested("use")
			if err != nil {
				return held("there is no user namespace to be had: %v", err)
			}
			return open("root in a namespace of its own: %s", got)
		}},
		{"namespace-set-proc", kernel, func(*bait) (string, string) {
			for _, ns := range []string{"user", "mnt", "pid", "net"} {
				for _, pid := range []string{"1", "self"} {
					fd, err := unix.Open("/proc/"+pid+"/ns/"+ns, unix.O_RDONLY, 0)
					if err != nil {
						continue
					}
					if unix.Setns(fd, 0) == nil {
						return open("setns to the %s namespace of %s", ns, pid)
					}
				}
			}
			return held("none could be entered")
		}},
		{"namespace-owner", kernel, func(*bait) (string, string) {
			// NS_GET_USERNS and NS_GET_PARENT lead from a namespace to those above it (ioctl_nsfs(2)).
			fd, err := unix.Open("/proc/self/ns/user", unix.O_RDONLY, 0)
			if err != nil {
				return held("%v", err)
			}
			if up, errno := ioctl(fd, 0xb702, 0); errno == 0 {
				return open("descriptor %d of the user namespace above", up)
			}
			return held("there is no way up")
		}},
		{"call-personality", kernel, func(*bait) (string, string) {
			for _, value := range []uintptr{0x0400000 /* READ_IMPLIES_EXEC */, 0x0040000 /* ADDR_NO_RANDOMIZE */, 0x0100000 /* MMAP_PAGE_ZERO */, 0x10000000, 0x38} {
				if call(unix.SYS_PERSONALITY, value) == 0 {
					return open("personality(%#x)", value)
				}
			}
			return held("refused but for what docker lets through")
		}},
		{"call-clock_adjtime", kernel, func(*bait) (string, string) {
			// To look is everybody's; to change is not. An offset of 0 changes nothing where it is.
			tx := unix.Timex{Modes: 0x8001 /* ADJ_OFFSET_SINGLESHOT */}
			return verdictOf(call(unix.SYS_CLOCK_ADJTIME, 0, uintptr(unsafe.Pointer(&tx))))
		}},
		{"call-iopl", kernel, legacy("iopl", 172, 3)},
		{"call-ioperm", kernel, legacy("ioperm", 173, 0, 1, 1)},
		{"call-uselib", kernel, legacy("uselib", 134)},
		{"call-ustat", kernel, legacy("ustat", 136)},
		{"call-sysfs", kernel, legacy("sysfs", 139, 3)},
		{"call-sysctl", kernel, legacy("_sysctl", 156)},
		{"call-nfsservctl", kernel, legacy("nfsservctl", 180)},
		{"call-create_module", kernel, legacy("create_module", 174)},
		{"ioctl-tiocsti", kernel, func(*bait) (string, string) {
			return verdictOf(call(unix.SYS_IOCTL, ^null, unix.TIOCSTI, uintptr(nothing)))
		}},
		{"ioctl-tiocsti-high", kernel, func(*bait) (string, string) {
			// The kernel takes 32 bits of it; a filter that compares 64 is walked around (CVE-2019-10063).
			return verdictOf(call(unix.SYS_IOCTL, ^null, unix.TIOCSTI|1<<32*is64, uintptr(nothing)))
		}},
		{"ioctl-tioclinux", kernel, func(*bait) (string, string) { return verdictOf(call(unix.SYS_IOCTL, ^null, 0x541C, uintptr(nothing))) }},
		{"ioctl-tioclinux-high", kernel, func(*bait) (string, string) {
			return verdictOf(call(unix.SYS_IOCTL, ^null, 0x541C|1<<32*is64, uintptr(nothing)))
		}},
		{"socket-vsock", kernel, family(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
		{"socket-vsock-high", kernel, func(*bait) (string, string) {
			fd, _, errno := unix.Syscall(unix.SYS_SOCKET, unix.AF_VSOCK|1<<32*is64, unix.SOCK_STREAM, 0)
			if errno == 0 {
				unix.Close(int(fd))
			}
			return verdictOf(errno)
		}},
		{"socket-alg", kernel, family(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},
		{"socket-packet", kernel, family(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"socket-raw", kernel, family(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"socket-raw6", kernel, family(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)},
		{"socket-audit", kernel, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT)},
		{"socket-xfrm", kernel, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM)},
		{"socket-netfilter", kernel, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)},
		{"socket-crypto", kernel, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_CRYPTO)},
		{"socket-connector", kernel, family(unix.AF_NETLINK, unix.SOCK_DGRAM, unix.NETLINK_CONNECTOR)},
		{"socket-scsi", kernel, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SCSITRANSPORT)},
		{"socket-selinux", kernel, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SELINUX)},
		{"socket-iscsi", kernel, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ISCSI)},
		{"socket-rdma", kernel, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_RDMA)},
		{"socket-key", kernel, family(unix.AF_KEY, unix.SOCK_RAW, 2)},
		{"socket-rare", kernel, func(*bait) (string, string) {
			// The kernel loads a module for each that it has one for, whoever asks.
			var made []string
			for name, f := range map[string]int{"AX25": unix.AF_AX25, "IPX": unix.AF_IPX, "APPLETALK": unix.AF_APPLETALK, "NETROM": unix.AF_NETROM, "ATMPVC": unix.AF_ATMPVC,
				"X25": unix.AF_X25, "ROSE": unix.AF_ROSE, "DECnet": unix.AF_DECnet, "PPPOX": unix.AF_PPPOX, "LLC": unix.AF_LLC, "IB": unix.AF_IB, "CAN": unix.AF_CAN,
				"TIPC": unix.AF_TIPC, "BLUETOOTH": unix.AF_BLUETOOTH, "IUCV": unix.AF_IUCV, "RXRPC": unix.AF_RXRPC, "ISDN": unix.AF_ISDN, "PHONET": unix.AF_PHONET,
				"IEEE802154": unix.AF_IEEE802154, "CAIF": unix.AF_CAIF, "NFC": unix.AF_NFC, "KCM": unix.AF_KCM, "QIPCRTR": unix.AF_QIPCRTR, "SMC": unix.AF_SMC,
				"XDP": unix.AF_XDP, "MCTP": 45, "RDS": unix.AF_RDS} {
				for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_RAW} {
					if fd, err := unix.Socket(f, kind, 0); err == nil {
						unix.Close(fd)
						made = append(made, name)
						break
					}
				}
			}
			if len(made) > 0 {
				return open("%s", strings.Join(made, ", "))
			}
			return held("none of 27 families")
		}},
	}...), entryChecks()...)
}

// is64 lets a constant have a bit above the 32nd where numbers have more than 32.
const is64 = (^uintptr(0) >> 63)

// legacy is a call whose number is amd64's.
func legacy(name string, nr uintptr, args ...uintptr) func(*bait) (string, string) {
	return func(*bait) (string, string) {
		if unix.SYS_GETPID != 39 {
			return held("no such call on this architecture")
		}
		return verdictOf(call(nr, args...))
	}
}

// family makes a socket. One that this kernel does not know is as good as refused.
func family(domain, kind, proto int) func(*bait) (string, string) {
	return func(*bait) (string, string) {
		fd, err := unix.Socket(domain, kind, proto)
		if err == nil {
			unix.Close(fd)
			return open("a socket was made")
		}
		return held("%v", err)
	}
}
