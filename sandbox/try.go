package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/stage"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// tryTime bounds TryNetwork; a driver is up within 60 ms.
const tryTime = 20 * time.Second

// TryNetwork starts a user-mode network as a sandbox does, in namespaces in which nothing else runs and
// which are gone when it returns: the driver, the interface, its addresses and the filter that keeps
// the host's out. Not one packet is sent by it.
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
	link, err := driver.Attach(ctx, child.Pid(), name)
	if err != nil {
		return err
	}
	defer link.Close()
	if err := child.Conn.Send(stage.NetworkStart{Link: link.Link, IDMap: m}); err != nil {
		return fmt.Errorf("talk to %s: %w", stage.NetworkName, err)
	}
	var reply stage.NetworkReply
	if _, err := child.Conn.Recv(&reply); err != nil {
		return fmt.Errorf("talk to %s: %w", stage.NetworkName, errors.Join(ctx.Err(), err))
	}
	if reply.Error != "" {
		return errors.New(reply.Error)
	}
	return nil
}
