package cli

import (
	"errors"

	"cove/sandbox/review"
)

// inReview says that a sandbox goes on where one before it has left changes.
func (a *app) inReview(store, project string) (*review.Record, error) {
	kept, err := a.keptView(store, project)
	if err == nil && kept != nil && kept.changed {
		a.sayKeptBefore(store, project)
	}
	return kept.of(), err
}

func (a *app) sayKeptBefore(store, project string) {
	set, err := a.lookAtChanges(a.Ctx, store, project)
	if err != nil {
		a.Warn("changes of before are kept; see `cove diff`, `cove apply`, `cove discard`")
		return
	}
	defer set.Close()
	if n := len(set.Changes); n > 0 {
		a.Warn("%s kept from before; see `cove diff`, `cove apply`, `cove discard`", numbered(n, "change is", "changes are"))
	}
}

// kept is a project's view of before.
type kept struct {
	review.Record
	changed bool // and nobody works in it now
}

func (k *kept) of() *review.Record {
	if k == nil {
		return nil
	}
	return &k.Record
}

// keptView looks at the view that a project has; nil where there is none, or where a kill left one without a change.
func (a *app) keptView(store, project string) (*kept, error) {
	s, err := review.Open(store, project)
	var inUse *review.InUseError
	switch {
	case errors.Is(err, review.ErrNone):
		return nil, nil
	case errors.As(err, &inUse):
		// By a shell that is joined; or whoever starts a second sandbox is told.
		r, err := review.Look(store, project)
		if errors.Is(err, review.ErrNone) {
			return nil, nil
		}
		return &kept{Record: r}, err
	case err != nil:
		return nil, err
	}
	defer s.Close()
	if s.Changed() {
		return &kept{Record: s.Record(), changed: true}, nil
	}
	return nil, s.Discard(a.Ctx)
}
