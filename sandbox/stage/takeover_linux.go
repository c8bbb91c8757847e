package stage

import (
	"os"
	"runtime"

	"cove/sandbox/early"
)

// The names of the stages, as argv[0].
const (
	InitName   = early.InitName
	LeaderName = "cove-leader"
)

// A stage takes over here, before the packages that only the commands need are initialised: that
// saves 2 to 3 ms of every start, since packages are initialised in the order of their import
// paths as far as their imports allow (Go 1.21). Each checks that its socket is there.
func init() {
	if len(os.Args) == 0 {
		return
	}
	switch os.Args[0] {
	case InitName:
		runtime.LockOSThread()
		os.Exit(initMain())
	case HoldName:
		os.Exit(holdMain())
	case UnshareName:
		runtime.LockOSThread()
		os.Exit(unshareMain())
	case FuseName:
		runtime.LockOSThread()
		os.Exit(fuseMain())
	case LandlockName:
		runtime.LockOSThread()
		os.Exit(landlockMain())
	case ConfineName:
		runtime.LockOSThread()
		os.Exit(confineMain())
	case NetworkName:
		runtime.LockOSThread()
		os.Exit(networkMain())
	case LeaderName:
		runtime.LockOSThread()
		os.Exit(leaderMain())
	}
}
