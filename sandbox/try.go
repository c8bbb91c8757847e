package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/programs"
	"cove/sandbox/spec"
	"cove/sandbox/stage"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// tryTime bounds TryNetwork; a driver is up within 60 ms.
const tryTime = 20 * time.Second

// TryNetwork starts a user-mode network as a sandbox does, in namespaces in which nothing else runs and
// which are gone when it returns: the driver, the interface, its addresses, and the filter that keeps
// the host's out or, of cove's own, a question that its name server answers without asking. Not one packet leaves by it.
func TryNetwork(ctx context.Context, m userns.IDMap, driver network.Driver, name string) error {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	child, err := userns.Start(ctx, userns.Config{
		Stage: stage.NetworkName, IDMap: m,
		Namespaces: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
	})
	if err != nil {
		return err
	}
	defer child.Discard()
	defer context.AfterFunc(ctx, child.Kill)()
	link, err := driver.Attach(ctx, child.Pid(), &spec.Network{Mode: "user", Driver: name}, programs.Find, nil)
	if err != nil {
		return err
	}
	defer link.Close()
	if err := child.Conn.Send(stage.NetworkStart{Link: link.Link, IDMap: m}); err != nil {
		return fmt.Errorf("talk to %s: %w", stage.NetworkName, err)
	}
	for {
		var reply stage.NetworkReply
		files, err := child.Conn.Recv(&reply)
		switch {
		case err != nil:
			return fmt.Errorf("talk to %s: %w", stage.NetworkName, errors.Join(ctx.Err(), err))
		case reply.Tun && len(files) == 1 && link.Serve != nil:
			if err := link.Serve(files[0]); err != nil {
				return err
			}
			continue
		case reply.Error != "":
			return errors.New(reply.Error)
		}
		return nil
	}
}
