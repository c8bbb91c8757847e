package cli

import (
	"errors"
	"os"
	"slices"

	"cove/config"
	"cove/sandbox"
	"cove/sandbox/quick"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "one more command in a running sandbox",
		UsageText: "cove exec [OPTIONS] NAME [--] COMMAND [ARG...]",
		Flags:     urfaveFlags(start.ExecFlags),
		Action:    a.action(a.exec),
	}
}

func (a *app) exec(c *cli.Context) error {
	if status, err, ran := quick.Outcome(); ran {
		return a.status(status, err)
	}
	name, in, err := start.Exec(line{c})
	if err != nil {
		return err
	}
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return err
	}
	status, err := sandbox.Exec(name, in, sandbox.Options{RuntimeDir: dir, Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr, Warn: a.Stderr, Log: a.Log})
	return a.status(status, err)
}

func (a *app) stopCommand() *cli.Command {
	return &cli.Command{
		Name:      "stop",
		Usage:     "end running sandboxes",
		UsageText: "cove stop [--all] [NAME...]",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "every sandbox of yours"}},
		Action:    a.action(a.stop),
	}
}

func (a *app) stop(c *cli.Context) error {
	names := c.Args().Slice()
	if c.Bool("all") == (len(names) > 0) {
		return start.Usagef("want names (`cove ps` lists them) or --all")
	}
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return err
	}
	// Looked for once: to find one by its name takes a look at all of them. What is found so is stopped by its ID.
	if running, err := sandbox.List(dir); err != nil {
		return err
	} else if c.Bool("all") {
		for _, s := range running {
			names = append(names, s.ID)
		}
	} else {
		names = idsOf(names, running)
	}
	results := make(chan error, len(names))
	for _, name := range names { // each may take its time to end
		go func() { results <- sandbox.Stop(dir, name) }()
	}
	var errs []error
	for range names {
		err := <-results
		if c.Bool("all") && errors.Is(err, sandbox.ErrNoSandbox) {
			continue // it ended by itself
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// idsOf puts the IDs of sandboxes that have these names in their places; the beginning of an ID is left as it is.
func idsOf(names []string, running []sandbox.Info) []string {
	ids := map[string]string{}
	for _, s := range running {
		ids[s.Name] = s.ID
	}
	out := slices.Clone(names)
	for i, name := range out {
		if id, ok := ids[name]; ok {
			out[i] = id
		}
	}
	return out
}
