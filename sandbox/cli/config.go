package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"cove/config"
	"cove/fetch/oci"
	"cove/sandbox/start"

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
		}, a.configExplainCommand(), {
			Name:      "schema",
			Usage:     "the JSON Schema of the profile, for editors",
			UsageText: "cove config schema [--own]",
			Flags:     []cli.Flag{&cli.BoolFlag{Name: "own", Usage: "that of your own config.toml, which may have [trust] too"}},
			Action:    a.action(a.configSchema),
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
	lock := lockStateOf(p)
	if c.Bool("json") {
		return writeJSON(a.Stdout, struct {
			File     string           `json:"file"`
			Dir      string           `json:"dir"`
			Hash     string           `json:"hash,omitempty"`
			Settings []config.Setting `json:"settings"`
			Lock     *lockState       `json:"lock,omitempty"`
		}{p.File, p.Dir, p.Hash(), p.Show(), lock})
	}
	var b strings.Builder
	file := "none"
	if p.File != "" {
		file = p.File
	}
	fmt.Fprintf(&b, "# profile: %s\n", escape(file))
	if lock != nil {
		fmt.Fprintf(&b, "# lock: %s\n", escape(lock.String()))
	}
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

// lockState is whether a lock holds the profile's image.
type lockState struct {
	File     string     `json:"file"`
	Platform string     `json:"platform,omitempty"`
	Manifest oci.Digest `json:"manifest,omitempty"` // what runs here; "" when nothing is locked
	Problem  string     `json:"problem,omitempty"`  // why nothing runs
}

// lockStateOf looks at the profile's lock; nil when there is none.
func lockStateOf(p *config.Profile) *lockState {
	lock, err := p.ReadLock()
	if err == nil && lock == nil {
		return nil
	}
	s := &lockState{File: p.LockFile()}
	if err == nil {
		var at *config.LockedPlatform
		if at, err = p.Locked(lock, thisPlatform()); err == nil {
			s.Platform, s.Manifest = at.Name, at.Manifest
			return s
		}
	}
	s.Problem = err.Error()
	return s
}

func (s *lockState) String() string {
	if s.Problem != "" {
		first, _, _ := strings.Cut(s.Problem, "\n")
		return s.File + ": nothing runs: " + first
	}
	return fmt.Sprintf("%s: %s runs %s", s.File, s.Platform, s.Manifest)
}

func (a *app) configSchema(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments")
	}
	about := keysHelp()
	return writeJSON(a.Stdout, config.JSONSchema(c.Bool("own"), func(key string) string { return about[key] }))
}
