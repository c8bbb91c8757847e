package stage

import (
	"errors"
	"os"

	"cove/sandbox/network"
	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"
)

// NetworkName is the stage that sets a user-mode network up as init does, and ends: for `cove doctor`.
const NetworkName = "cove-try-network"

// NetworkStart tells it what to set up, NetworkReply how that went: "" is well. Before it, where the link asks for one,
// comes a reply with Tun and the interface's descriptor; then a question to the link's name server is part of the try.
type (
	NetworkStart struct {
		Link  spec.Link
		IDMap userns.IDMap
	}
	NetworkReply struct {
		Error string
		Tun   bool
	}
)

func networkMain(conn *fdpass.Conn) int {
	var start NetworkStart
	if _, err := conn.Recv(&start); err != nil {
		return 1
	}
	var reply NetworkReply
	if err := tryNetwork(&start, conn); err != nil {
		reply.Error = err.Error()
	}
	_ = conn.Send(reply)
	return 0
}

func tryNetwork(start *NetworkStart, conn *fdpass.Conn) error {
	var tun *os.File
	var err error
	if start.Link.Tun {
		if tun, err = network.OpenTun(start.Link, start.IDMap); err != nil {
			return err
		}
	}
	if err := becomeRoot(start.IDMap, conn); err != nil {
		return err
	}
	if err := errors.Join(network.Up(), network.Configure(start.Link)); err != nil {
		return err
	}
	if tun == nil {
		return nil
	}
	err = conn.Send(NetworkReply{Tun: true}, tun)
	tun.Close()
	if err != nil {
		return err
	}
	return network.AskForLocalhost(start.Link.DNS[0])
}
