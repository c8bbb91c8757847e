package stage

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"cove/sandbox/memory"
	"cove/sandbox/signals"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// A terminal session has a leader that is not its command: a process group whose members' parents
// are all outside the session is orphaned, and the kernel does not stop it on ^Z (setpgid(2),
// POSIX). The leader stops when its command stops and ends as its command ends, so that init sees
// of the leader what happened to the command.

// leaderStart is what init tells the leader; leaderReply is its answer, 0 when the command runs.
type leaderStart struct {
	Path      string
	Argv, Env [][]byte
	Filter    []byte // by way of cove-confine, with the ruleset that is the leader's descriptor after its socket
}

type leaderReply struct{ Errno int }

// handToLeader gives the command to the leader at the other end of conn and waits until it runs.
func (c *command) handToLeader(conn *fdpass.Conn, confine *confinement) error {
	start := c.start()
	if confine != nil {
		start.Filter = confine.filter
	}
	if err := conn.Send(start); err != nil {
		return fmt.Errorf("talk to %s: %w", LeaderName, err)
	}
	var reply leaderReply
	if _, err := conn.Recv(&reply); err != nil {
		return fmt.Errorf("talk to %s: %w", LeaderName, err)
	}
	if reply.Errno != 0 {
		return c.execError(syscall.Errno(reply.Errno))
	}
	return nil
}

// start is the command for a stage that is to start it or to become it. Its words may hold any byte.
func (c *command) start() leaderStart {
	start := leaderStart{Path: c.path}
	for _, a := range c.argv {
		start.Argv = append(start.Argv, []byte(a))
	}
	for _, e := range c.env {
		start.Env = append(start.Env, []byte(e))
	}
	return start
}

func leaderMain(conn *fdpass.Conn) int {
	// It runs as the command's user, and must not be a way to this program's memory.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return codeFailed
	}
	var start leaderStart
	if _, err := conn.Recv(&start); err != nil {
		return codeFailed
	}
	incoming := make(chan os.Signal, 16)
	// SIGTSTP too: a ^Z before the command has the terminal comes by way of the client, and Go's own handler drops it.
	signal.Notify(incoming, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP)
	signals.DefaultIgnored()
	signals.Unblock()
	pid, err := start.fork(&syscall.ProcAttr{
		Env:   texts(start.Env),
		Files: []uintptr{0, 1, 2},
		// With SIGKILL the leader takes the command along, which may ignore the hangup that follows.
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: true, Ctty: 0, Pdeathsig: unix.SIGKILL},
	})
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EIO
	}
	_ = conn.Send(leaderReply{Errno: int(errno)})
	conn.Close()
	if err != nil {
		return codeFailed
	}
	go func() {
		for sig := range incoming {
			_ = unix.Kill(-pid, sig.(unix.Signal))
		}
	}()
	memory.GiveBackSoon()
	return follow(pid)
}

func (l *leaderStart) fork(attr *syscall.ProcAttr) (pid int, err error) {
	fork := func(path string, argv []string, attr *syscall.ProcAttr) (err error) {
		pid, err = syscall.ForkExec(path, argv, attr)
		return err
	}
	if l.Filter == nil {
		err = fork(l.Path, texts(l.Argv), attr)
		return pid, err
	}
	unix.CloseOnExec(leaderRules)
	c := confinement{rules: os.NewFile(leaderRules, "landlock ruleset"), filter: l.Filter}
	defer c.rules.Close()
	err = c.start(*l, attr, fork)
	return pid, err
}

// leaderRules is the landlock ruleset, after the leader's socket.
const leaderRules = userns.ConnFD + 1

func texts(in [][]byte) []string {
	out := make([]string, 0, len(in))
	for _, b := range in {
		out = append(out, string(b))
	}
	return out
}

// follow stops, goes on and ends as the command does.
func follow(pid int) int {
	for {
		var ws syscall.WaitStatus
		_, err := syscall.Wait4(pid, &ws, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return codeFailed
		case ws.Exited():
			return ws.ExitStatus()
		case ws.Signaled():
			endBy(ws.Signal())
			return 128 + int(ws.Signal())
		case ws.Stopped():
			// Until the client goes on, and init with it, by SIGCONT.
			_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
			signals.WithBlocked(unix.SIGTTOU, func() {
				_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, pid)
			})
			_ = unix.Kill(-pid, unix.SIGCONT)
		}
	}
}

// endBy ends this process by a signal, without a core.
func endBy(sig syscall.Signal) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Reset(sig)
	// For a fault or SIGQUIT Go's own handler stays, which prints every goroutine and exits with 2.
	signals.WithDefault(sig, func() {
		_ = unix.Kill(os.Getpid(), sig)
		// A moment for its delivery to whichever thread takes it.
		_ = unix.Nanosleep(&unix.Timespec{Sec: 1}, nil)
	})
}
