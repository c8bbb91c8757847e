package seccomp

import "slices"

// New is the policy of a sandbox: docker's, or that of base where a file is given instead, under the denials that hold
// in every sandbox.
//
// 32-bit programs, for which moby's profile has the same rules, are left out of docker's: their socketcall(2) hides what
// it is asked for behind a pointer, and few still need that much more of a kernel. A file that names the architecture
// lets them in, under the same denials.
func New(base *Profile, c Conditions) Policy {
	p := Policy{Arches: []Arch{c.Native}, Deny: denials(&c)}
	if base == nil {
		base = &docker
	} else {
		p.Arches = append(p.Arches, base.SubArches(c.Native)...)
	}
	p.Default, p.Rules = base.Default, base.rules(&c)
	if c.Nested {
		p.Rules = append(p.Rules, Rule{Names: nested, Action: Allow})
	}
	return p
}

// nested are the calls that make sandboxes: bubblewrap's, Chromium's, nix's and cove's own.
var nested = []string{"chroot", "clone", "clone3", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr",
	"move_mount", "open_tree", "open_tree_attr", "pivot_root", "setdomainname", "sethostname", "setns", "umount", "umount2", "unshare"}

// namespaces are all of CLONE_NEW*. clone(2) has no CLONE_NEWTIME: its bit is one of the exit signal's there.
const (
	cloneNewNamespaces = 0x7e02_0000
	cloneNewTime       = 0x80
)

// An int, of which the kernel looks at 32 bits.
func isInt(index int, value uint32) Arg {
	return Arg{Index: index, Op: MaskedEqual, Value: 1<<32 - 1, ValueTwo: uint64(value)}
}

func isNotInt(index int, value uint32) Arg {
	return Arg{Index: index, Op: MaskedNotEqual, Value: 1<<32 - 1, ValueTwo: uint64(value)}
}

// denials are what no sandbox may, whatever its capabilities and its file say. The capability that docker's profile asks for
// is one of the sandbox's own namespaces here, which anybody can have; what keeps the kernel's large and young parts
// closed is this list.
func denials(c *Conditions) []Rule {
	deny := []Rule{
		// Keys are found by number across all namespaces (keyctl(2)).
		refuse(eperm, "add_key", "keyctl", "request_key"),
		refuse(eperm, "bpf", "perf_event_open", "userfaultfd", "io_uring_enter", "io_uring_register", "io_uring_setup"),
		// Handles name files of a whole file system, beyond what is mounted inside (the "Shocker" way out of docker).
		refuse(eperm, "open_by_handle_at"),
		refuse(eperm, "create_module", "delete_module", "finit_module", "init_module", "kexec_file_load", "kexec_load", "query_module"),
		refuse(eperm, "syslog"), // the kernel's log is the host's
		// Both write into a terminal what its owner then seems to have typed (ioctl_tty(2)); of the request's number the
		// kernel looks at 32 bits.
		{Names: []string{"ioctl"}, Action: Errno(eperm), Args: []Arg{isInt(1, tiocsti)}},
		{Names: []string{"ioctl"}, Action: Errno(eperm), Args: []Arg{isInt(1, tioclinux)}},
		// 32-bit: a socket of any family, behind a pointer.
		refuse(enosys, "socketcall"),
	}
	deny = append(deny, sockets(c.Caps)...)
	if c.Nested {
		return deny
	}
	return append(deny,
		refuse(eperm, "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree",
			"open_tree_attr", "pivot_root", "setns", "umount", "umount2"),
		Rule{Names: []string{"clone"}, Action: Errno(eperm), Args: []Arg{{Index: 0, Op: MaskedNotEqual, Value: cloneNewNamespaces}}},
		Rule{Names: []string{"unshare"}, Action: Errno(eperm), Args: []Arg{{Index: 0, Op: MaskedNotEqual, Value: cloneNewNamespaces | cloneNewTime}}},
		// Its flags lie behind a pointer. A kernel without it says ENOSYS, and then the C libraries take clone.
		refuse(enosys, "clone3"),
	)
}

const (
	tiocsti   = 0x5412
	tioclinux = 0x541c
)

func refuse(errno uint16, names ...string) Rule { return Rule{Names: names, Action: Errno(errno)} }

// Families and netlink protocols of socket(2).
const (
	afUnix, afInet, afInet6, afNetlink, afPacket = 1, 2, 10, 16, 17

	netlinkRoute, netlinkSockDiag, netlinkXfrm, netlinkNetfilter, netlinkUevent, netlinkGeneric = 0, 4, 6, 12, 15, 16
)

// sockets leaves the families that programs in a sandbox have a use for. The others are old (AX.25), privileged, or know
// nothing of network namespaces (AF_VSOCK reaches the host); the kernel loads a module for most of them when it is
// asked. Of netlink's protocols the same: audit (9) and the crypto interface (21) are the host's, and netfilter, ipsec and
// generic netlink are for who configures a network. These are answered as by a kernel that does not have them: useradd(8)
// and its kin give up where audit is merely forbidden.
func sockets(caps []string) []Rule {
	families := []uint32{afUnix, afInet, afInet6, afNetlink}
	protocols := []uint32{netlinkRoute, netlinkSockDiag, netlinkUevent}
	if slices.Contains(caps, "CAP_NET_RAW") {
		families = append(families, afPacket)
	}
	if slices.Contains(caps, "CAP_NET_ADMIN") {
		protocols = append(protocols, netlinkXfrm, netlinkNetfilter, netlinkGeneric)
	}
	family := Rule{Names: []string{"socket"}, Action: Errno(eperm)}
	for _, f := range families {
		family.Args = append(family.Args, isNotInt(0, f))
	}
	netlink := Rule{Names: []string{"socket"}, Action: Errno(eprotonosupport), Args: []Arg{isInt(0, afNetlink)}}
	for _, p := range protocols {
		netlink.Args = append(netlink.Args, isNotInt(2, p))
	}
	// A socketpair is of AF_UNIX alone (socketpair(2)), or of AF_TIPC.
	pair := Rule{Names: []string{"socketpair"}, Action: Errno(eperm), Args: []Arg{isNotInt(0, afUnix)}}
	return []Rule{family, netlink, pair}
}
