package stage

import (
	"cove/sandbox/network"
	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"
)

// NetworkName is the stage that sets a user-mode network up as init does, and ends: for `cove doctor`.
const NetworkName = "cove-try-network"

// NetworkStart tells it what to set up, NetworkReply how that went: "" is well.
type (
	NetworkStart struct {
		Link  spec.Link
		IDMap userns.IDMap
	}
	NetworkReply struct{ Error string }
)

func networkMain(conn *fdpass.Conn) int {
	var start NetworkStart
	if _, err := conn.Recv(&start); err != nil {
		return 1
	}
	var reply NetworkReply
	err := becomeRoot(start.IDMap, conn)
	if err == nil {
		err = network.Configure(start.Link)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	_ = conn.Send(reply)
	return 0
}
