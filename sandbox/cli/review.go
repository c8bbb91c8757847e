package cli

import (
	"errors"

	"cove/sandbox/review"
	"cove/sandbox/review/change"
)

// inReview says that a sandbox goes on where one before it has left changes.
func (a *app) inReview(store, project string) (*review.Record, error) {
	kept, err := a.keptView(store, project)
	if err == nil && kept != nil && kept.changes > 0 {
		a.Warn("%s kept from before; see `cove diff`, `cove apply`, `cove discard`", numbered(kept.changes, "change is", "changes are"))
	}
	return kept.of(), err
}

// kept is a project's view of before.
type kept struct {
	review.Record
	changes int // 0 where somebody works in it now
}

func (k *kept) of() *review.Record {
	if k == nil {
		return nil
	}
	return &k.Record
}

// keptView looks at the view that a project has; nil where there is none, or one in which nothing is changed.
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
	n, err := a.countChanges(s)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		return &kept{Record: s.Record(), changes: n}, nil
	}
	return nil, s.Discard(a.Ctx)
}

// countChanges counts what a view holds. An overlay may hold folders in which nothing is changed any more.
func (a *app) countChanges(s *review.Session) (int, error) {
	if !s.Changed() {
		return 0, nil
	}
	set, err := change.Open(a.Ctx, s, nil)
	if err != nil {
		return 0, err
	}
	defer set.Close()
	return len(set.Changes), nil
}
