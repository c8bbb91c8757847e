package sandbox

import (
	"errors"
	"fmt"
	"time"

	"cove/sandbox/console"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// ExecInput is what `cove exec` changes of a sandbox's own process.
type ExecInput struct {
	Argv    []string
	Env     []string // "K=V", on top of the sandbox's environment
	Workdir string   // "" is the sandbox's
	User    string   // "" is the sandbox's
}

// Exec starts one more command in a running sandbox and returns how it ended. It makes no
// namespace and joins none: init forks the command, under the same caps and limits.
func Exec(name string, in ExecInput, o Options) (Status, error) {
	dir, r, err := find(o.RuntimeDir, name)
	if err != nil {
		return Status{}, err
	}
	return join(dir, execProcess(r.Process, in), o)
}

// execProcess is the sandbox's own process with what the caller asked for instead.
func execProcess(p spec.Process, in ExecInput) spec.Process {
	p.Argv = nil
	for _, a := range in.Argv {
		p.Argv = append(p.Argv, spec.Arg(a))
	}
	for _, e := range in.Env {
		p.Env = setEnv(p.Env, e)
	}
	if in.Workdir != "" {
		p.Cwd, p.MakeCwd = spec.Path(in.Workdir), false
	}
	if in.User != "" {
		p.User, p.Home = in.User, ""
	}
	return p
}

func setEnv(env []spec.Arg, entry string) []spec.Arg {
	name := entry
	for i := range entry {
		if entry[i] == '=' {
			name = entry[:i+1]
			break
		}
	}
	out := make([]spec.Arg, 0, len(env)+1)
	for _, e := range env {
		if len(e) < len(name) || string(e[:len(name)]) != name {
			out = append(out, e)
		}
	}
	return append(out, spec.Arg(entry))
}

// join runs a process as a client of the sandbox in dir.
func join(dir string, p spec.Process, o Options) (Status, error) {
	said := listenVerdict(dir)
	defer said.close()
	refused := listenRefused(dir)
	defer refused.close()
	conn, err := dialSocket(dir)
	if err != nil {
		return Status{}, err
	}
	defer conn.Close()
	if err := conn.Send(request{Session: true}); err != nil {
		return Status{}, fmt.Errorf("%w (%w)", console.ErrNotStarted, err)
	}
	defer refused.tell(o.warn)
	exited, err := console.Run(conn, p, console.Stdio{In: o.Stdin, Out: o.Stdout, Err: o.Stderr, TTY: console.UseTTY(o.Stdin, o.Stdout)})
	if v := said.get(errors.Is(err, console.ErrLost)); v != nil {
		return Status{Code: v.Code, Text: v.Text}, nil
	}
	if err != nil {
		return Status{}, err
	}
	return Status{Code: exited.Code, Signal: exited.Signal, Text: exited.Text}, nil
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
