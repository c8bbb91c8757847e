package review

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cove/fetch/store"
	"cove/userns"
)

// Usage is what a view takes, for who gives disk back.
type Usage struct {
	Info
	Disk int64
	Gone bool // the project's folder is not there any more
}

// Swept is what Sweep has found.
type Swept struct {
	Views     []Usage // those that stay
	Removed   []Usage
	Leftovers int // of views that were never finished, or not wholly removed
	Bytes     int64

	changed func(*Session) bool
}

// Sweep removes what killed commands have left: parts of views, and views in which nothing was changed; with gone also those of
// projects that are not there any more, whatever is in them. With dry it only looks. Changed looks closer where a view may
// hold a change.
func Sweep(ctx context.Context, storeDir string, gone, dry bool, changed func(*Session) bool) (*Swept, error) {
	out := &Swept{changed: changed}
	entries, err := os.ReadDir(filepath.Join(storeDir, "reviews"))
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sweep views: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if err := out.one(ctx, filepath.Join(storeDir, "reviews", e.Name()), gone, dry); err != nil {
			errs = append(errs, fmt.Errorf("sweep views: %w", err))
		}
	}
	return out, errors.Join(errs...)
}

func (out *Swept) one(ctx context.Context, dir string, gone, dry bool) error {
	lock, err := lockDir(dir)
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	s := &Session{dir: dir, lock: lock}
	if lock != nil {
		defer lock.Close()
	}
	u := Usage{Info: Info{Dir: dir, InUse: lock == nil}}
	u.Record, u.Err = readRecord(dir)
	s.record = u.Record
	switch {
	case errors.Is(u.Err, ErrNone) && lock == nil:
		return nil // it is being made, or removed
	case errors.Is(u.Err, ErrNone):
		return out.leftover(ctx, s, dry)
	case u.Err == nil:
		_, err := os.Lstat(u.Project)
		u.Gone = errors.Is(err, os.ErrNotExist)
	}
	u.Disk = store.DiskOf(ctx, u.IDMap, dir)
	if lock == nil || u.Err != nil || !(u.Gone && gone) && s.Changed() && (u.Gone || out.changed(s)) {
		out.Views = append(out.Views, u)
		return nil
	}
	out.Removed = append(out.Removed, u)
	out.Bytes += u.Disk
	if dry {
		return nil
	}
	if u.Gone {
		// Nothing can be taken back there either.
		if err := store.RemoveTree(ctx, u.IDMap, filepath.Join(dir, Keep)); err != nil {
			return err
		}
	}
	return s.Discard(ctx)
}

// leftover removes what is there of a view that is none; what is kept beside it is none.
func (out *Swept) leftover(ctx context.Context, s *Session, dry bool) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	if len(entries) == 1 && entries[0].Name() == Keep {
		return nil
	}
	out.Leftovers++
	for _, e := range entries {
		if e.Name() != Keep {
			out.Bytes += store.DiskOf(ctx, userns.IDMap{}, filepath.Join(s.dir, e.Name()))
		}
	}
	if dry {
		return nil
	}
	return s.clear(ctx, userns.IDMap{})
}
