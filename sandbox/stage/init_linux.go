package stage

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"cove/sandbox/network"
	"cove/sandbox/rootfs"
	"cove/sandbox/signals"
	"cove/sandbox/spec"
	"cove/sandbox/trace"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// initMain is PID 1. It runs on the main thread, which becomes the one that commands are forked from.
func initMain(control *fdpass.Conn) int {
	trace.Inherit("init")
	trace.Step("began")
	limitSelf()
	control.Same()
	trace.Step("waits")
	var first spec.ToInit
	files, err := control.Recv(&first)
	if err != nil || first.Setup == nil {
		return 1 // the parent is gone
	}
	trace.Step("has the Spec")
	i := &initStage{control: control, spec: first.Setup.Spec}
	files, own := mainFiles(first.Setup, files)
	err = i.detach()
	trace.Step("detached itself")
	var second spec.ToInit
	if _, lost := control.Recv(&second); lost != nil || !second.Begin {
		return 1
	}
	trace.Step("has ids")
	if err != nil {
		_ = control.Send(spec.FromInit{Failed: failed(err)})
		return 1
	}
	if err := i.setUp(first.Setup, files); err != nil {
		_ = control.Send(spec.FromInit{Failed: failed(err)})
		return 1
	}
	if placed := i.placed; i.spec.Root.Persist && len(placed) > 0 {
		if err := control.Send(spec.FromInit{Placed: placed}); err != nil {
			return 1
		}
	}
	if i.prepared {
		if err := control.Send(spec.FromInit{Prepared: &spec.Prepared{Placed: i.placed}}); err != nil {
			return 1
		}
	}
	if err := control.Send(spec.FromInit{Ready: true}); err != nil {
		return 1
	}
	if first.Setup.Main != nil && first.Setup.Link.Tun {
		var third spec.ToInit
		if _, lost := control.Recv(&third); lost != nil || !third.Attached {
			return 1
		}
	}
	return i.serve(first.Setup.Main, own)
}

// mainFiles parts the descriptors that came with a Setup from those of its main command: the session's socket, and 0,
// 1 and 2 without a terminal.
func mainFiles(setup *spec.Setup, files []*os.File) (mounts, own []*os.File) {
	if setup.Main == nil {
		return files, nil
	}
	setup.Main.Process = setup.Spec.Process
	n := 4
	if setup.Main.TTY {
		n = 1
	}
	n = max(0, len(files)-n)
	return files[:n], files[n:]
}

func failed(err error) *spec.Failed {
	f := &spec.Failed{Text: err.Error()}
	var errno unix.Errno
	if errors.As(err, &errno) {
		f.Errno = int(errno)
	}
	return f
}

// initStage is the state of PID 1.
type initStage struct {
	control *fdpass.Conn
	spec    *spec.Spec
	watch   *watch
	spawner *spawner
	reaper  *reaper
	group   sessions
	placed  []spec.Placed
	// prepared says that placed is in a layer of its own, too.
	prepared bool
	held     holding
	confine  *confinement // what init's own thread does not hold its commands by; nil where there are namespaces
	endAll   func()       // ends every process that a command left; nil where the end of PID 1 does that
}

// detach is what takes no ids: while those are mapped, there is time for it.
func (i *initStage) detach() error {
	resetSignals()
	signals.IgnoreHandled()
	unix.Umask(0o022)
	resetPersonality()
	if err := rootfs.Detach(); err != nil {
		return err
	}
	if i.spec.Network.Mode == "host" {
		return nil
	}
	if err := network.Up(); err != nil {
		return fmt.Errorf("set up network: %w", err)
	}
	return nil
}

// usualSlack is the kernel's (PR_SET_TIMERSLACK(2const)), in nanoseconds, for where the caller's is not known.
const usualSlack = 50_000

// setUp makes the inside. The order matters: what lies on the host is opened with the caller's
// ids; ids change before anything is created; the thread gives up its rights last.
func (i *initStage) setUp(setup *spec.Setup, files []*os.File) error {
	s := setup.Spec
	// By now init is in its control group, which is all of them that can be seen from inside (cgroup_namespaces(7)).
	// This is the thread that commands are forked from.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make a cgroup namespace: %w", err)
	}
	// Init's own is another: package early says why.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(cmp.Or(setup.Slack, usualSlack)), 0, 0, 0)
	var tun *os.File
	if setup.Link.Tun {
		var err error
		if tun, err = network.OpenTun(setup.Link, s.IDMap); err != nil {
			return fmt.Errorf("set up network: %w", err)
		}
	}
	src, err := rootfs.Open(s, files)
	if err != nil {
		return err
	}
	trace.Step("opened sources")
	i.step(setup, "opened what lies on the host")
	if err := becomeRoot(s.IDMap, i.control); err != nil {
		return err
	}
	trace.Step("became root")
	root, err := src.Build(s, i.serveFuse)
	if err != nil {
		return err
	}
	i.placed = root.Placed()
	if i.prepared, err = root.Prepared(); err != nil {
		i.step(setup, "prepared nothing for the next start: "+err.Error())
	}
	trace.Step("built root")
	if err := i.sendListening(root.Listening()); err != nil {
		return fmt.Errorf("hand over the integrations' sockets: %w", err)
	}
	i.step(setup, "put the root file system together")
	if err := root.Enter(); err != nil {
		return err
	}
	trace.Step("entered root")
	i.step(setup, "entered it")
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("set hostname %q: %w", s.Hostname, err)
	}
	if s.Network.Mode != "host" {
		if err := network.Configure(setup.Link); err != nil {
			return fmt.Errorf("set up network: %w", err)
		}
	}
	if tun != nil {
		err := i.control.Send(spec.FromInit{Tun: true}, tun)
		tun.Close()
		if err != nil {
			return fmt.Errorf("hand over the network's interface: %w", err)
		}
	}
	if i.watch, err = newWatch(append(s.Protect.Views(), s.Repository.Views()...)); err != nil {
		return fmt.Errorf("watch the protected paths: %w", err)
	}
	if err := checkInherited(i.control.FD()); err != nil {
		return err
	}
	trace.Step("network, watch, checks")
	if err := confine(s.Security); err != nil {
		return err
	}
	trace.Step("confined")
	return nil
}

// step tells the parent what was done, when it asked.
func (i *initStage) step(setup *spec.Setup, what string) {
	if setup.Debug {
		_ = i.control.Send(spec.FromInit{Step: what})
	}
}

// sendListening sends the sockets that the parent serves, where there are any.
func (i *initStage) sendListening(sockets []*os.File) error {
	if len(sockets) == 0 {
		return nil
	}
	defer closeFiles(sockets)
	return i.control.Send(spec.FromInit{Listening: true}, sockets...)
}

// serveFuse sends /dev/fuse, mounted, to the parent, which starts fuse-overlayfs on it.
func (i *initStage) serveFuse(fuse *os.File, of int) error {
	return i.control.Send(spec.FromInit{Fuse: true, FuseOf: of}, fuse)
}

// resetSignals undoes what the caller's caller may have left: blocked and ignored signals are
// inherited over exec (execve(2)). Go's runtime leaves those alone that it has no use for.
func resetSignals() {
	signals.Unblock()
	signals.DefaultIgnored()
}

// resetPersonality undoes what setarch(8) or a debugger left: without address randomisation (ADDR_NO_RANDOMIZE), or with
// every page that can be read executable too (READ_IMPLIES_EXEC), what runs inside is easier to take over
// (personality(2)). It is the thread's own, and of all that is forked from it. Where a filter around us refuses, it is as it was.
func resetPersonality() { _, _, _ = unix.RawSyscall(unix.SYS_PERSONALITY, 0, 0, 0) }

// becomeRoot takes on id 0 inside, or the only one there is, and drops the groups of the caller.
// It then asks again to die with the parent, since a change of credentials forgets that
// (PR_SET_PDEATHSIG(2const)), and looks whether the parent died before it asked.
func becomeRoot(m userns.IDMap, control *fdpass.Conn) error {
	uid, gid := 0, 0
	if m.Single() {
		// setgroups is denied with one id (user_namespaces(7)): the caller's groups stay.
		uid, gid = int(m.UIDs[0].ContainerID), int(m.GIDs[0].ContainerID)
	} else if err := syscall.Setgroups(nil); err != nil { // of all threads, which package unix's is not
		return fmt.Errorf("drop groups: %w", err)
	}
	// Where the caller is that id, nothing changes, and every thread need not be stopped for it.
	if r, e, s := unix.Getresgid(); r != gid || e != gid || s != gid {
		if err := unix.Setresgid(gid, gid, gid); err != nil {
			return fmt.Errorf("become gid %d: %w", gid, err)
		}
	}
	if r, e, s := unix.Getresuid(); r != uid || e != uid || s != uid {
		if err := unix.Setresuid(uid, uid, uid); err != nil {
			return fmt.Errorf("become uid %d: %w", uid, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the parent: %w", err)
	}
	// Not dumpable: /proc/1/environ, mem and the descriptors are closed to what runs inside.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close init's memory: %w", err)
	}
	poll := []unix.PollFd{{Fd: int32(control.FD()), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
		return errors.New("the parent is gone")
	}
	return nil
}

// checkInherited makes sure that no directory of the host is open any more: from one, a way leads on to others.
func checkInherited(control int) error {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc/self/fd: %w", err)
	}
	defer unix.Close(dir)
	var names []string
	buf := make([]byte, 1024) // of a few dozen
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil {
			return fmt.Errorf("read /proc/self/fd: %w", err)
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	var st unix.Stat_t
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd == control || fd == dir {
			continue
		}
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return fmt.Errorf("bug: directory descriptor %d is still open", fd)
		}
	}
	return nil
}
