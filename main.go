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
	"context"
	"os"
	"os/signal"
	"syscall"

	"cove/fetch/layer"
	"cove/fetch/layer/stage"
	"cove/sandbox"
	"cove/sandbox/cli"
	"cove/sandbox/host"

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
	case host.StageName:
		return host.StageMain()
	case sandbox.KeeperName:
		return sandbox.KeeperMain()
	}
	keepOwnerBits()
	ctx, stop := untilSignal()
	defer stop()
	return cli.Main(ctx, args)
}

// keepOwnerBits lets this process use what it makes: under a umask such as 0777 it could not even enter a folder of its
// own, nor the next cove remove it.
func keepOwnerBits() {
	old := syscall.Umask(0o077)
	syscall.Umask(old &^ 0o700)
}

// untilSignal is a context that ends when somebody wants cove to end. A second signal ends cove at once. Who hands
// signals on to a command inside listens for itself.
func untilSignal() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(sig) { // nohup(1), and a shell's background jobs
			signal.Notify(c, sig)
		}
	}
	go func() {
		sig := <-c
		signal.Stop(c)
		cancel(cli.Interrupted{Signal: int(sig.(syscall.Signal))})
	}()
	return ctx, func() { signal.Stop(c); cancel(nil) }
}
