package cli

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"cove/config"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

// helpTexts is the manual: NAME.txt for a command or a topic, with "-" for the space in "image inspect".
//
//go:embed help/*.txt
var helpTexts embed.FS

// topics are the texts that belong to no command.
var topics = [][2]string{
	{"profile", "cove.toml, key by key"},
	{"setup", "a toolchain that is set up once, and changes that are kept"},
	{"review", "a project that is seen, and not changed before you say so"},
	{"images", "what an image can be, and where it is kept"},
	{"signatures", "which images are let in, and by whose signature"},
	{"network", "what the three network modes reach"},
	{"integrations", "your ssh keys, git, browser and desktop inside: the table [host]"},
	{"limits", "memory, processors, processes and time"},
	{"exit-codes", "what cove's exit code means"},
	{"environment", "the variables and files that cove looks at"},
}

func (a *app) helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "the manual, by command or topic",
		UsageText: "cove help [--man] [COMMAND | TOPIC]\ncove help --man-dir DIR",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "man", Usage: "as a manual page, for man(1)"},
			&cli.StringFlag{Name: "man-dir", Usage: "write every manual page into the folder `DIR`, in man1, man5 and man7"},
		},
		Action: a.action(a.help),
	}
}

func (a *app) help(c *cli.Context) error {
	name := strings.Join(c.Args().Slice(), " ")
	switch {
	case c.IsSet("man-dir") && (c.Bool("man") || name != ""):
		return start.Usagef("--man-dir writes every page: nothing goes with it")
	case c.IsSet("man-dir"):
		return a.writeManPages(c.String("man-dir"))
	case c.Bool("man"):
		text, err := a.manPage(name)
		if err != nil {
			return err
		}
		_, err = a.Stdout.WriteString(text)
		return err
	}
	return a.showHelp(name)
}

func (a *app) showHelp(name string) error {
	text, err := a.helpText(name)
	if err != nil {
		return err
	}
	_, err = a.Stdout.WriteString(text)
	return err
}

func (a *app) helpText(name string) (string, error) {
	if name == "" {
		return a.overview(), nil
	}
	command, prose, err := a.find(name)
	if err != nil || command == nil {
		return prose, err
	}
	return commandHelp(name, command, prose), nil
}

// find is the command of a name, or nil for a topic, and the text about it.
func (a *app) find(name string) (*cli.Command, string, error) {
	among := a.commands()
	var found *cli.Command
	for _, word := range strings.Fields(name) {
		if found = byName(among, word); found == nil {
			break
		}
		among = found.Subcommands
	}
	prose, err := fs.ReadFile(helpTexts, "help/"+strings.ReplaceAll(name, " ", "-")+".txt")
	switch {
	case found != nil && !found.Hidden:
		return found, string(prose), nil
	case err == nil && slices.ContainsFunc(topics, func(t [2]string) bool { return t[0] == name }):
		return nil, string(prose), nil
	}
	known := names(a.commands())
	for _, t := range topics {
		known = append(known, t[0])
	}
	e := &start.UsageError{Text: "no help on " + quote(name), Hint: "`cove help` lists commands and topics"}
	if near := config.Nearest(name, known); near != "" {
		e.Text += "; did you mean " + quote(near) + "?"
	}
	return nil, "", e
}

func (a *app) overview() string {
	var b strings.Builder
	prose, _ := fs.ReadFile(helpTexts, "help/cove.txt")
	b.Write(prose)
	b.WriteString("\nCommands:\n")
	for _, c := range a.commands() {
		if c.Hidden {
			continue
		}
		if len(c.Subcommands) == 0 {
			fmt.Fprintf(&b, "  %-16s %s\n", c.Name, c.Usage)
		}
		for _, s := range c.Subcommands {
			fmt.Fprintf(&b, "  %-16s %s\n", c.Name+" "+s.Name, s.Usage)
		}
	}
	b.WriteString("\nTopics:\n")
	for _, t := range topics {
		fmt.Fprintf(&b, "  %-16s %s\n", t[0], t[1])
	}
	b.WriteString("\n`cove help COMMAND` and `cove help TOPIC` tell more.\n")
	return b.String()
}

// commandHelp is a command's usage, its text, and its options, which are told from the flags themselves.
func commandHelp(name string, c *cli.Command, prose string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cove %s: %s\n\n", name, c.Usage)
	if c.UsageText != "" {
		fmt.Fprintf(&b, "Usage: %s\n", strings.ReplaceAll(c.UsageText, "\n", "\n       "))
	}
	if len(c.Subcommands) > 0 {
		for _, s := range c.Subcommands {
			fmt.Fprintf(&b, "  cove %s %-10s %s\n", name, s.Name, s.Usage)
		}
	}
	if prose != "" {
		b.WriteString("\n" + prose)
	}
	if len(c.Flags) > 0 {
		b.WriteString("\nOptions:\n")
	}
	for _, f := range c.Flags {
		left, usage := flagHelp(f)
		if len(left) > 24 {
			left += "\n" + strings.Repeat(" ", 26)
		}
		fmt.Fprintf(&b, "  %-24s %s\n", left, usage)
	}
	return b.String()
}

// flagHelp is how a flag is written, its value's name taken from the backquotes of its usage.
func flagHelp(f cli.Flag) (left, usage string) {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return "", ""
	}
	usage = d.GetUsage()
	value := ""
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		if name, after, ok := strings.Cut(rest, "`"); ok {
			value, usage = name, before+name+after
		}
	}
	var spelled []string
	for _, n := range f.Names() {
		spelled = append(spelled, dashed(n))
	}
	slices.Reverse(spelled)
	left = strings.Join(spelled, ", ")
	if value != "" {
		left += " " + value
	}
	return left, usage
}
