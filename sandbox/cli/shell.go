package cli

import (
	"cove/sandbox"

	"github.com/urfave/cli/v2"
)

func (a *app) shellCommand() *cli.Command {
	return &cli.Command{
		Name:      "shell",
		Usage:     "enter the project's sandbox, or join the one that runs",
		UsageText: "cove shell [OPTIONS] [--] [COMMAND [ARG...]]",
		Flags:     sandboxFlags(),
		Action:    a.action(a.shell),
	}
}

func (a *app) shell(c *cli.Context) error {
	plan, err := a.plan(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return writeJSON(a.stdout, plan.spec)
	}
	status, joined, err := sandbox.Shell(a.ctx, plan.spec, plan.options)
	a.log.Debug("shell ended", "joined", joined)
	return a.status(status, err)
}
