package userns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// ConnFD is the descriptor at which a stage finds its socket to the parent; Config.Files follow it.
const ConnFD = 3

// Config says what Start is to start.
type Config struct {
	Stage      string     // argv[0]: which of our stages this is
	IDMap      IDMap      // what to map into the new user namespace
	Namespaces uintptr    // CLONE_NEW* besides CLONE_NEWUSER (namespaces(7))
	Files      []*os.File // inherited at ConnFD+1 and up; they stay the caller's own
	Stdio      bool       // hand on 0, 1 and 2; otherwise they are /dev/null
	Env        []string   // the stage's whole environment; nothing of the caller's unless Foreign
	Foreign    bool       // the stage keeps the environment (never for one that runs what is not trusted)
	Bare       bool       // no namespace at all, and SIGTERM instead of SIGKILL when this process dies
}

// Child is a started stage with its ids mapped, waiting for its first message.
type Child struct {
	Conn *fdpass.Conn
	pid  int
	done chan struct{} // closed by Wait: lets the starting thread go

	mu    sync.Mutex
	ended bool // pid is reaped, and may be another's
}

// Start makes namespaces with a stage of this binary in them and maps its ids: Fork, and then Map
// with cfg.IDMap. On error nothing is left running.
func Start(ctx context.Context, cfg Config) (*Child, error) {
	c, err := Fork(cfg)
	if err != nil {
		return nil, err
	}
	if err := c.Map(ctx, cfg.IDMap); err != nil {
		c.Discard()
		return nil, err
	}
	return c, nil
}

// Map maps the stage's ids; it is to be called once, before the stage's first message.
func (c *Child) Map(ctx context.Context, m IDMap) error {
	wait, err := c.StartMap(ctx, m)
	if err != nil {
		return err
	}
	return wait()
}

// StartMap is Map for who has other things to do meanwhile: wait, which is to be called once, returns when it is done.
func (c *Child) StartMap(ctx context.Context, m IDMap) (wait func() error, err error) {
	return startMaps(ctx, c.pid, m)
}

// Discard ends a stage that is of no use, and waits until it is gone.
func (c *Child) Discard() {
	c.Kill()
	_, _ = c.Wait()
	_ = c.Conn.Close()
}

// Fork makes namespaces with a stage of this binary in them; cfg.IDMap is not looked at. The stage is
// exec'ed before it has ids, keeps its capabilities over that exec as ambient ones
// (capabilities(7)), and must do nothing before its first message arrives: that comes after Map.
// It dies when this process does. On error nothing is left running.
func Fork(cfg Config) (*Child, error) {
	path, err := executable()
	if err != nil {
		return nil, err
	}
	conn, theirs, err := fdpass.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	attr := &syscall.ProcAttr{Env: append([]string{}, cfg.Env...), Dir: "/", Sys: &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | cfg.Namespaces | likeVfork,
		AmbientCaps: allCaps(),
		Pdeathsig:   unix.SIGKILL,
		Setsid:      !cfg.Stdio,
	}}
	if cfg.Bare {
		attr.Sys = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM, Setsid: true}
	}
	if cfg.Foreign {
		attr.Env, attr.Dir = os.Environ(), ""
	}
	stdio := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	if !cfg.Stdio {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer null.Close()
		stdio = []*os.File{null, null, null}
	}
	inherited := append(append(stdio, theirs), cfg.Files...)
	for _, f := range inherited {
		attr.Files = append(attr.Files, f.Fd())
	}
	CloseOnExec()
	c := &Child{Conn: conn, done: make(chan struct{})}
	err = c.fork(path, []string{cfg.Stage}, attr)
	runtime.KeepAlive(inherited)
	if err != nil {
		conn.Close()
		return nil, startError(path, err)
	}
	return c, nil
}

// likeVfork lets the child borrow this process's memory until its exec. Package syscall does so by itself but for
// CLONE_NEWUSER, where it may have to write the maps of a child that waits for them; here that is done after the exec.
// A copy would cost more than its making: every page that this process writes to meanwhile has to be copied, and each
// time the other processors are interrupted to forget the old one.
const likeVfork = unix.CLONE_VM | unix.CLONE_VFORK

// fork runs the fork on a thread of its own that lives as long as the child: PR_SET_PDEATHSIG
// fires when the parent *thread* ends, not the process (PR_SET_PDEATHSIG(2const)). It does without
// package os/exec, which forks a process more to find out what the kernel can do.
func (c *Child) fork(path string, argv []string, attr *syscall.ProcAttr) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		var err error
		c.pid, err = syscall.ForkExec(path, argv, attr)
		started <- err
		if err == nil {
			<-c.done
		}
	}()
	return <-started
}

// Pid is the stage's process id out here.
func (c *Child) Pid() int { return c.pid }

// Kill sends SIGKILL. Where the stage is PID 1 of a pid namespace, all of that dies with it.
func (c *Child) Kill() { c.Signal(unix.SIGKILL) }

// Signal sends a signal, unless the stage has ended.
func (c *Child) Signal(sig unix.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		_ = unix.Kill(c.pid, sig)
	}
}

// Wait waits for the stage's end and returns its wait status. It is to be called once.
func (c *Child) Wait() (syscall.WaitStatus, error) {
	defer close(c.done)
	// First without reaping: until Kill knows that it has ended, its number must not be another's.
	for {
		err := unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.pid, &status, 0, nil)
		if err == nil {
			return status, nil
		}
		if err != syscall.EINTR {
			return 0, os.NewSyscallError("wait4", err)
		}
	}
}

// CloseOnExec keeps the descriptors that this process inherited from what it starts: Go marks the
// ones that it opens itself, but what a shell or a build tool left open (a lock file, the end of a
// pipe, a folder) would be handed on into the sandbox.
func CloseOnExec() {
	// The flag came with Linux 5.11; a seccomp filter around us may not know the call.
	if unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	names, _ := os.ReadDir("/proc/self/fd")
	for _, e := range names {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// executable returns the path of this binary, verified to still be it. The stage must be
// exec'ed by path: through /proc/self/exe its file would lie on the host's mount, where
// /proc/1/exe could be opened for writing; by path it lies on the new mount namespace's copy,
// which the stage makes read-only.
func executable() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	var self, there unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &self); err != nil {
		return "", fmt.Errorf("stat /proc/self/exe: %w", err)
	}
	if err := unix.Stat(path, &there); err != nil {
		return "", fmt.Errorf("find this program's own file %s: %w", path, err)
	}
	if self.Dev != there.Dev || self.Ino != there.Ino {
		return "", fmt.Errorf("%s is no longer the file that this program was started from (an upgrade?): start it again", path)
	}
	return path, nil
}

// allCaps lists every capability that this kernel knows.
func allCaps() []uintptr {
	last := uintptr(unix.CAP_LAST_CAP)
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			last = uintptr(n)
		}
	}
	caps := make([]uintptr, 0, last+1)
	for c := uintptr(0); c <= last; c++ {
		caps = append(caps, c)
	}
	return caps
}

// A NamespaceError says that the kernel refused to make the namespaces. Err is the errno: EPERM
// where a sysctl forbids it, EACCES where AppArmor or SELinux does, ENOSPC where user.max_user_namespaces is reached, EUSERS
// where they are nested too deeply (clone(2)).
type NamespaceError struct{ Err error }

func (e *NamespaceError) Error() string { return "create user namespace: " + e.Err.Error() }
func (e *NamespaceError) Unwrap() error { return e.Err }

// startError tells the two system calls behind err apart: clone(2) and the execve(2) of path.
func startError(path string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		switch errno {
		case unix.EACCES:
			if unix.Access(path, unix.X_OK) == nil {
				return &NamespaceError{errno}
			}
		case unix.EPERM, unix.ENOSPC, unix.EUSERS, unix.EINVAL:
			return &NamespaceError{errno}
		}
	}
	return fmt.Errorf("start stage: %w", err)
}
