package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// finish writes down what was done.
func (w *work) finish(ctx context.Context, to phase, chosen []*Change, res *Result) error {
	s := w.s
	if err := w.syncOutside(); err != nil {
		return err
	}
	var log strings.Builder
	now := time.Now().UTC().Format(time.RFC3339)
	doneAt := map[*Change]bool{}
	did := applied
	if w.undo {
		did = undone
	}
	for _, st := range w.j.Steps {
		if w.undo && st.done {
			w.j.unlink(st)
		}
	}
	for _, st := range w.j.Steps {
		path := string(st.Path)
		if st.skip != "" {
			res.Skipped = append(res.Skipped, Skipped{st.Path, st.skip})
			doneAt[st.change] = false
		}
		if st.bare {
			doneAt[st.change] = false
		}
		if err := w.record(st); err != nil {
			return err
		}
		if st.done {
			if _, ok := doneAt[st.change]; !ok {
				doneAt[st.change] = true
			}
			fmt.Fprintf(&log, "%s %s %s %q\n", now, did, st.Kind, path)
		}
	}
	w.otherNames()
	for at, clean := range w.clean {
		if !clean {
			continue
		}
		view, rel := s.viewOf(at)
		if m, err := s.outside[view].lstat(rel); err == nil && m.IsDir() && !s.before(m.Ctime) {
			s.state.ours[at] = identOf(m)
		}
	}
	w.j.Phase = to
	if err := s.state.write(s.dir); err != nil {
		return err
	}
	if err := w.j.write(); err != nil {
		return err
	}
	if err := s.log(log.String()); err != nil {
		return err
	}
	for _, c := range chosen {
		if doneAt[c] && (c.old == nil || doneAt[c.old]) {
			res.Done = append(res.Done, c)
		}
	}
	if ctx.Err() != nil || s.tree == nil {
		return nil
	}
	err := s.list(ctx)
	res.Left = len(s.Changes)
	return err
}

// syncOutside has the disk know of every file in its place, before the journal says so.
func (w *work) syncOutside() error {
	type folder struct {
		view int
		rel  string
	}
	synced := map[folder]bool{}
	for _, st := range w.j.Steps {
		at := folder{st.View, parentOf(string(st.Rel))}
		if !w.sync {
			at.rel = ""
		}
		if !st.done || synced[at] {
			continue
		}
		synced[at] = true
		out := w.s.outside[st.View]
		out.forget()
		if !w.sync {
			if err := unix.Syncfs(out.fd); err != nil {
				return os.NewSyscallError("syncfs", err)
			}
			continue
		}
		fd, err := openIn(out.fd, at.rel, unix.O_RDONLY|unix.O_DIRECTORY)
		if missing(err) || err == unix.EACCES {
			continue // gone with it; or it cannot be opened, and its file system does without
		}
		if err == nil {
			err = unix.Fsync(fd)
			_ = unix.Close(fd)
		}
		if err != nil {
			return os.NewSyscallError("fsync", err)
		}
	}
	return syncDir(w.j.path("old"))
}

// record remembers what cove has put outside, and what of the view that was.
func (w *work) record(st *step) error {
	path := string(st.Path)
	m, err := w.s.outside[st.View].lstat(string(st.Rel))
	if err != nil && !errors.Is(err, unix.EACCES) { // in a folder that was made to be shut
		return err
	}
	now := identOf(m)
	ours := w.s.state.ours
	switch {
	case st.done && (now == nil || w.undo && st.Forced || !w.isPut(st, now)):
		delete(ours, path)
	case st.done:
		ours[path] = now
	}
	if !st.done || st.Part || st.bare {
		return nil
	}
	if w.undo {
		delete(w.s.state.applied, path)
	} else {
		w.s.state.applied[path] = st.New
	}
	return nil
}

// isPut tells that what is outside is what the step has put there, and that nobody has changed or replaced it since: that would
// be overwritten by the next apply, as cove's own.
func (w *work) isPut(st *step, now *ident) bool {
	made, want := w.j.made, st.New
	if w.undo {
		made, want = w.j.unmade, nil
		if st.Old != nil {
			want = &st.Old.ident
		}
	}
	switch {
	case want == nil:
		return false // there was to be nothing
	case st.put != nil:
		return st.put.moved(now)
	case made[st.n] != now.Ino:
		return false
	}
	return now.Mode&typeMask == typeDir || now.Mtime == want.Mtime
}

// otherNames remembers that it was cove which changed the ctime of a file by taking one of its names away.
func (w *work) otherNames() {
	lost := map[linked]bool{}
	for _, st := range w.j.Steps {
		if st.done && st.Old != nil && st.Old.Nlink > 1 {
			lost[linked{st.View, st.Old.Ino}] = true
		}
	}
	if len(lost) == 0 {
		return
	}
	for _, listed := range w.s.Changes {
		for _, c := range []*Change{listed, listed.old} {
			if c == nil || c.Old == nil || listed.Conflict != "" || !lost[linked{c.view, c.Old.Ino}] {
				continue
			}
			if m, err := w.s.outside[c.view].lstat(c.rel); err == nil && identOf(m).moved(identOf(c.Old)) {
				w.s.state.ours[c.name()] = identOf(m)
			}
		}
	}
}

// viewOf finds the view that a path is in.
func (s *Set) viewOf(path string) (view int, rel string) {
	for i, v := range s.record.Views {
		if below(path, v.Path) && len(v.Path) >= len(s.record.Views[view].Path) {
			view, rel = i, strings.TrimPrefix(path[len(v.Path):], "/")
		}
	}
	return view, rel
}

func (s *Set) log(text string) error {
	f, err := os.OpenFile(filepath.Join(applyDir(s.dir), "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
