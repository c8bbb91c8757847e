package cli

import (
	"errors"
	"strings"

	"cove/sandbox/review"

	"github.com/urfave/cli/v2"
)

func (a *app) discardCommand() *cli.Command {
	return &cli.Command{
		Name:      "discard",
		Usage:     "drop what a project's view holds: all, or some paths",
		UsageText: "cove discard [-f] [PATH...]",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "all of it without being asked"}},
		Action:    a.action(a.discard),
	}
}

var errNobodyToAsk = errors.New("discard: this drops all changes, and there is nobody to ask")

func (a *app) discard(c *cli.Context) error {
	store, project, here, err := a.viewAt()
	if err != nil {
		return err
	}
	paths, err := inProject(project, here, c.Args().Slice())
	if err != nil {
		return err
	}
	s, err := review.OpenSoon(a.Ctx, store, project)
	if err != nil {
		return err
	}
	h, err := a.compare(s, project)
	if err != nil && len(paths) == 0 && a.Ctx.Err() == nil {
		return errors.Join(a.discardUnread(s, err, c.Bool("force")), s.Close())
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	defer h.Close()
	if len(paths) == 0 {
		return a.discardAll(h, c.Bool("force"))
	}
	res, err := h.Discard(a.Ctx, paths)
	if err != nil {
		return a.interruptedOr(err)
	}
	a.warn("%s dropped, %s left", numbered(len(res.Done), "change", "changes"), numbered(res.Left, "is", "are"))
	if res.Left == 0 {
		return h.session.SetSettled(true)
	}
	return nil
}

// discardUnread removes a view that cannot be compared with its project: whatever a program has made of it, it can be dropped.
func (a *app) discardUnread(s *review.Session, why error, force bool) error {
	if !force {
		if err := a.askToDrop("cove: " + escape(why.Error()) + "\nDrop all of it, unseen? [y/N] "); err != nil {
			return errors.Join(why, err)
		}
	}
	if err := s.Discard(a.Ctx); err != nil {
		return err
	}
	a.warn("the view was dropped, unseen: %s", why)
	return nil
}

// askToDrop asks whether to drop what is there.
func (a *app) askToDrop(question string) error {
	tty, out, done := a.terminal()
	if tty == nil {
		return errNobodyToAsk
	}
	defer done()
	answer, err := a.question(tty, out, question)
	if err != nil {
		return declinedOr(err)
	}
	if answer != "y" && answer != "yes" {
		return errDeclined
	}
	return nil
}

// discardAll removes the view, once that was agreed to.
func (a *app) discardAll(h *heldChanges, force bool) error {
	if !force && len(h.Changes) > 0 {
		var b strings.Builder
		a.writeSummary(&b, h.Changes, false)
		if err := a.askToDrop(b.String() + "Drop all of it? [y/N] "); err != nil {
			return err
		}
	}
	return a.dropView(h)
}

// dropView removes a view and everything in it.
func (a *app) dropView(h *heldChanges) error {
	n := len(h.Changes)
	if err := h.session.Discard(a.Ctx); err != nil {
		return err
	}
	a.warn("%s dropped", numbered(n, "change", "changes"))
	return nil
}
