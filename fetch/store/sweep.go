package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"cove/fetch/layer"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// Sweep removes what commands that were killed have left: unfinished layers, and the writable
// files of sandboxes. What is still at work holds its lock.
func (s *Store) Sweep(ctx context.Context) error {
	c := collector{s: s, w: remover{ctx: ctx}}
	return c.sweep(false)
}

// sweep is Sweep that can measure what it takes, and leave it with dry: unfinished layers then to collect, which
// finds them too.
func (c *collector) sweep(measure bool) error {
	s := c.s
	defer c.w.close()
	sessions, err := listDir(s.path("tmp"))
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for some := range slices.Chunk(sessions, sessionsAtOnce) {
		if c.dry {
			break
		}
		errs = append(errs, c.sweepSessions(some, measure))
	}
	runs, err := listDir(s.path("run"))
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, id := range runs {
		errs = append(errs, c.sweepRun(id, measure))
	}
	if measure {
		errs = append(errs, c.sweepPersists())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

// sessionsAtOnce is how many are swept at a time: for all of them the layers are listed once, and each takes a descriptor.
const sessionsAtOnce = 128

func (c *collector) sweepSessions(ids []string, measure bool) error {
	s := c.s
	var errs []error
	dead := map[string]*os.File{} // locked from here on; nil of one of which something stays
	for _, id := range ids {
		if strings.HasPrefix(id, ".") {
			errs = append(errs, sweepFile(s.path("tmp", id)))
			continue
		}
		lock, err := tryLockDir(s.path("tmp", id))
		errs = append(errs, err)
		if lock != nil {
			defer lock.Close()
			dead[id] = lock
		}
	}
	if len(dead) == 0 {
		return errors.Join(errs...)
	}
	keys, err := s.keys()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, key := range keys {
		layers, err := listDir(s.path("layers", key))
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, l := range layers {
			rest, ok := strings.CutPrefix(l, ".tmp-")
			id, _, ok2 := strings.Cut(rest, "-")
			if _, ours := dead[id]; !ok || !ok2 || !ours {
				continue
			}
			if err := c.take(s.path("layers", key, l), measure); err != nil {
				errs, dead[id] = append(errs, err), nil
			}
		}
	}
	for id, lock := range dead {
		if lock != nil {
			errs = append(errs, os.RemoveAll(s.path("tmp", id)))
		}
	}
	return errors.Join(errs...)
}

// sweepFile removes a file that was being written.
func sweepFile(path string) error {
	if _, err := os.Lstat(path); err != nil {
		return nil
	}
	lock, err := tryLock(path, unix.LOCK_EX)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	return removeIfThere(path)
}

func (c *collector) sweepRun(id string, measure bool) error {
	s := c.s
	lock, err := tryLockDir(s.path("run", id))
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	return c.take(s.path("run", id), measure)
}

// take removes one leftover.
func (c *collector) take(path string, measure bool) error {
	if measure {
		c.r.Leftovers++
		c.r.Bytes += c.w.disk(path)
	}
	if c.dry {
		return nil
	}
	return c.w.remove(path)
}

// A remover removes trees, those of subordinate ids by way of a stage with all ids that this
// user can have. One stage serves all trees in one directory.
type remover struct {
	ctx   context.Context
	idmap *userns.IDMap // nil: everything this user may map
	dir   string
	stage *layer.Session
}

func (w *remover) remove(path string) error {
	err := os.RemoveAll(path)
	// os.RemoveAll has a descriptor for every level that it is down.
	if err == nil || os.Geteuid() == 0 || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EMFILE) {
		return err
	}
	dir, name := filepath.Split(path)
	if err := w.start(dir); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return w.stage.Remove(layer.Place{Name: name})
}

// start has a stage that works in dir.
func (w *remover) start(dir string) error {
	if w.stage != nil && w.dir == dir {
		return nil
	}
	w.close()
	m, err := w.mapping()
	if err != nil {
		return err
	}
	w.stage, err = layer.Start(w.ctx, m, dir)
	w.dir = dir
	return err
}

// disk tells how much disk a tree takes: what can be seen of it, where not all can.
func (w *remover) disk(path string) int64 {
	d := diskUse{}
	if err := d.walk(path); err == nil || os.Geteuid() == 0 {
		return d.bytes
	}
	dir, name := filepath.Split(path)
	if w.start(dir) == nil {
		if n, err := w.stage.Disk(layer.Place{Name: name}); err == nil {
			return n
		}
	}
	return d.bytes
}

// diskUse sums up the blocks of a tree, those of a file with several names once.
type diskUse struct {
	bytes int64
	seen  map[uint64]bool
}

func (d *diskUse) walk(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if st.Nlink > 1 && !dir {
		if d.seen[st.Ino] {
			return nil
		}
		if d.seen == nil {
			d.seen = map[uint64]bool{}
		}
		d.seen[st.Ino] = true
	}
	d.bytes += st.Blocks * 512
	if !dir {
		return nil
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		err = errors.Join(err, d.walk(filepath.Join(path, e.Name())))
	}
	return err
}

// blocks is what one file takes on the disk.
func blocks(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

func (w *remover) close() {
	if w.stage != nil {
		w.stage.Close()
		w.stage = nil
	}
}

func (w *remover) mapping() (userns.IDMap, error) {
	if w.idmap != nil {
		return *w.idmap, nil
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	sub, err := userns.ReadSubIDs(name, uid)
	if err != nil {
		return userns.IDMap{}, err
	}
	return userns.Allocate(sub, uid, gid, 0, 0)
}

// RemoveTree removes a tree of a sandbox's, whose files m's ids own, or with none any that this user can have: upper and work
// directories of overlays among it.
func RemoveTree(ctx context.Context, m userns.IDMap, path string) error {
	w := removerOf(ctx, m)
	defer w.close()
	return w.remove(path)
}

func removerOf(ctx context.Context, m userns.IDMap) *remover {
	if len(m.UIDs) == 0 {
		return &remover{ctx: ctx}
	}
	return &remover{ctx: ctx, idmap: &m}
}

// DiskOf tells how much disk such a tree takes.
func DiskOf(ctx context.Context, m userns.IDMap, path string) int64 {
	w := removerOf(ctx, m)
	defer w.close()
	return w.disk(path)
}
