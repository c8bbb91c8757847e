package cli

import (
	"fmt"
	"strings"
	"time"

	"cove/fetch/store"
	"cove/sandbox/review"
	"cove/sandbox/spec"

	"github.com/urfave/cli/v2"
)

// collected is what gc did, as JSON.
type collected struct {
	store.Removed
	Views        []viewUse `json:"views"` // that stay
	RemovedViews []viewUse `json:"removedViews"`

	Persist        []store.PersistUse `json:"persist"` // that stays
	RemovedPersist []store.PersistUse `json:"removedPersist"`

	Homes []goneHome `json:"homes"` // of projects that are gone
}

// viewUse is a project's view, as JSON.
type viewUse struct {
	Project spec.Path `json:"project"`
	Gone    bool      `json:"gone,omitempty"` // the project is
	InUse   bool      `json:"inUse,omitempty"`
	Began   time.Time `json:"began"`
	Disk    int64     `json:"disk"`
	Error   string    `json:"error,omitempty"` // why it cannot be read
}

func viewUses(views []review.Usage) []viewUse {
	out := []viewUse{}
	for _, v := range views {
		one := viewUse{Project: spec.Path(v.Project), Gone: v.Gone, InUse: v.InUse, Began: v.Began, Disk: v.Disk}
		if v.Err != nil {
			one.Error = v.Err.Error()
		}
		out = append(out, one)
	}
	return out
}

// printViews says what of projects under review was removed, and what is left alone.
func (a *app) printViews(c *cli.Context, s *review.Swept) error {
	removed := "removed"
	if c.Bool("dry-run") {
		removed = "would be removed"
	}
	var b strings.Builder
	for _, v := range s.Removed {
		what := "nothing was changed"
		if v.Gone {
			what = "the project is gone"
		}
		fmt.Fprintf(&b, "view of %s %s: %s\n", quote(v.Project), removed, what)
	}
	for _, v := range s.Views {
		switch {
		case v.Err != nil:
			fmt.Fprintf(&b, "kept %s, %s: %s\n", quote(v.Dir), size(v.Disk), escape(v.Err.Error()))
		case v.InUse:
			fmt.Fprintf(&b, "kept the view of %s, %s: it is in use\n", quote(v.Project), size(v.Disk))
		case v.Gone:
			fmt.Fprintf(&b, "kept the view of %s, %s: it holds changes, and the project is gone; `cove gc --views` removes it\n", quote(v.Project), size(v.Disk))
		default:
			fmt.Fprintf(&b, "kept the view of %s, %s: it holds changes; `cove diff` shows them there, `cove discard` drops them\n", quote(v.Project), size(v.Disk))
		}
	}
	_, err := a.Stdout.WriteString(b.String())
	return err
}

// viewsFound says what waits for review, for doctor; "" where nothing does.
func (a *app) viewsFound(s *store.Store) string {
	swept, err := review.Sweep(a.Ctx, s.Dir(), false, true, a.holdsChanges)
	if err != nil || len(swept.Views) == 0 {
		return ""
	}
	var disk int64
	for _, v := range swept.Views {
		disk += v.Disk
	}
	return fmt.Sprintf(", and %s of %d projects' views for review (cove gc names them)", size(disk), len(swept.Views))
}

// holdsChanges looks closer at a view; one that cannot be looked at stays.
func (a *app) holdsChanges(s *review.Session) bool {
	n, err := a.countChanges(s)
	return err != nil || n > 0
}
