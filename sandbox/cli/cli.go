package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"cove/config"
	"cove/sandbox/integration"
	"cove/sandbox/integration/gpu"
	"cove/sandbox/integration/outside"
	"cove/sandbox/network/driver"
	"cove/sandbox/programs"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

// app is one call of cove.
type app struct {
	*start.Call
	place *place
	quiet bool     // no progress
	held  []func() // lets go of images that are used until this process ends
}

// Main carries out the command line args, of which the first is the program's name, and returns the exit code.
// Ctx ends when the user interrupts; its cause may be a start.Interrupted.
func Main(ctx context.Context, args []string) int {
	a := newApp(ctx)
	return a.finish(a.main(args[min(1, len(args)):]))
}

func newApp(ctx context.Context) *app {
	a := &app{Call: &start.Call{Ctx: ctx, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Log: slog.New(slog.DiscardHandler),
		Network: driver.Network{}, Integrations: outside.Integrations{}}}
	a.Warn, a.Agree, a.Pull, a.Review = a.warn, a.agree, a.pullShown, a.inReview
	a.Devices = func(names []string) (*integration.Devices, error) {
		return gpu.Find(names, gpu.Options{Dev: "/dev", Dirs: gpu.Dirs(), UID: uint32(os.Getuid())})
	}
	a.SetUp, a.SetupWanted = a.setUp, setupWanted
	return a
}

// exitStatus ends cove with a code and no word: the command inside has said what there was to say.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// main finds the command, gives its options one spelling, and lets urfave parse and dispatch.
func (a *app) main(args []string) error {
	commands := a.commands()
	call, err := resolve(commands, args)
	if err != nil {
		return err
	}
	a.Command = call.name()
	cli.HelpFlag = nil // urfave's would answer before ours
	u := &cli.App{
		Name:                      "cove",
		Commands:                  commands,
		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // a value may hold commas
		Writer:                    io.Discard,
		ErrWriter:                 io.Discard,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return err },
	}
	return u.RunContext(a.Ctx, append([]string{"cove"}, call.args...))
}

// commands is everything that cove can do, in the order in which `cove help` tells it.
func (a *app) commands() []*cli.Command {
	all := []*cli.Command{
		a.shellCommand(), a.runCommand(), a.tryCommand(), a.diffCommand(), a.applyCommand(), a.discardCommand(), a.execCommand(), a.psCommand(), a.stopCommand(), a.netCommand(), a.hostCommand(), a.portCommand(),
		a.commitCommand(), a.pullCommand(), a.pushCommand(), a.imagesCommand(), a.rmiCommand(), a.imageCommand(), a.gcCommand(), a.unshareCommand(),
		a.initCommand(), a.importCommand(), a.trustCommand(), a.explainCommand(), a.lockCommand(), a.updateCommand(), a.configCommand(), a.doctorCommand(),
		a.completionCommand(), a.helpCommand(), a.versionCommand(), a.completeCommand(), a.hereCommand(),
	}
	prepare(all)
	return all
}

// prepare gives every command the options that all have, and what keeps urfave from speaking by itself.
func prepare(all []*cli.Command) {
	for _, c := range all {
		c.HideHelp = true // its own help command would catch `cove run help`
		c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return &start.UsageError{Text: err.Error()} }
		if len(c.Subcommands) > 0 {
			prepare(c.Subcommands)
			continue
		}
		c.Flags = append(c.Flags, urfaveFlags(start.CommonFlags)...)
	}
}

// action wraps what a command does with what all do first.
func (a *app) action(do func(*cli.Context) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Bool("help") {
			return a.showHelp(a.Command)
		}
		a.StoreDir = c.String("store")
		if c.IsSet("store") && a.StoreDir == "" {
			return start.Usagef("--store: the folder's name is empty")
		}
		if c.Bool("debug") {
			a.Log = slog.New(slog.NewTextHandler(&lineWriter{w: a.Stderr}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: dropTime}))
		}
		guardHere()
		return do(c)
	}
}

// guardHere keeps what sandboxes of the current folder's project have written from being run outside, whatever the command. With a profile
// that cannot be read the folder itself is what is known of it; who needs the profile says what is wrong with it.
func guardHere() {
	opts, err := config.DefaultOptions()
	if err != nil {
		programs.Guard()
		return
	}
	if p, _, err := config.Load(opts); err == nil {
		programs.Guard(p.Writable()...)
	} else {
		programs.Guard(opts.Cwd)
	}
}

// finish prints err as the user shall see it and returns the exit code that goes with it.
func (a *app) finish(err error) int {
	if err == nil {
		return 0
	}
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	var interrupted start.Interrupted
	if errors.As(err, &interrupted) || a.Ctx.Err() != nil && errors.As(context.Cause(a.Ctx), &interrupted) && errors.Is(err, a.Ctx.Err()) {
		err = interrupted
		if a.runsACommand() {
			fmt.Fprintln(a.Stderr, "cove: interrupted")
			return 128 + interrupted.Signal
		}
	}
	var usage *start.UsageError
	var profile *config.ProfileError
	switch {
	case errors.As(err, &usage):
		a.printUsage(usage)
		return 2
	case errors.As(err, &profile):
		a.printError(err)
		return 2
	}
	a.printError(err)
	if a.runsACommand() {
		return 125
	}
	return 1
}

// runsACommand reports whether the exit code is the code of a command inside, among which 125 is cove's own.
func (a *app) runsACommand() bool {
	return a.Command == "run" || a.Command == "try" || a.Command == "shell" || a.Command == "exec" || a.Command == "unshare"
}
