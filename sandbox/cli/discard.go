package cli

import (
	"errors"
	"strings"

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
	h, err := a.holdChanges(store, project)
	if err != nil {
		return err
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

// discardAll removes the view, once that was agreed to.
func (a *app) discardAll(h *heldChanges, force bool) error {
	if !force && len(h.Changes) > 0 {
		tty, question, done := a.terminal()
		if tty == nil {
			return errNobodyToAsk
		}
		defer done()
		var b strings.Builder
		a.writeSummary(&b, h.Changes, false)
		answer, err := a.question(tty, question, b.String()+"Drop all of it? [y/N] ")
		if err != nil {
			return declinedOr(err)
		}
		if answer != "y" && answer != "yes" {
			return errDeclined
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
