package cli

import (
	"cove/sandbox/start"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

func (a *app) configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "the profile as cove understands it",
		Subcommands: []*cli.Command{{
			Name:      "show",
			Usage:     "every value, and where it came from",
			UsageText: "cove config show [--json] [--profile FILE]",
			Flags:     []cli.Flag{profileFlag(), jsonFlag()},
			Action:    a.action(a.configShow),
		}},
	}
}

func profileFlag() cli.Flag {
	return &cli.StringFlag{Name: "profile", Usage: "use the profile `FILE` instead of looking for a cove.toml"}
}

func (a *app) configShow(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments")
	}
	p, err := a.LoadProfile(line{c}, nil)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(a.Stdout, p)
	}
	var b strings.Builder
	file := "none"
	if p.File != "" {
		file = p.File
	}
	fmt.Fprintf(&b, "# profile: %s\n", escape(file))
	settings := p.Show()
	width := 0
	for _, s := range settings {
		if n := utf8.RuneCountInString(s.String()); n <= 60 {
			width = max(width, n)
		}
	}
	for _, s := range settings {
		line := s.String()
		pad := max(width-utf8.RuneCountInString(line), 0)
		fmt.Fprintf(&b, "%s%s   # %s\n", line, strings.Repeat(" ", pad), escape(s.Origin.String()))
	}
	_, err = a.Stdout.WriteString(b.String())
	return err
}
