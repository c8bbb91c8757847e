package change

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cove/sandbox/spec"
)

// Discard drops changes: the view is as the project is at these paths, and below them. To drop all of it package review
// removes the view itself.
func (s *Set) Discard(ctx context.Context, paths []string) (*Result, error) {
	if s.journal != nil {
		return nil, errors.New("an apply or an undo was cut short: `cove apply` finishes it, `cove apply --undo` takes it back")
	}
	chosen, err := s.Choose(paths)
	if err != nil {
		return nil, err
	}
	chosen = s.withFolders(chosen)
	res := &Result{}
	views, gone := map[int]bool{}, map[spot]bool{}
	s.revealed = map[spot]bool{}
	defer func() { s.revealed = nil }()
	for _, c := range chosen {
		if ctx.Err() != nil {
			return res, context.Cause(ctx)
		}
		for _, one := range []*Change{c, c.old} {
			if one == nil {
				continue
			}
			views[one.view] = true
			if !wentWith(one, gone) {
				if err := s.drop(one); err != nil {
					return res, fmt.Errorf("discard %q: %w", one.name(), err)
				}
			}
			delete(s.state.applied, one.name())
			if one.New.IsDir() && (one.Kind == Added || one.Kind == Type) {
				gone[spot{one.view, one.name()}] = true
			}
		}
		res.Done = append(res.Done, c)
	}
	for view := range views {
		if err := s.tree.Sync(view); err != nil {
			return res, err
		}
	}
	if err := s.list(ctx); err != nil {
		return res, err
	}
	res.Left = len(s.Changes)
	if len(s.state.applied) == 0 && len(s.state.ours) == 0 {
		return res, nil
	}
	return res, s.state.write(s.dir)
}

// spot is a path of the project in one of its views.
type spot struct {
	view int
	path string
}

// wentWith tells what was removed together with a folder that it is in.
func wentWith(c *Change, gone map[spot]bool) bool {
	if c.New == nil || len(gone) == 0 {
		return false
	}
	for dir := parentOf(c.name()); dir != ""; dir = parentOf(dir) {
		if gone[spot{c.view, dir}] {
			return true
		}
	}
	return false
}

// withFolders adds what must go with what is chosen: with a new folder everything in it.
func (s *Set) withFolders(chosen []*Change) []*Change {
	have, dirs := map[*Change]bool{}, map[string]bool{}
	for _, c := range chosen {
		have[c] = true
		if c.Kind == Added && c.New.IsDir() || c.Kind == Type {
			dirs[c.name()] = true
		}
	}
	for _, c := range s.Changes {
		if !have[c] && underAny(c.name(), dirs) {
			have[c] = true
			chosen = append(chosen, c)
		}
	}
	sortChanges(chosen)
	return chosen
}

// drop makes one path of the view what it is outside.
func (s *Set) drop(c *Change) error {
	out := s.outside[c.view]
	out.forget()
	if s.record.Kind != spec.RootCopy {
		if c.rel == "" || c.New.IsDir() && c.Old.IsDir() {
			return s.putBack(c)
		}
		if err := s.reveal(c.view, parentOf(c.rel)); err != nil {
			return err
		}
		return s.tree.Remove(c.view, c.rel)
	}
	if c.Kind == Added || c.Kind == Renamed {
		return s.tree.Remove(c.view, c.rel)
	}
	if c.Kind == Type {
		if err := s.tree.Remove(c.view, c.rel); err != nil {
			return err
		}
	}
	if err := s.bringFolder(c.view, parentOf(c.rel)); err != nil {
		return err
	}
	return s.putBack(c)
}

// bringFolder brings a folder back into a copy that has lost it.
func (s *Set) bringFolder(view int, dir string) error {
	if dir == "" {
		return nil
	}
	e, err := s.tree.Stat(view, dir)
	if err != nil || e != nil && e.IsDir() {
		return err
	}
	if err := s.bringFolder(view, parentOf(dir)); err != nil {
		return err
	}
	return s.putBack(&Change{view: view, rel: dir})
}

// putBack copies what is outside into the view.
func (s *Set) putBack(c *Change) error {
	out := s.outside[c.view]
	m, err := out.lstat(c.rel)
	if err != nil || m == nil {
		return err
	}
	var xattrs map[string]string
	if m.IsDir() || m.IsFile() {
		if xattrs, err = out.xattrs(c.rel); err != nil {
			return err
		}
	}
	var content *os.File
	if m.IsFile() {
		if content, err = out.open(c.rel); err != nil {
			return err
		}
		defer content.Close()
	}
	return s.tree.Put(c.view, s.entryOf(c.rel, m, xattrs), content)
}
