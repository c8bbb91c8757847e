package sandbox

import (
	"context"
	"errors"
	"os"

	"cove/sandbox/signals"
	"cove/sandbox/spec"
	"cove/sandbox/stage"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// UnshareMount is one image to look into: its layers, lowest first, read-only at Target.
type UnshareMount struct {
	Layers []string
	Target string
}

// Unshare runs a command on the host's own root file system, in a user namespace with the store's
// ids mapped, where what the store and its sandboxes own can be reached. It protects from nothing.
func Unshare(ctx context.Context, m userns.IDMap, mounts []UnshareMount, argv []string) (Status, error) {
	child, err := userns.Start(ctx, userns.Config{Stage: stage.UnshareName, IDMap: m, Namespaces: unix.CLONE_NEWNS, Stdio: true, Foreign: true})
	if err != nil {
		return Status{}, err
	}
	defer child.Conn.Close()
	// The command is in the foreground with us: the terminal's signals reach it by themselves.
	incoming := make(chan os.Signal, 8)
	signals.Notify(incoming, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP)
	defer signals.Stop(incoming)
	go func() {
		for sig := range incoming {
			if sig == unix.SIGTERM || sig == unix.SIGHUP {
				_ = unix.Kill(child.Pid(), sig.(unix.Signal))
			}
		}
	}()
	start := stage.UnshareStart{IDMap: m}
	for _, a := range argv {
		start.Argv = append(start.Argv, spec.Arg(a))
	}
	for _, mount := range mounts {
		out := stage.UnshareMount{Target: spec.Path(mount.Target)}
		for _, l := range mount.Layers {
			out.Layers = append(out.Layers, spec.Path(l))
		}
		start.Mounts = append(start.Mounts, out)
	}
	if err := child.Conn.Send(start); err != nil {
		return Status{}, err
	}
	// The socket closes when the stage becomes the command; before that it says why it did not.
	var failed spec.Exited
	_, rerr := child.Conn.Recv(&failed)
	ws, err := child.Wait()
	switch {
	case err != nil:
		return Status{}, err
	case rerr == nil:
		return Status{Code: failed.Code, Text: failed.Text}, nil
	case ws.Signaled():
		return Status{Signal: int(ws.Signal())}, nil
	case ws.Exited():
		return Status{Code: ws.ExitStatus()}, nil
	}
	return Status{}, errors.New("the command neither exited nor was killed")
}
