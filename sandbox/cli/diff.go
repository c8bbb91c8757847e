package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"cove/sandbox/review"
	"cove/sandbox/review/change"
	"cove/sandbox/review/change/lines"
	"cove/sandbox/spec"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (a *app) diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "what a project's copy-on-write view holds, in comparison to the project",
		UsageText: "cove diff [OPTIONS] [PATH...]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "stat", Usage: "how many lines of each file"},
			&cli.BoolFlag{Name: "name-status", Usage: "the paths alone, and what became of each"},
			&cli.BoolFlag{Name: "summary", Usage: "how much there is of what, and what to look at first"},
			jsonFlag(),
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "with --summary: each path in folders that git ignores, too"},
			&cli.BoolFlag{Name: "exit-code", Usage: "end with 1 where there is a difference"},
			&cli.StringFlag{Name: "color", Usage: "`WHEN`: auto, always, never", Value: "auto"},
			&cli.BoolFlag{Name: "no-pager", Usage: "straight to the terminal"},
		},
		Action: a.action(a.diff),
	}
}

func (a *app) diff(c *cli.Context) error {
	forms := 0
	for _, f := range []string{"stat", "name-status", "summary", "json"} {
		if c.Bool(f) {
			forms++
		}
	}
	if forms > 1 {
		return start.Usagef("--stat, --name-status, --summary and --json exclude each other")
	}
	colour, err := a.colours(c.String("color"))
	if err != nil {
		return err
	}
	store, project, here, err := a.viewAt()
	if errors.Is(err, review.ErrNone) && !c.Args().Present() {
		return a.noDiff(c, err)
	}
	if err != nil {
		return err
	}
	paths, err := inProject(project, here, c.Args().Slice())
	if err != nil {
		return err
	}
	paged := isTerminal(a.Stdout) && !c.Bool("no-pager") && !c.Bool("json")
	ctx := a.Ctx
	if paged {
		ctx = context.WithoutCancel(ctx) // ^C is the pager's
	}
	set, err := a.lookAtChanges(ctx, store, project)
	if err != nil {
		return err
	}
	defer set.Close()
	chosen, err := set.Choose(paths)
	if err != nil {
		return err
	}
	d := &differ{a: a, ctx: ctx, set: set, all: c.Bool("all"), look: change.Look{Colour: colour, Safe: isTerminal(a.Stdout), Size: size}}
	write := d.patches
	switch {
	case c.Bool("stat"):
		write = d.stat
	case c.Bool("name-status"):
		write = d.names
	case c.Bool("summary"):
		write = d.summary
	case c.Bool("json"):
		write = d.json
	}
	if paged && len(chosen) > 0 {
		err = a.page(func(w io.Writer) error { return write(w, chosen) })
	} else {
		out := bufio.NewWriterSize(a.Stdout, 64<<10)
		err = errors.Join(write(out, chosen), out.Flush())
	}
	if err == nil && c.Bool("exit-code") && len(chosen) > 0 {
		return exitStatus(1)
	}
	return err
}

// noDiff is for where there is no view: then there is no difference.
func (a *app) noDiff(c *cli.Context, err error) error {
	if c.Bool("json") {
		return writeJSON(a.Stdout, []jsonChange{})
	}
	a.warn("%s", err)
	return nil
}

// colours decides whether to use them.
func (a *app) colours(when string) (bool, error) {
	switch when {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		return isTerminal(a.Stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", nil
	}
	return false, start.Usagef("--color %s: want auto, always or never", quote(when))
}

// differ writes changes in one of several forms.
type differ struct {
	a    *app
	set  *change.Set
	look change.Look
	all  bool
	ctx  context.Context // that ends what is being written
}

// read reads a change, unless that has become pointless.
func (d *differ) read(c *change.Change) (*change.File, error) {
	if d.ctx.Err() != nil {
		return nil, context.Cause(d.ctx)
	}
	return d.set.Read(c)
}

func (d *differ) patches(w io.Writer, chosen []*change.Change) error {
	for _, c := range chosen {
		f, err := d.read(c)
		if err == nil {
			err = d.look.Write(w, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) names(w io.Writer, chosen []*change.Change) error {
	for _, c := range chosen {
		line := c.Kind.Letter() + "\t"
		if c.Kind == change.Renamed {
			line += change.GitName(string(c.From)) + "\t"
		}
		name := c.Shown()
		if c.New.IsDir() || c.New == nil && c.Old.IsDir() {
			name += "/"
		}
		if _, err := io.WriteString(w, line+change.GitName(name)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) summary(w io.Writer, chosen []*change.Change) error {
	var b strings.Builder
	d.a.writeSummary(&b, chosen, d.all)
	_, err := io.WriteString(w, b.String())
	return err
}

// stat is `git diff --stat`.
func (d *differ) stat(w io.Writer, chosen []*change.Change) error {
	type row struct {
		name, text     string
		added, dropped int
	}
	var rows []row
	width, most, added, dropped := 0, 1, 0, 0
	for _, c := range chosen {
		if c.New.IsDir() || c.New == nil && c.Old.IsDir() {
			continue
		}
		f, err := d.read(c)
		if err != nil {
			return err
		}
		r := row{name: change.GitName(string(c.Path))}
		if c.Kind == change.Renamed {
			r.name = change.GitName(string(c.From)) + " => " + r.name
		}
		r.added, r.dropped = linesOf(f)
		switch {
		case f.Unreadable != "":
			r.text = "cannot be read"
		case f.Binary || f.Large:
			r.text = "Bin " + sizeOf(c.Old) + " -> " + sizeOf(c.New)
		}
		added, dropped = added+r.added, dropped+r.dropped
		width, most = max(width, len(r.name)), max(most, r.added+r.dropped)
		rows = append(rows, r)
	}
	const bar = 40
	digits := len(fmt.Sprint(most))
	for _, r := range rows {
		text := r.text
		if text == "" {
			n, m := r.added, r.dropped
			if most > bar {
				n, m = scaled(n, most, bar), scaled(m, most, bar)
			}
			text = fmt.Sprintf("%*d", digits, r.added+r.dropped)
			if n+m > 0 {
				text += " " + d.paint("32", strings.Repeat("+", n)) + d.paint("31", strings.Repeat("-", m))
			}
		}
		if _, err := fmt.Fprintf(w, " %-*s | %s\n", width, r.name, text); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		return nil
	}
	line := " " + numbered(len(rows), "file", "files") + " changed"
	if added > 0 || dropped == 0 {
		line += ", " + numbered(added, "insertion(+)", "insertions(+)")
	}
	if dropped > 0 || added == 0 {
		line += ", " + numbered(dropped, "deletion(-)", "deletions(-)")
	}
	_, err := io.WriteString(w, line+"\n")
	return err
}

func scaled(n, most, bar int) int {
	if n == 0 {
		return 0
	}
	return max(1, n*bar/most)
}

func (d *differ) paint(code, text string) string {
	if !d.look.Colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[m"
}

func sizeOf(m *change.Meta) string {
	if m == nil {
		return "0 B"
	}
	return size(m.Size)
}

// linesOf is how many lines a file gains and loses.
func linesOf(f *change.File) (added, dropped int) {
	if f.Kind == change.Type && !f.Binary && !f.Large {
		return len(lines.Split(f.NewText)), len(lines.Split(f.OldText))
	}
	return lines.Count(f.Hunks)
}

// jsonChange is a change for programs.
type jsonChange struct {
	Path     spec.Path   `json:"path"`
	Kind     change.Kind `json:"kind"`
	From     spec.Path   `json:"from,omitempty"`
	Old      *jsonMeta   `json:"old,omitempty"`
	New      *jsonMeta   `json:"new,omitempty"`
	Added    int         `json:"added"`   // lines
	Dropped  int         `json:"deleted"` // lines
	Binary   bool        `json:"binary,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
	Conflict string      `json:"conflict,omitempty"`
	Refused  string      `json:"refused,omitempty"`
	Ignored  spec.Path   `json:"ignored,omitempty"`
}

type jsonMeta struct {
	Type   string    `json:"type"`
	Mode   string    `json:"mode"` // octal, without the type
	Size   int64     `json:"size"`
	Target spec.Path `json:"target,omitempty"`
}

func metaJSON(m *change.Meta) *jsonMeta {
	if m == nil {
		return nil
	}
	return &jsonMeta{m.What(), fmt.Sprintf("%04o", m.Mode&0o7777), m.Size, m.Target}
}

func toJSON(c *change.Change) jsonChange {
	return jsonChange{Path: spec.Path(c.Shown()), Kind: c.Kind, From: c.From, Old: metaJSON(c.Old), New: metaJSON(c.New),
		Warnings: c.Warnings, Conflict: c.Conflict, Refused: c.Refused, Ignored: c.Ignored}
}

func (d *differ) json(w io.Writer, chosen []*change.Change) error {
	out := []jsonChange{}
	for _, c := range chosen {
		f, err := d.read(c)
		if err != nil {
			return err
		}
		j := toJSON(c)
		j.Added, j.Dropped = linesOf(f)
		j.Binary = f.Binary
		out = append(out, j)
	}
	return writeJSON(w, out)
}

// page shows what is written through the user's pager.
func (a *app) page(write func(io.Writer) error) error {
	cmd := a.pager()
	if cmd == nil {
		out := bufio.NewWriterSize(a.Stdout, 64<<10)
		return errors.Join(write(out), out.Flush())
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the pager: %w", err)
	}
	out := bufio.NewWriterSize(in, 64<<10)
	err = write(out)
	if err == nil {
		err = out.Flush()
	}
	if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
		err = nil // it was left before the end
	}
	in.Close()
	if werr := cmd.Wait(); err == nil && werr != nil {
		a.Log.Debug("the pager ended", "error", werr)
	}
	return err
}
