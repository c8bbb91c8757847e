package stage

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"cove/sandbox/seccomp"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// initCaps is what init needs besides what uid 0 inside has: to become a command's user, to reach
// processes of any user, to give a pty to its user, and to enter folders that are not its own.
var initCaps = []string{"CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL", "CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"}

// confine gives up, in this thread and so in all that is forked from it, what commands must not
// have. The other threads of init, which fork nothing, give up the same capabilities, and all of init is
// under the system call filter: what it still does, any program may.
func confine(sec spec.Security) error {
	if sec.ScopeAbstract {
		if err := scopeAbstract(); err != nil {
			return fmt.Errorf("close the host's abstract sockets: %w", err)
		}
	}
	if err := newKeyring(sec.Nested); err != nil {
		return err
	}
	bounding, err := capMask(sec.Caps)
	if err != nil {
		return err
	}
	for c := 0; c <= 63; c++ {
		if bounding&(1<<c) != 0 {
			continue
		}
		// EINVAL: this kernel knows no more capabilities. The other threads of init never exec.
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if err == unix.EINVAL {
			break
		}
		if err != nil {
			return fmt.Errorf("cut bounding set: %w", err)
		}
	}
	if !sec.NewPrivileges {
		// In this thread; the filter brings it to the others (seccomp_sync_threads, Linux 3.17).
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	// With no_new_privs an exec as uid 0 gets no more than the thread's permitted set, cut to the
	// bounding set (capabilities(7)); any other uid gets nothing, since nothing is inheritable.
	own, err := capMask(initCaps)
	if err != nil {
		return err
	}
	// The filter comes last, so that it need not allow what comes before it. Without no_new_privs it takes CAP_SYS_ADMIN
	// to load one (seccomp(2)), which is given up here.
	steps := []func() error{
		func() error { return setCaps(bounding | own) },
		func() error { return loadFilter(sec.Seccomp.Program) },
	}
	if sec.NewPrivileges {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// loadFilter never goes on without a filter.
func loadFilter(program []byte) error {
	if len(program) == 0 {
		return errors.New("bug: the Spec has no system call filter")
	}
	if err := seccomp.Load(program); err != nil {
		return fmt.Errorf("load the system call filter: %w", err)
	}
	return nil
}

// newKeyring leaves the caller's session keyring, whose keys would be usable inside (session-keyring(7)).
//
// Every sandbox's keyring counts as one of the user's keys, of which there can be kernel.keys.maxkeys, 200 (keyrings(7)): EDQUOT.
// The caller's keyring is then kept, but nothing inside can ask for a key in it or read one: every filter denies add_key, keyctl
// and request_key. With nested /proc/keys, which tells the keys' names, is not masked, so there it is an error.
func newKeyring(nested bool) error {
	// No name: an anonymous one, which nobody can join.
	var err error
	if _, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); errno != 0 {
		err = errno
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOSYS):
		return nil
	case errors.Is(err, unix.EPERM):
		// An outer sandbox denies keyctl, and does so to all that is forked here, as this one's own filter does.
		return nil
	case errors.Is(err, unix.EDQUOT) && !nested:
		return nil
	}
	return fmt.Errorf("make a session keyring: %w", err)
}

// scopeAbstract enters a landlock domain from which abstract sockets outside cannot be reached
// (landlock(7), ABI 6, Linux 6.12).
func scopeAbstract() error {
	attr := struct{ fs, net, scoped uint64 }{scoped: landlockScopeAbstract}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return nil
}

const landlockScopeAbstract = 1 << 0 // LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET

func capMask(names []string) (uint64, error) {
	var mask uint64
	for _, name := range names {
		n, ok := spec.CapNumber(name)
		if !ok {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		mask |= 1 << n
	}
	return mask, nil
}

// setCaps sets the permitted and effective sets of every thread and empties the inheritable one,
// and with it the ambient set.
func setCaps(mask uint64) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	lo, hi := uint32(mask), uint32(mask>>32)
	data := [2]unix.CapUserData{{Effective: lo, Permitted: lo}, {Effective: hi, Permitted: hi}}
	var pin runtime.Pinner
	pin.Pin(&head)
	pin.Pin(&data)
	defer pin.Unpin()
	if err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&data[0])), 0); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// allThreads makes a system call that works on one thread in all of them. A build with cgo
// cannot: there the calling thread alone is changed, which is the one that commands come from.
func allThreads(trap, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a1, a2, a3, 0, 0, 0)
	if errno == syscall.ENOTSUP {
		_, _, errno = syscall.RawSyscall6(trap, a1, a2, a3, 0, 0, 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}
