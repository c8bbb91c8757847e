package stage

import (
	"fmt"
	"os"

	"cove/userns"
	"cove/userns/fdpass"
)

// HoldName is the stage that only holds a user namespace, until its parent has taken hold of it.
const HoldName = "cove-hold"

func holdMain() int {
	conn, err := fdpass.FromFD(userns.ConnFD)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: a part of cove that only cove starts\n", HoldName)
		return 2
	}
	var nothing struct{}
	_, _ = conn.Recv(&nothing)
	return 0
}
