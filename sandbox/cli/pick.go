package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"cove/sandbox/review/change"
	"cove/sandbox/review/change/lines"

	"golang.org/x/sys/unix"
)

// question asks on the terminal and returns the answer, in lower case. What was typed before the question could be read is
// the answer to something else.
func (a *app) question(tty, out *os.File, text string) (string, error) {
	_ = unix.IoctlSetInt(int(tty.Fd()), unix.TCFLSH, unix.TCIFLUSH)
	if _, err := io.WriteString(out, text); err != nil {
		return "", err
	}
	answer, err := readLine(a.Ctx, tty)
	if err != nil {
		fmt.Fprintln(out)
		return "", err
	}
	return strings.ToLower(strings.TrimSpace(answer)), nil
}

var errPickNobody = fmt.Errorf("apply --pick: there is no terminal on which to ask")

var errPickEnded = errors.New("apply --pick: the input ended before the last answer; nothing is applied")

// applyPicked asks about each change and applies those that were chosen.
func (a *app) applyPicked(h *heldChanges, opts change.Options) error {
	tty, out, done := a.terminal()
	if tty == nil {
		return errPickNobody
	}
	defer done()
	chosen, err := h.Choose(opts.Paths)
	if err != nil {
		return err
	}
	p := &picker{a: a, tty: tty, out: out, picked: map[*change.Change]*string{},
		look: change.Look{Colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", Safe: true, Size: size}}
	for i, c := range chosen {
		if c.Refused != "" {
			continue
		}
		if err := p.change(h, c, i+1, len(chosen)); errors.Is(err, io.EOF) {
			return errPickEnded
		} else if err != nil {
			return a.interruptedOr(err)
		}
		if p.quit {
			break
		}
	}
	if len(p.picked) == 0 {
		a.warn("nothing was chosen, and nothing is applied")
		return nil
	}
	opts.Picked = p.picked
	return a.applyNow(h, opts)
}

// picker asks about changes, one after the other.
type picker struct {
	a        *app
	tty, out *os.File
	look     change.Look
	picked   map[*change.Change]*string
	quit     bool
}

const pickHelp = `y - apply this
n - leave it
q - leave this and all that follow; what was chosen so far is applied
a - apply this and all later ones of the file
d - leave this and all later ones of the file
s - split this hunk into smaller ones
? - this help
^C, ^D - apply nothing at all
`

// change asks about one change: hunk by hunk where a text has others, else as a whole.
func (p *picker) change(h *heldChanges, c *change.Change, n, of int) error {
	f, err := h.Read(c)
	if err != nil {
		return err
	}
	if c.Conflict != "" {
		if _, err := fmt.Fprintf(p.out, "%s: %s; only --force overwrites it\n", quote(string(c.Path)), c.Conflict); err != nil {
			return err
		}
	}
	if c.Kind != change.Changed || f.Binary || f.Large || f.Unreadable != "" || len(f.Hunks) == 0 {
		var b bytes.Buffer
		if err := p.look.Write(&b, f); err != nil {
			return err
		}
		b.WriteString(p.warnings(c))
		take, err := p.ask(b.String(), fmt.Sprintf("(%d/%d) Apply this %s [y,n,q,?]? ", n, of, what(c)), "ynq")
		if err != nil {
			return err
		}
		p.quit = take == "q"
		if take == "y" {
			p.picked[c] = nil
		}
		return nil
	}
	taken, hunks, err := p.hunks(f, n, of)
	if err != nil {
		return err
	}
	any, all := false, true
	for _, t := range taken {
		any, all = any || t, all && t
	}
	switch {
	case all:
		p.picked[c] = nil
	case any:
		text := string(lines.Take(f.OldText, hunks, taken))
		p.picked[c] = &text
	}
	return nil
}

// what names a change in a question.
func what(c *change.Change) string {
	switch c.Kind {
	case change.Added:
		return "new " + c.New.What()
	case change.Deleted:
		return "deletion"
	case change.Renamed:
		return "renaming"
	case change.Mode:
		return "mode"
	}
	return "change"
}

func (p *picker) warnings(c *change.Change) string {
	if len(c.Warnings) == 0 {
		return ""
	}
	return "! " + escape(strings.Join(c.Warnings, "; ")) + "\n"
}

// hunks asks about each hunk of a file. They may be more in the end than there were.
func (p *picker) hunks(f *change.File, n, of int) (taken []bool, hunks []lines.Hunk, err error) {
	hunks = f.Hunks
	var b bytes.Buffer
	name := change.GitName(string(f.Path))
	fmt.Fprintf(&b, "%s\n%s", p.bold("--- a/"+name+"\n+++ b/"+name), p.warnings(f.Change))
	shown := b.String()
	for len(taken) < len(hunks) {
		i := len(taken)
		var b bytes.Buffer
		p.look.Hunk(&b, hunks[i])
		keys := "ynqad"
		parts := hunks[i].Split()
		if len(parts) > 1 {
			keys += "s"
		}
		answer, err := p.ask(shown+b.String(), fmt.Sprintf("(%d/%d) Apply hunk %d of %d [%s,?]? ", n, of, i+1, len(hunks), strings.Join(strings.Split(keys, ""), ",")), keys)
		if err != nil {
			return nil, nil, err
		}
		shown = ""
		switch answer {
		case "y", "n":
			taken = append(taken, answer == "y")
		case "a", "d", "q":
			p.quit = answer == "q"
			for len(taken) < len(hunks) {
				taken = append(taken, answer == "a")
			}
		case "s":
			hunks = append(append(append([]lines.Hunk{}, hunks[:i]...), parts...), hunks[i+1:]...)
		}
	}
	return taken, hunks, nil
}

func (p *picker) bold(text string) string {
	if !p.look.Colour {
		return text
	}
	return "\x1b[1m" + text + "\x1b[m"
}

// ask shows text and asks until one of the keys is typed.
func (p *picker) ask(text, question, keys string) (string, error) {
	for {
		answer, err := p.a.question(p.tty, p.out, text+question)
		if err != nil {
			return "", err
		}
		if len(answer) == 1 && strings.Contains(keys, answer) {
			return answer, nil
		}
		text = pickHelp
	}
}
