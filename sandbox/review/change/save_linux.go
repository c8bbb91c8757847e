package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// save keeps everything that the steps are going to replace or remove, on the disk.
func (w *work) save(ctx context.Context) error {
	for _, st := range w.j.Steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var err error
		switch {
		case st.Old == nil:
		case st.Old.Mode&typeMask == unix.S_IFREG:
			err = w.saveFile(st)
		case st.Old.Mode&typeMask == typeDir:
			err = w.saveDir(st)
		}
		if err != nil {
			return fmt.Errorf("keep %q as it is, for an undo: %w", string(st.Path), err)
		}
	}
	if !w.copied {
		return nil
	}
	return syncFS(applyDir(w.s.dir))
}

func (w *work) saveDir(st *step) error {
	fd, err := openIn(w.s.outside[st.View].fd, orDot(string(st.Rel)), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return st.Old.keepXattrs(fd)
}

func orDot(path string) string {
	if path == "" {
		return "."
	}
	return path
}

func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// unlink takes away the name by which a file was kept that is in its place again: to do so later would change its ctime, by
// which it is known.
func (j *journal) unlink(st *step) {
	if st.Old != nil && st.Old.Moved {
		_ = os.Remove(j.saved(st.Old.Saved))
	}
}

// clearUp comes before an apply: what one that was cut short has left goes.
func (s *Set) clearUp(ctx context.Context, opts Options) error {
	if s.journal == nil {
		return nil
	}
	if s.journal.Phase == undoing {
		return errors.New("an undo was cut short: `cove apply --undo` finishes it")
	}
	if opts.Picked != nil {
		return errors.New("an apply was cut short: `cove apply` finishes it, `cove apply --undo` takes it back")
	}
	if opts.DryRun {
		return nil
	}
	if err := s.sweep(s.journal); err != nil {
		return err
	}
	return s.list(ctx)
}

// sweep removes the temporary files of an apply, or of an undo, that was cut short.
func (s *Set) sweep(j *journal) error {
	for _, st := range j.Steps {
		if st.Rel == "" {
			continue
		}
		dir, err := s.outside[st.View].dir(parentOf(string(st.Rel)))
		if err != nil {
			return err
		}
		if dir < 0 {
			continue
		}
		tmp := j.tmpName(st.n)
		is, err := identAt(dir, tmp)
		if err != nil {
			return err
		}
		if is == nil {
			continue
		}
		made, noted := j.made[st.n]
		// What is not noted has never been in its place. What is there now and was not made by cove was in that place
		// until then, and is to be what was expected there.
		unmade, again := j.unmade[st.n]
		switch {
		case st.Old != nil && st.Old.ident.moved(is):
			// What was there, taken out of its place; where it is kept already this is one more name of it.
			if st.Old.Moved {
				kept, err := keepAway(j.saved(st.Old.Saved), dir, tmp)
				if err != nil {
					return err
				}
				if kept {
					continue
				}
			}
		case j.makes(st) && (j.Phase == undoing && unmade == 0 || !noted && !again), noted && made == is.Ino, again && unmade == is.Ino, j.cameBack(st, is):
		default:
			s.warn(fmt.Sprintf("%q: what was at %q when an apply was cut short is left there", join(parentOf(string(st.Path)), tmp), string(st.Path)))
			continue
		}
		if err := removeAt(dir, tmp, is); err != nil {
			return &os.PathError{Op: "remove", Path: join(parentOf(string(st.Path)), tmp), Err: err}
		}
	}
	return nil
}

// makes tells a step that makes a file, and does not only take one away.
func (j *journal) makes(st *step) bool {
	if j.Phase == undoing {
		return st.Old != nil
	}
	return st.New != nil
}

// keepAway moves what was taken out of its place a moment before a kill to where it is kept; false where it is there already.
func keepAway(saved string, dir int, tmp string) (bool, error) {
	err := unix.Renameat2(dir, tmp, unix.AT_FDCWD, saved, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "keep", Path: saved, Err: err}
	}
	return true, nil
}

// cameBack tells what an undo has taken out of its place: what the apply had put there.
func (j *journal) cameBack(st *step, is *ident) bool {
	return j.Phase == undoing && st.New != nil && st.New.Mode&typeMask == is.Mode&typeMask && st.New.Size == is.Size && st.New.Mtime == is.Mtime
}

// takeUp goes on with an apply that was cut short: what it has done belongs to this one, so that an undo takes back both.
func (w *work) takeUp(old *journal) error {
	at := map[string]*step{}
	for _, st := range w.j.Steps {
		at[string(st.Path)] = st
	}
	for _, st := range old.Steps {
		done, err := w.s.wasDone(old, st)
		if err != nil {
			return err
		}
		if !done {
			continue
		}
		if again := at[string(st.Path)]; again != nil {
			again.Old = st.Old
			if ino, ok := old.made[st.n]; ok && st.New != nil { // a folder that lacks its mode, say: cove's own still
				if err := w.j.note(note{Step: again.n, Ino: ino}); err != nil {
					return err
				}
			}
			continue
		}
		carried := &step{n: len(w.j.Steps), Path: st.Path, View: st.View, Rel: st.Rel, Kind: st.Kind, Old: st.Old, New: st.New, Part: st.Part, done: true}
		w.j.Steps = append(w.j.Steps, carried)
		if err := w.j.note(note{Step: carried.n, Ino: old.made[st.n]}); err != nil {
			return err
		}
	}
	return nil
}

// wasDone tells whether a step of a journal that was cut short had come to its end.
func (s *Set) wasDone(j *journal, st *step) (bool, error) {
	m, err := s.outside[st.View].lstat(string(st.Rel))
	if err != nil {
		return false, err
	}
	if st.New == nil {
		return m == nil, nil
	}
	ino, ok := j.made[st.n]
	return ok && m != nil && ino == m.Ino, nil
}

// dropSaved removes what a journal has kept that is not to be.
func (s *Set) dropSaved(j *journal) {
	for _, st := range j.Steps {
		if st.Old != nil && st.Old.Saved != "" {
			_ = os.Remove(j.saved(st.Old.Saved))
		}
	}
}

// dropOthers removes what journals before this one have kept.
func (s *Set) dropOthers(j *journal) {
	kept := map[string]bool{}
	for _, st := range j.Steps {
		if st.Old != nil {
			kept[st.Old.Saved] = true
		}
	}
	var drop []string
	links := false
	if entries, err := os.ReadDir(j.path("old")); err == nil {
		for _, e := range entries {
			if !kept[e.Name()] {
				drop = append(drop, j.saved(e.Name()))
				m, err := lstatAt(unix.AT_FDCWD, j.saved(e.Name()))
				links = links || err == nil && m != nil && m.nlink > 1
			}
		}
	}
	var known map[string]*ident
	if links {
		known = s.knownLinks()
	}
	for _, name := range drop {
		_ = os.Remove(name)
	}
	for path, was := range known {
		view, rel := s.viewOf(path)
		if m, err := s.outside[view].lstat(rel); err == nil && was.moved(identOf(m)) {
			s.state.ours[path] = identOf(m)
		}
	}
	if logs, err := filepath.Glob(j.path("steps-*")); err == nil {
		for _, l := range logs {
			if l != j.path("steps-"+j.ID) {
				_ = os.Remove(l)
			}
		}
	}
}

// knownLinks are the files outside that are known as cove's and have other names, one of which may be in old/: when that
// goes their ctime changes.
func (s *Set) knownLinks() map[string]*ident {
	out := map[string]*ident{}
	for path, was := range s.state.ours {
		if was == nil || was.Mode&typeMask == typeDir {
			continue
		}
		view, rel := s.viewOf(path)
		if m, err := s.outside[view].lstat(rel); err == nil && m != nil && m.nlink > 1 && was.same(identOf(m)) {
			out[path] = was
		}
	}
	return out
}

// Settle takes out of the view what was applied: the sandbox sees what is outside then, with what is done to it there. It
// cannot be applied again after an undo.
func (s *Set) Settle() error {
	if len(s.state.applied) == 0 || s.record.Kind == spec.RootCopy {
		return nil
	}
	paths := make([]string, 0, len(s.state.applied))
	for p := range s.state.applied {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, byPath)
	s.revealed = map[spot]bool{}
	defer func() { s.revealed = nil }()
	for _, p := range paths {
		was := s.state.applied[p]
		delete(s.state.applied, p)
		if was != nil && was.Mode&typeMask == typeDir {
			continue // it is merged with the one outside, which is the same
		}
		view, rel := s.viewOf(p)
		e, err := s.tree.Stat(view, rel)
		if err != nil {
			return err
		}
		if e == nil {
			continue // hidden together with its folder
		}
		if !e.Gone && !identOf(metaOf(e)).same(was) {
			continue // changed inside since
		}
		if err := s.reveal(view, parentOf(rel)); err != nil {
			return err
		}
		if err := s.tree.Remove(view, rel); err != nil {
			return err
		}
	}
	return s.state.write(s.dir)
}

// reveal has a folder of the view, and those above it, hide no more of what is below than what is deleted by itself.
// What was revealed stays so: while one thing after the other is dropped, no folder is looked at twice.
func (s *Set) reveal(view int, dir string) error {
	if dir == "" || s.revealed[spot{view, dir}] {
		return nil
	}
	if err := s.reveal(view, parentOf(dir)); err != nil {
		return err
	}
	if err := s.revealOne(view, dir); err != nil {
		return err
	}
	if s.revealed != nil {
		s.revealed[spot{view, dir}] = true
	}
	return nil
}

func (s *Set) revealOne(view int, dir string) error {
	e, err := s.tree.Stat(view, dir)
	if err != nil || e == nil || !e.Gone && !e.IsDir() {
		return err
	}
	out := s.outside[view]
	out.forget()
	low, err := out.lstat(dir)
	if err != nil || !low.IsDir() {
		return err // it is only in the view, with all that is in it
	}
	if !e.Gone && !e.Opaque {
		return nil
	}
	names, err := out.names(dir)
	if err != nil {
		return err
	}
	var lower []tree.LowerName
	for _, n := range names {
		m, err := out.lstat(join(dir, n))
		if err != nil {
			return err
		}
		lower = append(lower, tree.LowerName{Name: n, Dir: m.IsDir()})
	}
	if e.Gone {
		if err := s.tree.Put(view, s.entryOf(dir, low, nil), nil); err != nil {
			return err
		}
	}
	return s.tree.Merge(view, dir, lower)
}

// entryOf is what lies outside, with the ids that it has inside.
func (s *Set) entryOf(rel string, m *Meta, xattrs map[string]string) tree.Entry {
	uid, ok := s.record.IDMap.ContainerUID(m.uid)
	if !ok {
		uid = 0
	}
	gid, ok := s.record.IDMap.ContainerGID(m.gid)
	if !ok {
		gid = 0
	}
	return tree.Entry{Path: rel, Mode: m.Mode, UID: uid, GID: gid, Size: m.Size, Mtime: m.Mtime, Target: string(m.Target), Xattrs: xattrs}
}
