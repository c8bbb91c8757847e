package sandbox

import (
	"errors"
	"fmt"
	"time"

	"cove/sandbox/console"
	"cove/sandbox/early"
	"cove/sandbox/spec"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// ExecInput is what `cove exec` changes of a sandbox's own process.
type ExecInput struct {
	Argv    []string
	Env     []string // "K=V", on top of the sandbox's environment
	Workdir string   // "" is the sandbox's
	User    string   // "" is the sandbox's
}

func (in ExecInput) changes() *spec.Changes {
	c := &spec.Changes{Cwd: spec.Path(in.Workdir), User: in.User}
	for _, a := range in.Argv {
		c.Argv = append(c.Argv, spec.Arg(a))
	}
	for _, e := range in.Env {
		c.Env = append(c.Env, spec.Arg(e))
	}
	return c
}

// Exec starts one more command in a running sandbox and returns how it ended. It makes no
// namespace and joins none: init forks the command, under the same caps and limits.
func Exec(name string, in ExecInput, o Options) (Status, error) {
	asked := early.TakeSession(name, sandboxesDir(o.RuntimeDir))
	if asked != nil && asked.Same {
		return join(asked.Dir, asked, spec.Start{Changes: in.changes()}, o)
	}
	dir, r, err := find(o.RuntimeDir, name)
	if err != nil {
		asked.Close()
		return Status{}, err
	}
	return join(dir, asked, spec.Start{Process: r.Process.With(in.changes())}, o)
}

// join runs a process as a client of the sandbox in dir. asked is a session that was asked for before, of which it is not known whether
// it is of that sandbox; it may be nil.
func join(dir string, asked *early.Session, command spec.Start, o Options) (Status, error) {
	said := listenVerdict(dir)
	defer said.close()
	refused := listenRefused(dir)
	defer refused.close()
	conn, err := openSession(dir, asked)
	if err != nil {
		return Status{}, err
	}
	defer conn.Close()
	defer refused.tell(o.warn)
	exited, err := console.Run(conn, command, console.Stdio{In: o.Stdin, Out: o.Stdout, Err: o.Stderr, TTY: console.UseTTY(o.Stdin, o.Stdout)})
	if v := said.get(errors.Is(err, console.ErrLost)); v != nil {
		return Status{Code: v.Code, Text: v.Text}, nil
	}
	if err != nil {
		return Status{}, err
	}
	return Status{Code: exited.Code, Signal: exited.Signal, Text: exited.Text}, nil
}

// openSession connects to the sandbox in dir and asks for a session, where that was not done.
func openSession(dir string, asked *early.Session) (*fdpass.Conn, error) {
	if asked != nil && asked.Dir == dir {
		conn, err := fdpass.FromFD(asked.Conn)
		if err == nil && asked.Same {
			conn.Same()
		}
		return conn, err
	}
	asked.Close()
	conn, err := dialSocket(dir)
	if err != nil {
		return nil, err
	}
	if err := conn.Send(request{Session: true}); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w (%w)", console.ErrNotStarted, err)
	}
	return conn, nil
}

// Stop asks a running sandbox to end: SIGTERM to its commands, SIGKILL to what is left ten seconds
// later. It returns when nothing of it is left.
func Stop(runtimeDir, name string) error {
	dir, r, err := find(runtimeDir, name)
	if err != nil {
		return err
	}
	conn, err := dialSocket(dir)
	if err != nil {
		return fmt.Errorf("stop %q: %w", r.Name, err)
	}
	defer conn.Close()
	if err := conn.Send(request{Stop: int(unix.SIGTERM)}); err != nil {
		return fmt.Errorf("stop %q: %w", r.Name, err)
	}
	deadline := time.Now().Add(killAfter + 10*time.Second)
	for time.Now().Before(deadline) {
		if running, err := alive(dir); err != nil || !running {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("stop %q: %w", r.Name, errors.New("it is still there"))
}
