package cli

import (
	"cove/sandbox"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) shellCommand() *cli.Command {
	return &cli.Command{
		Name:      "shell",
		Usage:     "enter the project's sandbox, or join the one that runs",
		UsageText: "cove shell [OPTIONS] [--] [COMMAND [ARG...]]",
		Flags:     urfaveFlags(start.Flags, start.BoundFlags),
		Action:    a.action(a.shell),
	}
}

func (a *app) shell(c *cli.Context) error {
	plan, err := a.plan(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return writeJSON(a.Stdout, plan.Spec)
	}
	plan.Options.TellJoined = isTerminal(a.Stderr)
	status, joined, err := sandbox.Shell(a.Ctx, plan.Spec, plan.Options)
	a.Log.Debug("shell ended", "joined", joined)
	return a.status(status, err)
}
