package change

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cove/sandbox/review"
	"cove/sandbox/review/tree"

	"golang.org/x/sys/unix"
)

// ErrNoApply says that there is nothing to take back.
var ErrNoApply = errors.New("there is no apply that could be taken back")

// OpenUndo is Open for an undo alone, of an apply whose view may be gone since.
func OpenUndo(ctx context.Context, session Session, warn func(string)) (_ *Set, err error) {
	if len(session.Record().Views) > 0 {
		return Open(ctx, session, warn)
	}
	j, err := readJournal(session.Dir(), (*journal).undoable)
	if err != nil {
		return nil, err
	}
	if j == nil {
		return nil, ErrNoApply
	}
	if warn == nil {
		warn = func(string) {}
	}
	s := &Set{dir: session.Dir(), warn: warn, began: tree.FromSpec(unix.NsecToTimespec(j.Began))}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for i, folder := range j.Folders {
		o, err := openOutside(string(folder))
		if err != nil {
			return nil, err
		}
		s.outside = append(s.outside, o)
		s.record.Views = append(s.record.Views, review.View{Path: string(j.Paths[i]), Lower: string(folder)})
	}
	s.state, s.journal, err = readState(s.dir, j.Began)
	return s, err
}

func (j *journal) undoable() bool { return j.Phase != undone }

// Undo takes the last apply back: what was at its paths before comes there again, where cove's own is there still. What was
// applied is a change of the view again.
func (s *Set) Undo(ctx context.Context, opts Options) (_ *Result, err error) {
	j := s.journal
	if j == nil {
		if j, err = readJournal(s.dir, (*journal).undoable); err != nil {
			return nil, err
		}
	}
	if j == nil {
		return nil, ErrNoApply
	}
	if !s.isOf(j) {
		return nil, errors.New("something was mounted inside the project, or unmounted, since it was applied: it would be taken back elsewhere")
	}
	w := &work{s: s, j: j, force: opts.Force, undo: true, clean: map[string]bool{}}
	defer func() { err = errors.Join(err, j.close()) }()
	if j.cutShort() && !opts.DryRun {
		if err := s.sweep(j); err != nil {
			return nil, err
		}
	}
	if !opts.DryRun {
		w.openUp()
	}
	var steps []*step
	conflicts := &ConflictError{Undo: true}
	for _, st := range j.Steps {
		back, why, err := w.back(st)
		if err != nil {
			return nil, err
		}
		if why != "" && !opts.Force {
			conflicts.Conflicts = append(conflicts.Conflicts, Skipped{st.Path, why})
		}
		if back {
			steps = append(steps, st)
		}
	}
	if len(conflicts.Conflicts) > 0 {
		return nil, conflicts
	}
	res := &Result{}
	var listed []*Change
	for _, st := range steps {
		listed = append(listed, st.change)
	}
	if opts.DryRun {
		res.Done = listed
		return res, nil
	}
	j.Phase = undoing
	if err := j.write(); err != nil {
		return nil, err
	}
	w.remember()
	w.sync = len(steps) <= fewSteps
	err = w.run(ctx, w.backward(steps))
	to := undone
	if slices.ContainsFunc(steps, func(st *step) bool { return !st.done || st.bare }) {
		to = applied // the rest can still be taken back
	}
	err = errors.Join(err, w.forgetUnmade(), w.finish(ctx, to, listed, res))
	if err == nil {
		s.journal = nil
		if len(res.Skipped) == 0 {
			s.dropSaved(j)
		}
	}
	return res, err
}

// isOf tells whether a journal's folders are those of the views: by their number its steps say where they are.
func (s *Set) isOf(j *journal) bool {
	if len(j.Folders) != len(s.record.Views) || len(j.Paths) != len(s.record.Views) {
		return false
	}
	for i, v := range s.record.Views {
		if string(j.Folders[i]) != v.Lower || string(j.Paths[i]) != v.Path {
			return false
		}
	}
	return true
}

// openUp lets the caller into folders that the apply has shut for everybody, to take out what it has put there. They go too,
// or get the mode back that they had.
func (w *work) openUp() {
	for _, st := range w.j.Steps {
		if st.New == nil || st.New.Mode&typeMask != typeDir || st.New.Mode&0o700 == 0o700 || st.Rel == "" {
			continue
		}
		fd, err := openIn(w.s.outside[st.View].fd, string(st.Rel), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue // whoever needs it says so
		}
		var now unix.Stat_t
		if unix.Fstat(fd, &now) == nil && now.Ino == w.j.made[st.n] && now.Mode == st.New.Mode {
			_ = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), now.Mode&0o7777|0o700)
		}
		_ = unix.Close(fd)
	}
}

// back says whether a step is to be taken back, and why it should not be. It sets what the step expects and makes.
func (w *work) back(st *step) (back bool, why string, err error) {
	s := w.s
	m, err := s.outside[st.View].lstat(string(st.Rel))
	if err != nil {
		return false, "", err
	}
	now := identOf(m)
	var old *ident
	if st.Old != nil {
		old = &st.Old.ident
	}
	wrote := st.New
	st.expect, st.goal, st.done, st.bare, st.skip = now, old, false, false, ""
	st.change = &Change{Path: st.Path, Kind: st.Kind, Old: m, view: st.View, rel: string(st.Rel)}
	if old != nil {
		st.change.New = &Meta{Mode: old.Mode, Size: old.Size, Target: st.Old.Target}
	}
	made, noted := w.j.made[st.n]
	unmade, again := w.j.unmade[st.n]
	isDir := now != nil && now.Mode&typeMask == typeDir
	switch {
	case again && now != nil && now.Ino == unmade && (old == nil || old.Mode&typeMask == now.Mode&typeMask):
		// An undo that was cut short has put it there; of a folder perhaps not yet its mode.
		return isDir, "", nil
	case now == nil && old == nil:
		return false, "", nil // gone already
	case wrote == nil && now == nil:
		return true, "", nil // it was deleted
	case old.moved(now) && !(noted && made == now.Ino):
		return false, "", nil // never done
	case wrote == nil && isDir && old.Mode&typeMask == typeDir:
		return false, "", nil // it was made again
	case wrote == nil:
		return true, "something is there that was not when it was deleted", nil
	case now == nil:
		return true, "it is gone since it was applied", nil
	case noted && made == now.Ino && wrote.Mode&typeMask == now.Mode&typeMask && s.asLeft(string(st.Path), wrote, now):
		return true, "", nil
	}
	return true, "it changed since it was applied", nil
}

// asLeft tells that what is outside is what cove left there. What an apply has done that was cut short is known by its time.
func (s *Set) asLeft(path string, wrote, now *ident) bool {
	if now.Mode&typeMask == typeDir {
		return true // what is in it is looked at by itself
	}
	if _, ok := s.state.ours[path]; ok && s.journal == nil {
		return s.state.isOurs(path, now)
	}
	return now.Mtime == wrote.Mtime
}

// backward orders steps the other way round.
func (w *work) backward(steps []*step) []*step {
	// What was made goes first, the deepest before the folder that it is in; then comes what was there, folders first.
	var gone, back []*step
	for _, st := range steps {
		if st.goal == nil {
			gone = append(gone, st)
		} else {
			back = append(back, st)
		}
	}
	order := func(a, b *step) int { return byPath(string(a.Path), string(b.Path)) }
	slices.SortStableFunc(gone, order)
	slices.SortStableFunc(back, order)
	slices.Reverse(gone)
	return slices.Concat(gone, back)
}

// forgetUnmade makes changes of the view of what was taken back by others.
func (w *work) forgetUnmade() error {
	for _, st := range w.j.Steps {
		if !st.done && st.skip == "" {
			m, err := w.s.outside[st.View].lstat(string(st.Rel))
			if err != nil {
				return err
			}
			if now := identOf(m); st.goal == nil && now == nil || st.goal != nil && st.goal.moved(now) {
				delete(w.s.state.applied, string(st.Path))
			}
		}
	}
	return nil
}
