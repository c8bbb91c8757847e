package userns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"cove/userns/fdpass"
	"cove/userns/fork"

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
	Slack      uintptr    // how late the stage's timers may be, see fork.Exec
	Bare       bool       // no namespace at all, and SIGTERM instead of SIGKILL when this process dies
}

// Child is a started stage, waiting for its first message.
type Child struct {
	Conn   *fdpass.Conn
	forked *fork.Child

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

// Map maps the stage's ids; it is to be called once.
func (c *Child) Map(ctx context.Context, m IDMap) error {
	wait, err := c.StartMap(ctx, m)
	if err != nil {
		return err
	}
	return wait()
}

// StartMap is Map for who has other things to do meanwhile: wait, which is to be called once, returns when it is done.
func (c *Child) StartMap(ctx context.Context, m IDMap) (wait func() error, err error) {
	return startMaps(ctx, c.forked.Pid, m)
}

// Discard ends a stage that is of no use, and waits until it is gone.
func (c *Child) Discard() {
	c.Kill()
	_, _ = c.Wait()
	_ = c.Conn.Close()
}

// Fork makes namespaces with a stage of this binary in them; cfg.IDMap is not looked at. The stage is
// exec'ed before it has ids, keeps its capabilities over that exec as ambient ones
// (capabilities(7)), and must do nothing that takes ids before it hears that it has them.
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
	attr := &syscall.ProcAttr{Env: append([]string{}, cfg.Env...), Dir: "/", Sys: fork.InNamespaces(cfg.Namespaces, !cfg.Stdio)}
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
	forked, err := fork.Exec(path, []string{cfg.Stage}, attr, cfg.Slack)
	runtime.KeepAlive(inherited)
	if err != nil {
		conn.Close()
		return nil, startError(path, err)
	}
	return &Child{Conn: conn, forked: forked}, nil
}

// Adopt makes a Child of a stage that was forked by package fork's own means, and of the socket whose other end it has
// at ConnFD.
func Adopt(forked *fork.Child, conn int) (*Child, error) {
	c, err := fdpass.FromFD(conn)
	if err != nil {
		return nil, err
	}
	return &Child{Conn: c, forked: forked}, nil
}

// Pid is the stage's process id out here.
func (c *Child) Pid() int { return c.forked.Pid }

// Kill sends SIGKILL. Where the stage is PID 1 of a pid namespace, all of that dies with it.
func (c *Child) Kill() { c.Signal(unix.SIGKILL) }

// Signal sends a signal, unless the stage has ended.
func (c *Child) Signal(sig unix.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		_ = unix.Kill(c.forked.Pid, sig)
	}
}

// Wait waits for the stage's end and returns its wait status. It is to be called once.
func (c *Child) Wait() (syscall.WaitStatus, error) {
	<-c.forked.Ended
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.forked.Pid, &status, 0, nil)
		if err == nil {
			return status, nil
		}
		if err != syscall.EINTR {
			return 0, os.NewSyscallError("wait4", err)
		}
	}
}

// CloseOnExec keeps the descriptors that this process inherited from what it starts.
func CloseOnExec() { fork.CloseOnExec() }

// executable is fork.Executable, with what is wrong.
func executable() (string, error) {
	path, ok := fork.Executable()
	if ok {
		return path, nil
	}
	if path == "" {
		return "", errors.New("find this program's own file: /proc/self/exe cannot be read")
	}
	return "", fmt.Errorf("%s is no longer the file that this program was started from (an upgrade?): start it again", path)
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
