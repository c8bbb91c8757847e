package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

// manPage is what `cove help` says of a command or topic, as man(7) has it: the same texts with the macros around them.
func (a *app) manPage(name string) (string, error) {
	page := &roff{}
	if name == "" {
		page.title("cove", "1", "a private room for a shell")
		page.section("SYNOPSIS")
		page.paragraph("cove COMMAND [OPTIONS] [ARGUMENTS]")
		page.section("DESCRIPTION")
		prose, _ := helpTexts.ReadFile("help/cove.txt")
		page.prose(string(prose))
		a.manOverview(page)
		return page.b.String(), nil
	}
	command, prose, err := a.find(name)
	if err != nil {
		return "", err
	}
	if command == nil {
		title, section := manName(name, true)
		usage := ""
		for _, t := range topics {
			if t[0] == name {
				usage = t[1]
			}
		}
		page.title(title, section, usage)
		page.section("DESCRIPTION")
		page.prose(prose)
		page.also()
		return page.b.String(), nil
	}
	title, section := manName(name, false)
	page.title(title, section, command.Usage)
	manCommand(page, name, command, prose)
	page.also()
	return page.b.String(), nil
}

// manName is a page's name and section: commands are in 1, the profile is a file and so in 5, topics are in 7.
func manName(name string, topic bool) (title, section string) {
	switch {
	case topic && name == "profile":
		return "cove.toml", "5"
	case topic:
		return "cove-" + name, "7"
	}
	return "cove-" + strings.ReplaceAll(name, " ", "-"), "1"
}

func (a *app) manOverview(page *roff) {
	page.section("COMMANDS")
	for _, c := range a.commands() {
		if c.Hidden {
			continue
		}
		if len(c.Subcommands) == 0 {
			page.item("cove-"+c.Name+"(1)", c.Usage)
		}
		for _, s := range c.Subcommands {
			page.item("cove-"+c.Name+"-"+s.Name+"(1)", s.Usage)
		}
	}
	page.section("TOPICS")
	for _, t := range topics {
		if byName(a.commands(), t[0]) == nil {
			title, section := manName(t[0], true)
			page.item(title+"("+section+")", t[1])
		}
	}
}

func manCommand(page *roff, name string, c *cli.Command, prose string) {
	page.section("SYNOPSIS")
	for i, line := range strings.Split(c.UsageText, "\n") {
		if i > 0 {
			page.macro(".br")
		}
		if line != "" {
			page.line(line)
		}
	}
	for _, s := range c.Subcommands {
		page.item("cove "+name+" "+s.Name, s.Usage)
	}
	if prose != "" {
		page.section("DESCRIPTION")
		page.prose(prose)
	}
	if len(c.Flags) > 0 {
		page.section("OPTIONS")
	}
	for _, f := range c.Flags {
		left, usage := flagHelp(f)
		page.item(left, usage)
	}
}

// writeManPages writes every page below a folder, as `man -M` and packages of distributions have them.
func (a *app) writeManPages(dir string) error {
	if dir == "" {
		return start.Usagef("--man-dir: the folder's name is empty")
	}
	names := []string{""}
	for _, c := range a.commands() {
		if c.Hidden {
			continue
		}
		names = append(names, c.Name)
		for _, s := range c.Subcommands {
			names = append(names, c.Name+" "+s.Name)
		}
	}
	for _, t := range topics {
		if !slices.Contains(names, t[0]) {
			names = append(names, t[0])
		}
	}
	for _, name := range names {
		text, err := a.manPage(name)
		if err != nil {
			return err
		}
		title, section := "cove", "1"
		if name != "" {
			command, _, err := a.find(name)
			if err != nil {
				return err
			}
			title, section = manName(name, command == nil)
		}
		file := filepath.Join(dir, "man"+section, title+"."+section)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("write manual pages: %w", err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write manual pages: %w", err)
		}
	}
	return nil
}

// roff writes a page with the macros of man(7), and nothing that only one formatter knows.
type roff struct{ b strings.Builder }

func (r *roff) macro(text string) { r.b.WriteString(text + "\n") }

func (r *roff) title(name, section, usage string) {
	version, _ := buildInfo()
	r.macro(fmt.Sprintf(".TH %q %q \"\" %q \"cove\"", strings.ToUpper(name), section, "cove "+version))
	r.macro(".nh")
	r.section("NAME")
	r.b.WriteString(roffText(name) + ` \- ` + roffText(usage) + "\n")
}

func (r *roff) section(name string) { r.macro(".SH " + name) }

func (r *roff) paragraph(text string) {
	r.macro(".PP")
	r.line(text)
}

// line is a line of text, of which no formatter takes the first character for a macro's.
func (r *roff) line(text string) {
	text = roffText(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	r.b.WriteString(text + "\n")
}

func (r *roff) item(head, text string) {
	r.macro(".TP")
	r.b.WriteString(`\fB` + roffText(head) + `\fR` + "\n")
	r.line(text)
}

// prose has paragraphs, which are filled, and blocks that are indented, which stay as they are.
func (r *roff) prose(text string) {
	verbatim, between := false, true
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n ")
		if line == "" {
			between = true
			if verbatim {
				r.b.WriteString("\n")
			}
			continue
		}
		indented := strings.HasPrefix(line, "  ")
		if verbatim && !indented {
			r.macro(".fi\n.RE")
			verbatim = false
			between = true
		}
		if indented && !verbatim {
			r.macro(".PP\n.RS 4\n.nf")
			verbatim = true
		}
		if verbatim {
			r.line(strings.TrimPrefix(strings.TrimPrefix(line, "  "), "  "))
			between = false
			continue
		}
		if between {
			r.macro(".PP")
			between = false
		}
		r.line(line)
	}
	if verbatim {
		r.macro(".fi\n.RE")
	}
}

func (r *roff) also() {
	r.section("SEE ALSO")
	r.line("cove(1), cove.toml(5)")
}

// roffText escapes what a formatter would act on, and makes bold what is in backquotes. A hyphen stays one that can be copied
// into a shell.
func roffText(text string) string {
	var b strings.Builder
	bold := false
	for _, c := range text {
		switch c {
		case '\\':
			b.WriteString(`\e`)
		case '-':
			b.WriteString(`\-`)
		case '\'':
			b.WriteString(`\(aq`)
		case '^':
			b.WriteString(`\(ha`)
		case '~':
			b.WriteString(`\(ti`)
		case '`':
			if bold = !bold; bold {
				b.WriteString(`\fB`)
			} else {
				b.WriteString(`\fR`)
			}
		default:
			b.WriteRune(c)
		}
	}
	if bold {
		b.WriteString(`\fR`)
	}
	return b.String()
}
