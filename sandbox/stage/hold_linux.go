package stage

import (
	"cove/userns/fdpass"
)

// HoldName is the stage that only holds a user namespace, until its parent has taken hold of it.
const HoldName = "cove-hold"

func holdMain(conn *fdpass.Conn) int {
	var nothing struct{}
	_, _ = conn.Recv(&nothing)
	return 0
}
