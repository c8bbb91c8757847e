package stage

import (
	"fmt"
	"os"
	"runtime"

	"cove/sandbox/early"
	"cove/sandbox/integration/inside"
	"cove/userns"
	"cove/userns/fdpass"
)

// The names of the stages, as argv[0].
const (
	InitName   = early.InitName
	LeaderName = "cove-leader"
)

// A stage takes over here, before the packages that only the commands need are initialised: that
// saves 2 to 3 ms of every start, since packages are initialised in the order of their import
// paths as far as their imports allow (Go 1.21).
func init() {
	if len(os.Args) == 0 {
		return
	}
	if program := inside.Program(os.Args[0]); program != nil {
		os.Exit(program(os.Args[1:]))
	}
	// What stages give up or take on, and what they fork, is a thread's affair: it stays the main one.
	if name := os.Args[0]; name == ConfineName {
		runtime.LockOSThread()
		os.Exit(confineMain())
	} else if main := stageOf(name); main != nil {
		// All init functions are run on that one anyway (package runtime), and init never leaves this one. Were it bound
		// to it by name, another thread would be kept for others to be cloned from. Here they come from the main one, and
		// have given up what it has; that costs less, and every start pays it.
		if name != InitName {
			runtime.LockOSThread()
		}
		conn, err := fdpass.FromFD(userns.ConnFD)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: a part of cove that only cove starts\n", name)
			os.Exit(2)
		}
		os.Exit(main(conn))
	}
}

// stageOf is what a stage does with its socket to the process that started it; nil for what is no stage's name.
func stageOf(name string) func(*fdpass.Conn) int {
	switch name {
	case InitName:
		return initMain
	case LeaderName:
		return leaderMain
	case LandlockName:
		return landlockMain
	case HoldName:
		return holdMain
	case UnshareName:
		return unshareMain
	case FuseName:
		return fuseMain
	case NetworkName:
		return networkMain
	}
	return nil
}
