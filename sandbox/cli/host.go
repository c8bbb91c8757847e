package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"cove/sandbox"
	"cove/sandbox/integration"

	"github.com/urfave/cli/v2"
)

func (a *app) hostCommand() *cli.Command {
	return &cli.Command{
		Name:  "host",
		Usage: "look at what a sandbox does with what [host] grants it",
		Subcommands: []*cli.Command{{
			Name:      "log",
			Usage:     "each use of your ssh agent, git, browser and so on, and what was refused",
			UsageText: "cove host log [--follow] [--json] [NAME]",
			Flags: []cli.Flag{
				jsonFlag(),
				&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the sandbox ends"},
			},
			Action: a.action(a.hostLog),
		}},
	}
}

func (a *app) hostLog(c *cli.Context) error {
	return a.followLog(c, sandbox.HostLog, func(line []byte) error {
		var e integration.Event
		if json.Unmarshal(line, &e) != nil {
			return nil
		}
		text := eventLine(e)
		if c.Bool("json") {
			text = escape(strings.TrimSuffix(string(line), "\n"))
		}
		_, err := a.Stdout.WriteString(text + "\n")
		return err
	})
}

// eventLine is one use for people.
func eventLine(e integration.Event) string {
	var b strings.Builder
	verdict := "allowed"
	if !e.Allowed {
		verdict = "refused"
	}
	fmt.Fprintf(&b, "%s %s %s %s", e.Time.Local().Format("15:04:05.000"), verdict, escape(e.Kind), escape(e.What))
	if e.On != "" {
		b.WriteString(" " + escape(e.On))
	}
	if e.Text != "" {
		fmt.Fprintf(&b, " (%s)", escape(e.Text))
	}
	if e.To != "" {
		b.WriteString(" for the server " + escape(e.To))
	}
	if e.Program != "" {
		b.WriteString(" by " + quote(e.Program))
	}
	if e.Reason != "" {
		b.WriteString(": " + escape(e.Reason))
	}
	if e.Error != "" {
		b.WriteString(": " + escape(e.Error))
	}
	return b.String()
}
