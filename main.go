// Cove is a private room for a shell: one command or one shell in namespaces of its own, with
// exactly the files, network and credentials that a profile grants.
//
// The two settings keep Go's runtime from reading the control group's CPU limits: it would hold those files of the
// host open in every stage, PID 1 of a sandbox among them.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"os"

	"cove/fetch/layer"
	"cove/fetch/layer/stage"
	"cove/sandbox"
	"cove/sandbox/cli"
	"cove/sandbox/host"
	"cove/sandbox/integration/outside"
	"cove/sandbox/network/driver"
	"cove/sandbox/quick" // its init takes over the usual `cove run`, before the packages that this does not need have begun
	"cove/sandbox/review/tree"
	view "cove/sandbox/review/tree/stage"
	"cove/sandbox/start"

	// Its init takes over where argv[0] names one of the stages inside, before the packages that the
	// rest of cove needs have begun: a sandbox starts in half the time.
	_ "cove/sandbox/stage"
)

func main() { os.Exit(run(os.Args)) }

// run is what argv[0] says: a stage that cove started of itself, or the command line.
func run(args []string) int {
	if len(args) == 0 {
		return 2 // execve(2) with an empty argv
	}
	switch args[0] {
	case layer.StageName:
		stage.Main() // does not return
	case tree.StageName:
		view.Main() // neither
	case host.StageName:
		return host.StageMain()
	case sandbox.KeeperName:
		return sandbox.KeeperMain(driver.Network{}, outside.Integrations{})
	}
	quick.Provide(driver.Network{})
	start.KeepOwnerBits()
	ctx, stop := start.UntilSignal()
	defer stop()
	return cli.Main(ctx, args)
}
