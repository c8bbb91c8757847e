package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"cove/sandbox/review"
	"cove/sandbox/review/change"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) applyCommand() *cli.Command {
	return &cli.Command{
		Name:      "apply",
		Usage:     "take over into the project what its view holds: all, some paths, or some hunks",
		UsageText: "cove apply [OPTIONS] [PATH...]\ncove apply --undo [--force] [--dry-run]\ncove apply --log",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "pick", Aliases: []string{"p"}, Usage: "ask about each change, hunk by hunk, as `git add -p`"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also over what changed outside since; keep setuid bits"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "do nothing, say what would be done"},
			&cli.BoolFlag{Name: "undo", Usage: "take the last apply back"},
			&cli.BoolFlag{Name: "log", Usage: "what was applied and taken back, and when"},
		},
		Action: a.action(a.apply),
	}
}

func (a *app) apply(c *cli.Context) error {
	modes := 0
	for _, f := range []string{"pick", "undo", "log"} {
		if c.Bool(f) {
			modes++
		}
	}
	switch {
	case modes > 1:
		return start.Usagef("--pick, --undo and --log exclude each other")
	case (c.Bool("undo") || c.Bool("log")) && c.Args().Present():
		return start.Usagef("--undo and --log take no paths")
	case c.Bool("pick") && c.Bool("dry-run"):
		return start.Usagef("--pick and --dry-run exclude each other")
	case c.Bool("log"):
		return a.applyLog()
	case c.Bool("undo"):
		return a.undoApply(c.Bool("force"), c.Bool("dry-run"))
	}
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
	opts := change.Options{Paths: paths, Force: c.Bool("force"), DryRun: c.Bool("dry-run")}
	if c.Bool("pick") {
		return a.applyPicked(h, opts)
	}
	return a.applyNow(h, opts)
}

// mostWarned is how many paths are named that may act later. Who has applied that many has to look in any case.
const mostWarned = 20

// applyNow applies and says what became of it.
func (a *app) applyNow(h *heldChanges, opts change.Options) error {
	res, err := h.Apply(a.Ctx, opts)
	if errors.Is(err, change.ErrNothing) {
		a.warn("nothing is changed")
		return nil
	}
	if res == nil {
		return a.interruptedOr(err)
	}
	if opts.DryRun {
		return a.wouldApply(res)
	}
	if err == nil {
		err = h.session.SetSettled(res.Left == 0)
	}
	warned := 0
	for _, c := range res.Done {
		if len(c.Warnings) == 0 {
			continue
		}
		if warned++; warned <= mostWarned {
			a.warn("%s: %s", quote(c.Shown()), strings.Join(c.Warnings, "; "))
		}
	}
	if warned > mostWarned {
		a.warn("and %s more to look at", numbered(warned-mostWarned, "path", "paths"))
	}
	left := "nothing is left"
	if res.Left > 0 {
		left = numbered(res.Left, "change is left", "changes are left") + " in the view"
	}
	if n := len(res.Done); n > 0 {
		a.warn("%s applied, %s; `cove apply --undo` takes that back", numbered(n, "change", "changes"), left)
	}
	return errors.Join(a.interruptedOr(err), skippedError(res.Skipped, "applied"))
}

// wouldApply is --dry-run.
func (a *app) wouldApply(res *change.Result) error {
	d := &differ{a: a}
	if err := d.names(a.Stdout, res.Done); err != nil {
		return err
	}
	return skippedError(res.Skipped, "applied")
}

// A notAllError names what was not carried over.
type notAllError struct {
	skipped []change.Skipped
	what    string
}

func (e *notAllError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s not %s", numbered(len(e.skipped), "change was", "changes were"), e.what)
	for i, s := range e.skipped {
		if i == 20 {
			fmt.Fprintf(&b, "\nand %d more", len(e.skipped)-i)
			break
		}
		fmt.Fprintf(&b, "\n%s: %s", quote(s.Shown()), s.Why)
	}
	return b.String()
}

func skippedError(skipped []change.Skipped, what string) error {
	if len(skipped) == 0 {
		return nil
	}
	return &notAllError{skipped, what}
}

// appliedAt finds the project, here or above, of which something was applied; its view may be gone.
func (a *app) appliedAt() (store, project string, err error) {
	store, project, _, none := a.viewAt()
	if !errors.Is(none, review.ErrNone) {
		return store, project, none
	}
	store, here, err := a.storeAndHere()
	if err != nil {
		return "", "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(review.Dir(store, dir), review.Keep)); err == nil {
			return store, dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", "", none
		}
	}
}

func (a *app) undoApply(force, dryRun bool) error {
	store, project, err := a.appliedAt()
	if errors.Is(err, review.ErrNone) {
		return change.ErrNoApply
	}
	if err != nil {
		return err
	}
	s, err := review.OpenKept(store, project)
	if err != nil {
		return err
	}
	defer s.Close()
	set, err := change.OpenUndo(a.Ctx, s, func(w string) { a.warn("%s", w) })
	if err != nil {
		return err
	}
	defer set.Close()
	res, err := set.Undo(a.Ctx, change.Options{Force: force, DryRun: dryRun})
	if res == nil {
		return a.interruptedOr(err)
	}
	if dryRun {
		for _, c := range res.Done {
			if _, err := fmt.Fprintln(a.Stdout, change.GitName(c.Shown())); err != nil {
				return err
			}
		}
		return nil
	}
	if err == nil && len(s.Record().Views) > 0 {
		err = s.SetSettled(false)
	}
	a.warn("%s taken back", numbered(len(res.Done), "path", "paths"))
	return errors.Join(a.interruptedOr(err), skippedError(res.Skipped, "taken back"))
}

// applyLog prints what was applied, and when.
func (a *app) applyLog() error {
	store, project, err := a.appliedAt()
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(review.Dir(store, project), review.Keep, "log"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(a.Stdout, f) // the paths in it are quoted
	return err
}
