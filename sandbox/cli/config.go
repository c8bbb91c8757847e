package cli

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"cove/config"

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
		return usagef("takes no arguments")
	}
	p, err := a.loadProfile(c, nil)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(a.stdout, p)
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
	_, err = a.stdout.WriteString(b.String())
	return err
}

// loadProfile finds and reads the profile, lays flags above it, and says what there is to say.
func (a *app) loadProfile(c *cli.Context, flags []config.Flag) (*config.Profile, error) {
	opts, err := config.DefaultOptions()
	if err != nil {
		return nil, err
	}
	opts.ProfileFlag, opts.Flags = c.String("profile"), flags
	if c.IsSet("profile") && opts.ProfileFlag == "" {
		return nil, usagef("--profile: the file's name is empty")
	}
	p, warnings, err := config.Load(opts)
	for _, w := range warnings {
		a.warn("%s", w)
	}
	return p, err
}

// openTrust is what the user has agreed to so far.
func openTrust() (*config.Trust, error) {
	dir, err := config.TrustDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	return config.OpenTrust(dir), nil
}
