package cli

import (
	"os"
	"strings"
	"time"

	"cove/config"
	"cove/sandbox"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) psCommand() *cli.Command {
	return &cli.Command{
		Name:      "ps",
		Usage:     "the sandboxes that run now",
		UsageText: "cove ps [--json]",
		Flags:     []cli.Flag{jsonFlag()},
		Action:    a.action(a.ps),
	}
}

func (a *app) ps(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments")
	}
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return err
	}
	running, err := sandbox.List(dir)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if running == nil {
			running = []sandbox.Info{}
		}
		return writeJSON(a.Stdout, running)
	}
	var rows [][]string
	for _, s := range running {
		project := string(s.Project)
		if s.Review {
			project += " (review)"
		}
		rows = append(rows, []string{s.Name, s.ID, s.Image, ago(s.Started, time.Now()), project, commandLine(s.Command)})
	}
	return writeTable(a.Stdout, []string{"NAME", "ID", "IMAGE", "STARTED", "PROJECT", "COMMAND"}, rows)
}

// commandLine is argv for people, shortened.
func commandLine(argv []string) string {
	var words []string
	for _, w := range argv {
		words = append(words, shellWord(w))
	}
	line := []rune(strings.Join(words, " "))
	if len(line) > 60 {
		return string(line[:59]) + "…"
	}
	return string(line)
}
