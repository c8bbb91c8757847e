package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"cove/config"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (a *app) trustCommand() *cli.Command {
	return &cli.Command{
		Name:      "trust",
		Usage:     "look at what the project's profile grants, and agree to it",
		UsageText: "cove trust [--show [--json] | --yes | --revoke] [--profile FILE]",
		Flags: []cli.Flag{
			profileFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "show", Usage: "print the grants and ask nothing"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "agree without being asked, for scripts that have looked"},
			&cli.BoolFlag{Name: "revoke", Usage: "forget what was agreed to"},
		},
		Action: a.action(a.trust),
	}
}

// errUntrusted says that a profile wants what nobody agreed to, and nobody can be asked.
type errUntrusted struct {
	file    string
	changed bool
}

func (e *errUntrusted) Error() string {
	if e.changed {
		return fmt.Sprintf("profile %q wants more than you agreed to", e.file)
	}
	return fmt.Sprintf("profile %q is not trusted: nobody agreed to what it grants", e.file)
}

var errDeclined = errors.New("not agreed to; nothing was done")

func (a *app) trust(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments; --profile FILE names a profile")
	}
	chosen := 0
	for _, f := range []string{"show", "yes", "revoke"} {
		if c.Bool(f) {
			chosen++
		}
	}
	if chosen > 1 {
		return start.Usagef("--show, --yes and --revoke exclude each other")
	}
	if c.Bool("json") && !c.Bool("show") {
		return start.Usagef("--json goes with --show")
	}
	p, err := a.LoadProfile(line{c}, nil)
	if err != nil {
		return err
	}
	if p.File == "" {
		return errors.New("there is no profile here (cove.toml, in this folder or above)")
	}
	t, err := start.OpenTrust()
	if err != nil {
		return err
	}
	if c.Bool("revoke") {
		return t.Revoke(p.File)
	}
	d, err := t.Check(p)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(a.Stdout, struct {
			File    string         `json:"file"`
			Trusted bool           `json:"trusted"`
			New     []config.Grant `json:"new"`
			Kept    []config.Grant `json:"kept"`
			Gone    []config.Grant `json:"gone"`
		}{p.File, d.Trusted, notNil(d.New), notNil(d.Kept), notNil(d.Gone)})
	}
	if _, err := a.Stdout.WriteString(grantsText(p, d)); err != nil || c.Bool("show") {
		return err
	}
	if d.Trusted && !d.Changed {
		return nil
	}
	if !d.Trusted && !c.Bool("yes") {
		if err := a.ask(p.File, d, ""); err != nil {
			return err
		}
	}
	return t.Accept(p)
}

func notNil(g []config.Grant) []config.Grant {
	if g == nil {
		return []config.Grant{}
	}
	return g
}

// agree asks for what a profile wants, where somebody can answer.
func (a *app) agree(t *config.Trust, p *config.Profile, d config.Decision) error {
	if err := a.ask(p.File, d, grantsText(p, d)); err != nil {
		return err
	}
	return t.Accept(p)
}

// grantsText is what the user agrees to. The grants' own texts were quoted by config.
func grantsText(p *config.Profile, d config.Decision) string {
	var b strings.Builder
	name := quote(p.File)
	switch {
	case d.Trusted && len(d.Kept) == 0:
		fmt.Fprintf(&b, "%s grants nothing beyond its own folder.\n", name)
	case d.Trusted:
		fmt.Fprintf(&b, "You agreed to what %s grants. What runs inside may\n", name)
	case d.Known:
		fmt.Fprintf(&b, "%s has changed. What runs inside may now also\n", name)
	default:
		fmt.Fprintf(&b, "%s wants that what runs inside may\n", name)
	}
	if d.Trusted {
		writeGrants(&b, "    ", d.Kept)
	} else {
		writeGrants(&b, "  + ", d.New)
		if len(d.Kept) > 0 {
			b.WriteString("as agreed before:\n")
			writeGrants(&b, "    ", d.Kept)
		}
	}
	if len(d.Gone) > 0 {
		b.WriteString("no longer wanted:\n")
		writeGrants(&b, "  - ", d.Gone)
	}
	return b.String()
}

func writeGrants(b *strings.Builder, mark string, grants []config.Grant) {
	for _, g := range grants {
		fmt.Fprintf(b, "%s%s\n", mark, escape(g.Text))
	}
}

// ask shows text and asks for a yes, on the terminal alone: what is piped into cove is no answer.
func (a *app) ask(file string, d config.Decision, text string) error {
	tty, question, done := a.terminal()
	if tty == nil {
		return &errUntrusted{file: file, changed: d.Known}
	}
	defer done()
	// What was typed before the question could be read is the answer to something else.
	_ = unix.IoctlSetInt(int(tty.Fd()), unix.TCFLSH, unix.TCIFLUSH)
	if _, err := io.WriteString(question, text+"Agree? [y/N] "); err != nil {
		return err
	}
	answer, err := readLine(a.Ctx, tty)
	if err != nil {
		fmt.Fprintln(question)
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

// terminal is where a person can be asked: stdin and stderr when both are one, else the terminal that stderr is.
func (a *app) terminal() (in, out *os.File, done func()) {
	if !isTerminal(a.Stderr) {
		return nil, nil, nil
	}
	if isTerminal(a.Stdin) {
		return a.Stdin, a.Stderr, func() {}
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, nil
	}
	return tty, tty, func() { tty.Close() }
}

// readLine reads a line byte by byte: what comes after it is the command's.
func readLine(ctx context.Context, f *os.File) (string, error) {
	type result struct {
		line string
		err  error
	}
	c := make(chan result, 1)
	go func() {
		var line bytes.Buffer
		one := make([]byte, 1)
		for {
			n, err := f.Read(one)
			if err != nil || n == 0 || one[0] == '\n' {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				c <- result{line.String(), err}
				return
			}
			line.WriteByte(one[0])
		}
	}()
	select {
	case r := <-c:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
