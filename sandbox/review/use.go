package review

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cove/fetch/layer"
	"cove/fetch/store"
	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// Want says what view a sandbox is to have.
type Want struct {
	Project string
	IDMap   userns.IDMap
	Kind    spec.RootKind
	Paths   []string // of the views: "" first, then what is mounted inside the project
	By      string   // the sandbox's name
}

// Use locks the project's view for a sandbox, and makes it when there is none. Leave gives it back.
func Use(ctx context.Context, storeDir string, w Want) (*Session, error) {
	s, err := use(ctx, storeDir, w)
	if err != nil {
		return nil, fmt.Errorf("review %q: %w", w.Project, err)
	}
	return s, nil
}

func use(ctx context.Context, storeDir string, w Want) (_ *Session, err error) {
	dir := Dir(storeDir, w.Project)
	var lock *os.File
	deadline := time.Now().Add(soon) // who is just ending is waited for
	for lock == nil {
		if err := mkdirs(filepath.Dir(dir), dir); err != nil {
			return nil, err
		}
		lock, err = lockDir(dir)
		if errors.Is(err, ErrNone) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		if lock == nil && !again(ctx, deadline) {
			return nil, &InUseError{usedBy(dir)}
		}
	}
	s := &Session{dir: dir, lock: lock}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if s.record, err = readRecord(dir); errors.Is(err, ErrNone) || err == nil && s.settled() {
		return s, s.make(ctx, w)
	}
	if err == nil {
		err = s.record.fits(w)
	}
	if err == nil {
		err = s.sayWho(w.By)
	}
	return s, err
}

// sayWho lets others tell whom the view is used by.
func (s *Session) sayWho(name string) error {
	return os.WriteFile(filepath.Join(s.dir, "user"), []byte(name+"\n"), 0o600)
}

// fits says why a sandbox cannot work in the view that is there.
func (r *Record) fits(w Want) error {
	var paths []string
	for _, v := range r.Views {
		paths = append(paths, v.Path)
	}
	switch {
	case r.IDMap.String() != w.IDMap.String():
		return &OtherError{"other ids were mapped when its view was made (the profile's user, or /etc/subuid)"}
	case r.Kind != w.Kind:
		return &OtherError{fmt.Sprintf("its view was made with %s, and now it would be %s", r.Kind, w.Kind)}
	case fmt.Sprintf("%q", paths) != fmt.Sprintf("%q", w.Paths):
		return &OtherError{"something was mounted inside it, or unmounted, since its view was made"}
	}
	return nil
}

// An OtherError says why a view with changes cannot be worked in any more: it can still be applied or discarded.
type OtherError struct{ Why string }

func (e *OtherError) Error() string { return e.Why }

func mkdirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// make makes the views anew, over what a kill may have left. On error nothing is left of them.
func (s *Session) make(ctx context.Context, w Want) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.clear(context.WithoutCancel(ctx), w.IDMap))
		}
	}()
	if err := s.removeLeftovers(ctx, w.IDMap); err != nil {
		return err
	}
	if err := s.sayWho(w.By); err != nil {
		return err
	}
	r := Record{Project: w.Project, IDMap: w.IDMap, Kind: w.Kind, Began: fileClock()}
	for i, path := range w.Paths {
		v := View{Path: path, Lower: filepath.Join(w.Project, path), Upper: upperDir(s.dir, i, w.Kind)}
		if err := s.makeView(ctx, i, v, &r, w.Paths); err != nil {
			return err
		}
		r.Views = append(r.Views, v)
	}
	if err := writeRecord(s.dir, r); err != nil {
		return err
	}
	s.record, s.fresh = r, true
	if w.Kind == spec.RootCopy {
		// What is changed from here on has a later ctime than record.json: see changed.
		time.Sleep(tick)
	}
	return nil
}

// removeLeftovers removes what a kill has left of a view that was never finished, or not wholly removed.
func (s *Session) removeLeftovers(ctx context.Context, m userns.IDMap) error {
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if e.Name() != Keep {
			err = errors.Join(err, store.RemoveTree(ctx, m, filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

func (s *Session) makeView(ctx context.Context, n int, v View, r *Record, paths []string) error {
	if err := mkdirs(viewDir(s.dir, n), v.Upper); err != nil {
		return err
	}
	if r.Kind == spec.RootCopy {
		if err := layer.CopyTree(ctx, r.IDMap, v.Lower, v.Upper, v.nested(paths)); err != nil {
			return fmt.Errorf("copy %q: %w", v.Lower, err)
		}
		return nil
	}
	if err := mkdirs(filepath.Join(viewDir(s.dir, n), "work")); err != nil {
		return err
	}
	// The upper directory's own attributes are the ones that are seen inside.
	return copyAttrs(v.Lower, v.Upper)
}

// nested are the paths of other views that lie in this one, relative to it.
func (v View) nested(paths []string) []string {
	var out []string
	for _, p := range paths {
		if rel, ok := below(p, v.Path); v.Path == "" && p != "" {
			out = append(out, p)
		} else if ok && rel != "" {
			out = append(out, rel)
		}
	}
	return out
}

// tick is more than the kernel's clock of file times, one of its own ticks, may be late (CONFIG_HZ=100).
const tick = 11 * time.Millisecond

// fileClock is the time that a file would be given that is changed now. It lags behind the clock that programs read: of what
// is changed from now on nothing has an earlier ctime.
func fileClock() time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		return time.Now().Add(-tick)
	}
	return time.Unix(now.Unix())
}

// Fresh reports whether Use has made the view.
func (s *Session) Fresh() bool { return s.fresh }

// Changed reports whether there may be a change in the view.
func (s *Session) Changed() bool {
	if s.settled() {
		return false
	}
	if s.record.Kind == spec.RootCopy {
		return s.copyChanged()
	}
	for _, v := range s.record.Views {
		if entries, err := os.ReadDir(v.Upper); err != nil || len(entries) > 0 || !sameAttrs(v.Lower, v.Upper) {
			return true
		}
	}
	return false
}

// copyChanged looks for what has changed since the copy was done: it has a later ctime than record.json, which nobody inside
// can set back.
func (s *Session) copyChanged() bool {
	var began unix.Stat_t
	if unix.Lstat(filepath.Join(s.dir, "record.json"), &began) != nil {
		return true
	}
	for _, v := range s.record.Views {
		err := filepath.WalkDir(v.Upper, func(path string, _ fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err == nil {
				err = unix.Lstat(path, &st)
			}
			if err == nil && later(st.Ctim, began.Ctim) {
				err = fs.SkipAll
			}
			if err == fs.SkipAll {
				return errChanged
			}
			return err
		})
		if err != nil {
			return true // what cannot be read was made inside, by another id
		}
	}
	return false
}

var errChanged = errors.New("changed")

func later(a, b unix.Timespec) bool { return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec }

// Leave ends a sandbox's use of the view: nothing is left of one in which nothing was changed.
func (s *Session) Leave(ctx context.Context) error {
	var err error
	if !s.Changed() {
		err = s.Discard(ctx)
	}
	return errors.Join(err, s.Close())
}
