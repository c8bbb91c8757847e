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
	"cove/sandbox/signals"

	"golang.org/x/sys/unix"
)

// afterTry tells what a command has changed, and asks what is to become of it, where there is somebody to ask. Nobody's
// answer keeps it.
func (a *app) afterTry(store, project string) error {
	h, err := a.holdChanges(store, project)
	if errors.Is(err, review.ErrNone) {
		a.Warn("nothing was changed")
		return nil
	}
	if err != nil {
		a.sayKept(store, project)
		return err
	}
	if len(h.Changes) == 0 {
		a.Warn("nothing was changed")
		return errors.Join(h.session.Discard(a.Ctx), h.Close())
	}
	tty, out, done := a.terminal()
	if tty == nil {
		a.sayKept(store, project)
		return h.Close()
	}
	defer done()
	if err := resetTerminal(out); err != nil {
		return errors.Join(err, h.Close())
	}
	t := &trial{app: a, h: h, tty: tty, out: out}
	kept, err := t.ask()
	err = errors.Join(err, h.Close())
	switch {
	case kept && t.applied:
		a.Warn("what is left is kept; see `cove diff`, `cove apply`, `cove discard`")
	case kept:
		a.sayKept(store, project)
	}
	return err
}

// sayKept says what can be done with what is kept; nothing where there is no view.
func (a *app) sayKept(store, project string) {
	if _, err := review.Look(store, project); errors.Is(err, review.ErrNone) {
		return
	}
	a.Warn("what was changed is kept, and nothing of it is in the project yet:")
	a.Warn("  cove diff       shows it")
	a.Warn("  cove apply      takes it over, or part of it")
	a.Warn("  cove discard    drops it")
}

// resetTerminal undoes what the command may have left of the terminal: a sequence that is not at its end and swallows what
// comes, the other screen, another character set, colours in which nothing is to be read, a scrolling region, no line wrap,
// a mouse that types. What follows is to be read as it is (ECMA-48, ctlseqs).
func resetTerminal(out io.Writer) error {
	if term := os.Getenv("TERM"); term == "" || term == "dumb" {
		return nil
	}
	_, err := io.WriteString(out, "\x18\x1b\\"+ // CAN and ST end any sequence
		"\x1b7\x1b[r\x1b8"+ // the whole screen scrolls; the cursor stays
		"\x1b7\x1b[?1049l"+ // the first screen; the cursor stays where it was that one
		"\x1b[?6l\x1b8"+
		"\x1b[0m\x1b(B\x1b)B\x0f"+ // no colour, ASCII
		"\x1b[?7h\x1b[4l\x1b[20l\x1b[?25h\x1b[?5l"+ // wrap, replace, cursor, no inverse screen
		"\x1b[?1l\x1b>\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?2004l"+ // keys and mouse
		"\r\n\x1b[J") // nothing stands where the text goes
	return err
}

// trial is what a tried command has changed, and whom to ask about it.
type trial struct {
	*app
	h        *heldChanges
	tty, out *os.File
	applied  bool // something was
}

const trialQuestion = "Apply all of it, view, pick, keep or discard? [a/v/p/K/d] "

const trialHelp = `a - apply: take all of it over into the project
v - view: the differences, line by line
p - pick: be asked about each change, hunk by hunk
k - keep: it stays in its view, for cove diff, apply and discard later
d - discard: drop all of it
`

// ask asks until there is nothing left to ask about. kept says that there are changes left that stay.
func (t *trial) ask() (kept bool, err error) {
	// One signal is listened for all the time: a pager's ^C, which comes to us as well, ends no cove.
	hold := make(chan os.Signal, 1)
	signals.Notify(hold, unix.SIGINT, unix.SIGQUIT)
	defer signals.Stop(hold)
	for summary := true; ; {
		if summary {
			var b strings.Builder
			t.writeSummary(&b, t.h.Changes, false)
			if _, err := io.WriteString(t.out, b.String()); err != nil {
				return true, err
			}
		}
		var answer string
		if err := t.interruptible(func() (err error) { answer, err = t.question(); return }); err != nil {
			fmt.Fprintln(t.out)
			return true, nil // ^C keeps, and ^D
		}
		summary = false
		before := len(t.h.Changes)
		switch answer {
		case "", "k", "keep":
			return true, nil
		case "a", "apply":
			err = t.interruptible(func() error { return t.applyNow(t.h, change.Options{}) })
			summary = true
		case "p", "pick":
			err = t.interruptible(func() error { return t.applyPicked(t.h, change.Options{}) })
			summary = true
		case "v", "view":
			err = t.view()
		case "d", "discard":
			if err := t.h.session.Discard(context.WithoutCancel(t.Ctx)); err != nil {
				return true, err
			}
			t.Warn("discarded: nothing of it is in the project")
			return false, nil
		default:
			_, err = io.WriteString(t.out, trialHelp)
		}
		t.applied = t.applied || len(t.h.Changes) < before
		switch {
		case errors.Is(err, context.Canceled):
			t.Warn("interrupted")
		case err != nil:
			t.printError(err) // a conflict, say: it is all still there
		}
		err = nil
		if len(t.h.Changes) == 0 {
			return false, nil
		}
	}
}

func (t *trial) question() (string, error) {
	// What was typed before the question could be read is the answer to something else.
	_ = unix.IoctlSetInt(int(t.tty.Fd()), unix.TCFLSH, unix.TCIFLUSH)
	if _, err := io.WriteString(t.out, trialQuestion); err != nil {
		return "", err
	}
	answer, err := readLine(t.Ctx, t.tty)
	return strings.ToLower(strings.TrimSpace(answer)), err
}

// interruptible runs a step under a context of its own, which a signal ends: the one before may be over, by ^C in a pager.
func (t *trial) interruptible(step func() error) error {
	before := t.Ctx
	ctx, stop := signals.Context(context.WithoutCancel(before), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	t.Ctx = ctx
	defer func() { stop(); t.Ctx = before }()
	return step()
}

// view shows the differences, through the pager where stdout is the terminal too. ^C is the pager's; without one it ends what
// is being written.
func (t *trial) view() error {
	d := &differ{a: t.app, ctx: context.WithoutCancel(t.Ctx), set: t.h.Set, look: change.Look{Safe: true, Size: size,
		Colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}}
	write := func(w io.Writer) error { return d.patches(w, t.h.Changes) }
	if isTerminal(t.Stdout) && t.pager() != nil {
		return t.page(write)
	}
	return t.interruptible(func() error {
		d.ctx = t.Ctx
		out := bufio.NewWriter(t.out)
		err := errors.Join(write(out), out.Flush())
		if t.Ctx.Err() != nil {
			_, err = io.WriteString(t.out, "\n")
		}
		return err
	})
}
