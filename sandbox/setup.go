package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"cove/config"
	"cove/fetch/image"
	"cove/sandbox/console"
	"cove/sandbox/spec"
)

// ForSetup is what a profile's setup runs with: root in a fresh copy of the image, from / with the image's environment,
// and of everything else that was asked for only the network (config.Profile.ForSetup), the limits without the time and
// the policy of system calls. Nothing that was typed changes what comes of it. The capabilities are those of any sandbox
// at least: a profile that has none for its commands would have no package installed.
func (in Input) ForSetup() (Input, error) {
	if _, ok := in.IDMap.HostUID(0); !ok {
		return in, errors.New("setup runs as root inside, and of the one id that can be mapped here you are not root")
	}
	from := in.Profile
	limits, security := from.Limits, from.Security
	limits.Timeout = 0
	security.Caps = append(config.DefaultCaps(), config.ExpandCaps(security.Caps)...)
	slices.Sort(security.Caps)
	security.Caps = slices.Compact(security.Caps)
	security.Nested, security.NewPrivileges = false, false
	id := NewID()
	return Input{
		Profile: &config.Profile{Image: from.Image, User: "root", Workspace: config.Workspace{Mode: "none"}, Home: config.Home{Mode: "temp"},
			Network: from.ForSetup(), Limits: limits, Security: security, Origin: from.Origin},
		Host: in.Host, IDMap: in.IDMap, Image: in.Image,
		ID: id, Name: "setup" + idSuffix(id), Hostname: "setup", Argv: []string{"/bin/sh"}, Workdir: "/", Cwd: "/",
		BestEffort: in.BestEffort, LookupEnv: func(string) (string, bool) { return "", false },
	}, nil
}

// A SetUp is the work on an image that is set up: the sandbox that its commands run in, and who hears of it.
type SetUp struct {
	Spec     *spec.Spec
	Options  Options
	Base     *image.Image
	Commands []string
	// Begin is called before a command, and Output with what it writes: by several goroutines, where something that an
	// earlier one left running writes too.
	Begin  func(n int)
	Output io.Writer
	// Keep reads what has come of it, when all commands have ended well; nothing runs meanwhile.
	Keep func(*Held) error
}

// A CommandError says that a command of a setup did not end well.
type CommandError struct {
	N, Of   int // the first is 1
	Command string
	Status  Status
}

func (e *CommandError) Error() string {
	how := fmt.Sprintf("ended with exit code %d", e.Status.Code)
	switch {
	case e.Status.Text != "":
		how = e.Status.Text
	case e.Status.Signal != 0:
		how = fmt.Sprintf("was ended by signal %d", e.Status.Signal)
	}
	return fmt.Sprintf("setup: command %d of %d, %q: %s", e.N, e.Of, e.Command, how)
}

// Run makes the sandbox, runs the commands one after the other, and has what came of them read. Nothing of the sandbox is
// left when it returns, nor when this process dies before.
func (u *SetUp) Run(ctx context.Context) (err error) {
	o := u.Options
	o.setup = true
	box, err := start(ctx, u.Spec, o, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.end()) }()
	stop := context.AfterFunc(ctx, func() {
		box.stopped.Store(true)
		box.kill()
	})
	defer stop()
	for i, command := range u.Commands {
		if ctx.Err() != nil {
			break
		}
		u.Begin(i)
		status, err := u.command(box, command)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("setup: command %d of %d: %w", i+1, len(u.Commands), err)
		}
		if status.ExitCode() != 0 {
			return &CommandError{N: i + 1, Of: len(u.Commands), Command: command, Status: status}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := box.withinLimits(); err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	held, err := Hold(u.Options.RuntimeDir, u.Spec.ID, true)
	if err != nil {
		return err
	}
	defer held.Release()
	return u.Keep(held)
}

// lastWords is how long a command's output is waited for that something which it left running may still write to.
const lastWords = 200 * time.Millisecond

// command runs one of them, with nothing to read and a pipe to write to.
func (u *SetUp) command(box *box, text string) (Status, error) {
	r, w, err := console.Pipe()
	if err != nil {
		return Status{}, err
	}
	heard := make(chan struct{})
	go func() {
		_, _ = io.Copy(u.Output, r)
		r.Close()
		close(heard)
	}()
	status, err := u.session(box, text, w)
	w.Close()
	select {
	case <-heard:
	case <-time.After(lastWords):
	}
	return status, err
}

func (u *SetUp) session(box *box, text string, out *os.File) (Status, error) {
	conn, err := dialSocket(box.state.dir)
	if err != nil {
		return Status{}, err
	}
	defer conn.Close()
	if err := conn.Send(request{Session: true}); err != nil {
		return Status{}, err
	}
	p := box.spec.Process
	p.Argv = []spec.Arg{"/bin/sh", "-c", spec.Arg(text)}
	exited, err := console.Run(conn, spec.Start{Process: p}, console.Stdio{Out: out, Err: out})
	if err != nil {
		return box.judge(Status{}, err)
	}
	return box.judge(Status{Code: exited.Code, Signal: exited.Signal, Text: exited.Text}, nil)
}
