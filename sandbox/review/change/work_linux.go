package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// batches are synced at once: a sync a file would take minutes for many.
const (
	// fewSteps are synced one by one: to sync a file system takes as long as what others have written to it.
	fewSteps   = 64
	batchFiles = 512
	batchBytes = 256 << 20
)

// run carries out steps. A step that fails is skipped; what is wrong with all of them is an error.
func (w *work) run(ctx context.Context, steps []*step) error {
	for _, st := range steps {
		if ctx.Err() != nil {
			return errors.Join(w.abandon(), context.Cause(ctx))
		}
		if err := w.begin(st); err != nil {
			if fatal(err) {
				what := "apply"
				if w.undo {
					what = "take back"
				}
				return errors.Join(fmt.Errorf("%s %q: %w", what, shown(string(st.Path)), err), w.abandon())
			}
			w.skip(st, err)
		}
		if len(w.batch) >= batchFiles || w.bytes > batchBytes {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.settleDirs(steps)
}

// fatal tells errors that the next file would meet too.
func fatal(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EIO) || errors.Is(err, errJournal)
}

var errJournal = errors.New("write the journal")

func (w *work) skip(st *step, err error) {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	st.skip = err.Error()
}

// begin does a step, or makes its file and leaves it to flush to put that in its place.
func (w *work) begin(st *step) error {
	out := w.s.outside[st.View]
	base := baseOf(string(st.Rel))
	if st.Rel == "" {
		st.bare = true
		return w.inPlace(st)
	}
	dir, err := out.dir(parentOf(string(st.Rel)))
	if err != nil {
		return err
	}
	if dir < 0 {
		if st.goal == nil {
			st.done = true // gone with its folder
			return nil
		}
		return errors.New("the folder that it belongs in is not there")
	}
	tmp := w.j.tmpName(st.n)
	isDir := st.goal != nil && st.goal.Mode&typeMask == typeDir
	st.bare = isDir
	switch {
	case st.goal == nil:
		if err := w.flush(); err != nil { // a folder goes after what was in it
			return err
		}
		if dir, err = out.dir(parentOf(string(st.Rel))); err != nil || dir < 0 {
			return err
		}
		if err = takeAway(dir, tmp, base, st.expect, w.keepAt(st)); st.expect.Mode&typeMask == typeDir {
			out.forget()
		}
	case isDir && st.expect != nil && st.expect.Mode&typeMask == typeDir:
		return w.inPlace(st)
	case isDir:
		err = w.makeDir(dir, tmp, base, st)
		out.forget()
	default:
		return w.make(dir, tmp, st)
	}
	st.done = err == nil
	return err
}

// keepAt is where what a step replaces is moved; "" where it is copied already, or what an undo takes away.
func (w *work) keepAt(st *step) string {
	if w.undo || st.Old == nil || !st.Old.Moved {
		return ""
	}
	name := w.j.saved(st.Old.Saved)
	if _, err := os.Lstat(name); err == nil {
		return "" // of an apply that was cut short: that is what was there, and not what came since
	}
	return name
}

// makeDir makes a folder, with the mode that it takes to fill it.
func (w *work) makeDir(dir int, tmp, base string, st *step) error {
	if err := unix.Mkdirat(dir, tmp, 0o700); err != nil {
		return err
	}
	ino, err := inodeAt(dir, tmp)
	if err == nil {
		err = w.note(st, ino)
	}
	if err == nil {
		err = place(dir, tmp, base, st.expect, w.keepAt(st))
	}
	if err != nil {
		_ = unix.Unlinkat(dir, tmp, unix.AT_REMOVEDIR)
	}
	return err
}

func (w *work) note(st *step, ino uint64) error {
	if err := w.j.note(note{Step: st.n, Ino: ino, Undo: w.undo}); err != nil {
		return fmt.Errorf("%w: %w", errJournal, err)
	}
	return nil
}

// make makes a step's file under its temporary name.
func (w *work) make(dir int, tmp string, st *step) error {
	c, err := w.source(st)
	if err != nil {
		return err
	}
	// What is not noted is cove's own; of an undo that is not the first there is a note already.
	if _, again := w.j.unmade[st.n]; again {
		if err := w.note(st, 0); err != nil {
			return err
		}
	}
	ino, err := c.make(dir, tmp, w.sync)
	if err != nil {
		return err
	}
	st.tmp = true
	w.batch = append(w.batch, st)
	w.bytes += st.size()
	if l, ok := w.linkOf(st); ok && w.names[l].name == "" {
		w.names[l] = name{st.View, parentOf(string(st.Rel)), tmp, ino}
	}
	return w.note(st, ino)
}

func (st *step) size() int64 {
	if st.goal == nil {
		return 0
	}
	return st.goal.Size
}

// flush puts the files that were made in their places.
func (w *work) flush() error {
	if len(w.batch) == 0 {
		return nil
	}
	if !w.sync {
		for view := range w.s.outside {
			if slices.ContainsFunc(w.batch, func(st *step) bool { return st.View == view }) {
				if err := unix.Syncfs(w.s.outside[view].fd); err != nil && err != unix.EBADF {
					return errors.Join(err, w.abandon())
				}
			}
		}
	}
	batch := w.batch
	w.batch, w.bytes = nil, 0
	for _, st := range batch {
		dir, err := w.s.outside[st.View].dir(parentOf(string(st.Rel)))
		if err == nil && dir < 0 {
			err = errConflict
		}
		if err == nil {
			tmp, base := w.j.tmpName(st.n), baseOf(string(st.Rel))
			if st.put, err = identAt(dir, tmp); err == nil {
				err = place(dir, tmp, base, st.expect, w.keepAt(st))
			}
			if err != nil {
				dropOwn(dir, tmp, st.put)
			} else if l, ok := w.linkOf(st); ok && w.names[l].name == tmp {
				n := w.names[l]
				n.name = base
				w.names[l] = n
			}
		}
		if st.tmp, st.done = false, err == nil; err != nil {
			w.skip(st, err)
		}
	}
	return nil
}

// dropOwn removes a temporary file that has not come to its place. What else has its name was in that place a moment ago, and
// is somebody's only copy.
func dropOwn(dir int, tmp string, own *ident) {
	if now, err := identAt(dir, tmp); err == nil && now != nil && own != nil && now.Ino == own.Ino {
		_ = unix.Unlinkat(dir, tmp, 0)
	}
}

// abandon removes files that will not come to their places.
func (w *work) abandon() error {
	var errs error
	for _, st := range w.batch {
		dir, err := w.s.outside[st.View].dir(parentOf(string(st.Rel)))
		if err == nil && dir >= 0 {
			err = unix.Unlinkat(dir, w.j.tmpName(st.n), 0)
		}
		errs = errors.Join(errs, err)
	}
	w.batch = nil
	return errs
}

// settleDirs gives folders their modes, attributes and times, once nothing is put into them any more: the deepest first.
func (w *work) settleDirs(steps []*step) error {
	for _, st := range slices.Backward(steps) {
		if st.done && st.goal != nil && st.goal.Mode&typeMask == typeDir {
			err := w.dress(st)
			if fatal(err) {
				return err
			}
			if st.bare = err != nil; err != nil {
				w.skip(st, err)
				st.done = false
			}
		}
	}
	return nil
}

// inPlace is for a folder that stays, with another mode or other attributes: settleDirs does it.
func (w *work) inPlace(st *step) error {
	m, err := w.s.outside[st.View].lstat(string(st.Rel))
	if err != nil {
		return err
	}
	if now := identOf(m); now == nil || !st.expect.moved(now) {
		return errConflict
	}
	st.done = true
	return w.note(st, m.Ino)
}

// dress gives a folder what it is to have besides its entries.
func (w *work) dress(st *step) error {
	c, err := w.source(st)
	if err != nil {
		return err
	}
	fd, err := openIn(w.s.outside[st.View].fd, string(st.Rel), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	made := w.j.made
	if w.undo {
		made = w.j.unmade
	}
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if now.Ino != made[st.n] {
		return errConflict // somebody has put another in its place
	}
	have, err := xattrsOf(fd)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := c.xattrs[name]; !ok {
			if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA {
				return err
			}
		}
	}
	for name, value := range c.xattrs {
		if have[name] != value || value == "" {
			if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
				return fmt.Errorf("extended attribute %q: %w", name, err)
			}
		}
	}
	if err := c.own(func(uid, gid int) error { return unix.Fchown(fd, uid, gid) }); err != nil {
		return err
	}
	if err := c.acl.give(fd); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, c.mode&0o7777); err != nil {
		return err
	}
	return futimens(fd, c.mtime)
}
