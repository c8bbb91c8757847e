package cli

import (
	"errors"
	"fmt"

	"cove/sandbox"
	"cove/sandbox/review"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) tryCommand() *cli.Command {
	return &cli.Command{
		Name:      "try",
		Usage:     "a command that is not trusted: what it changes is looked at before it counts",
		UsageText: "cove try [OPTIONS] [--] COMMAND [ARG...]",
		Flags:     urfaveFlags(start.Flags, start.TryFlags, start.BoundFlags),
		Action:    a.action(a.try),
	}
}

func (a *app) try(c *cli.Context) error {
	if c.NArg() == 0 {
		return start.Usagef("which command?")
	}
	if c.IsSet("workspace") && c.String("workspace") != "review" {
		return start.Usagef("--workspace %s: `cove try` is always in review; `cove run` takes another", quote(c.String("workspace")))
	}
	for _, f := range start.SessionFlags {
		if c.IsSet(f) {
			return start.Usagef("--%s: what is not trusted has nothing of your session; `cove run --workspace review` takes the option", f)
		}
	}
	var store, project string
	a.Review = func(in, of string) (*review.Record, error) {
		store, project = in, of
		kept, err := a.keptView(in, of)
		if err == nil && kept != nil && kept.changes > 0 && !c.Bool("continue") {
			return nil, &keptError{project: of}
		}
		return kept.of(), err
	}
	plan, err := a.plan(c)
	if err != nil {
		return err
	}
	if project == "" {
		return errNoProject
	}
	if c.Bool("dry-run") {
		plan.Spec.Security.Seccomp.Program = nil // its digest says which it is
		return writeJSON(a.Stdout, plan.Spec)
	}
	status, err := sandbox.Run(a.Ctx, plan.Spec, plan.Options)
	if err != nil {
		a.sayKept(store, project)
		return err
	}
	code := a.status(status, nil) // says why it never ran, if so
	return errors.Join(a.afterTry(store, project), code)
}

// errNoProject says that there is nothing that could be reviewed.
var errNoProject = errors.New("try: there is no project folder here whose changes could be reviewed")

// A keptError says that a project's view holds changes of before, which those of another command are not to be mixed with.
type keptError struct{ project string }

func (e *keptError) Error() string {
	return fmt.Sprintf("try: changes of before wait for review in %q", e.project)
}
