package seccomp

import "math"

// WithoutNamespaces are the further denials for a command that no namespace holds, only landlock of the given ABI: what a
// namespace would have made harmless, and what landlock does not see.
func WithoutNamespaces(abi int, hostNetwork bool) []Rule {
	deny := []Rule{
		// Shared by all processes of the machine. landlock knows none of it.
		refuse(eperm, "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semctl",
			"msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr"),
		// Limits and priorities of the user's other processes; one's own are number 0.
		{Names: []string{"prlimit64"}, Action: Errno(eperm), Args: []Arg{isNotInt(0, 0), {Index: 2, Op: NotEqual}}},
		{Names: []string{"setpriority", "ioprio_set"}, Action: Errno(eperm), Args: []Arg{isNotInt(1, 0)}},
		// A pair of datagram sockets, which a raw one of AF_UNIX is too, can be connected anew: to the log, to a service's
		// socket. One of streams cannot.
		{Names: []string{"socketpair"}, Action: Errno(eprotonosupport), Args: []Arg{
			{Index: 1, Op: MaskedNotEqual, Value: sockTypeMask, ValueTwo: sockStream}, {Index: 1, Op: MaskedNotEqual, Value: sockTypeMask, ValueTwo: sockSeqpacket}}},
	}
	if hostNetwork {
		// landlock does not stop connect(2) to a socket's file, behind which anything may listen: D-Bus starts programs.
		deny = append(deny, Rule{Names: []string{"socket"}, Action: Errno(eperm), Args: []Arg{isInt(0, afUnix)}})
	} else {
		// Of networks landlock knows TCP alone.
		deny = append(deny, refuse(eperm, "socket", "connect", "bind", "listen"))
	}
	if abi < 3 {
		// landlock does not see truncation yet: truncate(2), and open(2) of a file that may be read alone.
		deny = append(deny, refuse(eperm, "truncate", "truncate64"))
		deny = append(deny, opens(oTrunc|oAccessMode, oTrunc)...)
	}
	// A device that is opened for neither reading nor writing, for ioctl(2) alone, needs no right of landlock's. It sees such
	// calls since ABI 5; until then openat2, whose flags lie behind a pointer, is not there, as before Linux 5.6.
	deny = append(deny, opens(oAccessMode, oAccessMode)...)
	if abi < 5 {
		deny = append(deny, refuse(enosys, "openat2"))
	}
	if abi < 6 {
		// Nor signals. One to everybody is never meant.
		deny = append(deny, Rule{Names: []string{"kill"}, Action: Errno(eperm), Args: []Arg{isInt(0, math.MaxUint32)}}, refuse(eperm, "pidfd_send_signal"))
	}
	return deny
}

// Of socket(2) and open(2), the same on all of Arches.
const (
	sockStream, sockSeqpacket, sockTypeMask = 1, 5, 0xf

	oAccessMode, oTrunc = 3, 0x200
)

// opens refuses to open a file with flags that have this value under the mask.
func opens(mask, value uint64) []Rule {
	flags := func(name string, index int) Rule {
		return Rule{Names: []string{name}, Action: Errno(eperm), Args: []Arg{{Index: index, Op: MaskedEqual, Value: mask, ValueTwo: value}}}
	}
	return []Rule{flags("open", 1), flags("openat", 2)}
}
