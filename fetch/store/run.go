package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cove/userns"
)

// A Run is one sandbox's own directory: Upper and Work are what overlayfs calls so. It is the
// sandbox's as long as this process, or one that inherited Lock, lives.
type Run struct {
	ID    string
	Dir   string
	Upper string
	Work  string
	Lock  *os.File // on Dir
}

// NewRun makes the directory.
func (s *Store) NewRun() (*Run, error) {
	for {
		r := &Run{ID: randomID()}
		r.Dir = s.path("run", r.ID)
		if err := s.mkdir(r.Dir); err == errSwept {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("make the sandbox's directory: %w", err)
		}
		var err error
		if r.Lock, err = tryLockDir(r.Dir); err != nil {
			return nil, fmt.Errorf("make the sandbox's directory: %w", errors.Join(err, os.Remove(r.Dir)))
		}
		if r.Lock == nil {
			continue // swept
		}
		r.Upper, r.Work = r.Dir+"/upper", r.Dir+"/work"
		if err := errors.Join(s.mkdir(r.Upper), s.mkdir(r.Work)); err != nil {
			return nil, fmt.Errorf("make the sandbox's directory: %w", errors.Join(err, os.RemoveAll(r.Dir)))
		}
		return r, nil
	}
}

// DropMark removes the mark that overlayfs leaves where it has mounted without syncing (its option volatile): it keeps a directory
// from being mounted again, which nobody does with this one. While a command runs it costs nobody's time.
func (r *Run) DropMark() {
	mark := r.Work + "/work/incompat"
	r.unlock()
	// What stays goes with the rest.
	for _, name := range []string{"/volatile/dirty", "/volatile", ""} {
		_ = os.Remove(mark + name)
	}
}

// Remove removes the directory and all in it. Files that m's other ids own take a stage with
// that mapping.
func (r *Run) Remove(ctx context.Context, m userns.IDMap) error {
	w := remover{ctx: ctx, idmap: &m}
	defer w.close()
	r.unlock()
	err := w.remove(r.Dir)
	return errors.Join(err, r.Lock.Close())
}

// unlock lets us look into the folders of mode 0 that overlayfs makes in its work directory, deeper ones with its option
// volatile. Where they are our own it must not take a stage to remove them: that is a third of a short run's time.
func (r *Run) unlock() {
	for _, dir := range []string{"/work", "/work/incompat", "/work/incompat/volatile"} {
		if os.Chmod(r.Work+dir, 0o700) != nil {
			return // not ours, or not there
		}
	}
}
