package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"cove/userns"

	"golang.org/x/sys/unix"
)

// What cove itself puts into the root file system of an image, which is the same at each start of its kind, is a layer above the
// image's: to make it anew in every upper directory, and to remove it again, takes a twentieth of a short run's time.
// Nothing is lost with it, and nothing of it is synced: its name begins with the boot that it is of, and after the next one
// nobody believes it.

// Prepared is such a layer's folder. It stays as long as this process has it open.
type Prepared struct {
	Dir  string
	lock *os.File // on Dir; shared, and exclusive while it is made
}

// Layer is the directory for overlayfs. What else is to be known is noted beside it.
func (p *Prepared) Layer() string { return p.Dir + "/layer" }

// PreparedName makes a name of the machine's boot (/proc/sys/kernel/random/boot_id) and of a digest of all that the layer depends on.
func PreparedName(boot, digest string) string { return boot + "." + digest }

// boot is the first part of a PreparedName.
func boot(name string) string {
	before, _, _ := strings.Cut(name, ".")
	return before
}

// UsePrepared opens the layer of that name; nil when there is none. It is to be closed.
func (s *Store) UsePrepared(name string) *Prepared {
	p := &Prepared{Dir: s.path(preparedDir, name)}
	fd, err := openDir(p.Dir)
	if err != nil {
		return nil
	}
	p.lock = os.NewFile(uintptr(fd), p.Dir)
	if ok, err := flock(p.lock, unix.LOCK_SH); err != nil || !ok || !same(p.lock, p.Dir) {
		_ = p.Close()
		return nil
	}
	return p
}

// Close lets go of it.
func (p *Prepared) Close() error { return p.lock.Close() }

const (
	preparedDir = "prepared"
	// preparedMost is how many there are at the most: one for each image, project and set of mounts, unless somebody has
	// mounts of new names every time.
	preparedMost = 64
)

// BeginPrepared makes the folder for the layer that Publish will call name. Those of earlier boots go first, and the oldest of
// too many.
func (s *Store) BeginPrepared(ctx context.Context, name string) (*Prepared, error) {
	if err := s.mkdir(s.path(preparedDir)); err != nil {
		return nil, err
	}
	if err := s.thinPrepared(ctx, boot(name)); err != nil {
		return nil, err
	}
	p := &Prepared{Dir: s.path(preparedDir, tmpPrefix+randomID())}
	if err := s.mkdir(p.Dir); err != nil {
		return nil, err
	}
	var err error
	if p.lock, err = tryLockDir(p.Dir); err != nil || p.lock == nil {
		return nil, errors.Join(err, errSwept)
	}
	if err := s.mkdir(p.Layer()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.Dir), p.Close())
	}
	return p, nil
}

// tmpPrefix begins the names of those that are being made, or removed.
const tmpPrefix = ".tmp-"

// Publish gives it its name, for the next start, and lets go of it. Where another was faster there is nothing to do, and Discard is
// called for.
func (s *Store) Publish(p *Prepared, name string) error {
	if err := os.Rename(p.Dir, s.path(preparedDir, name)); err != nil {
		return err
	}
	return p.Close()
}

// Discard removes one that was not published, with files that m's ids own.
func (p *Prepared) Discard(ctx context.Context, m userns.IDMap) error {
	return errors.Join(RemoveTree(ctx, m, p.Dir), p.Close())
}

// thinPrepared removes what no start will ask for.
func (s *Store) thinPrepared(ctx context.Context, now string) error {
	names, err := listDir(s.path(preparedDir))
	if err != nil {
		return err
	}
	c := collector{s: s, w: remover{ctx: ctx}}
	defer c.w.close()
	made := func(name string) int64 {
		var st unix.Stat_t
		_ = unix.Stat(s.path(preparedDir, name), &st)
		return st.Mtim.Nano()
	}
	var kept []string
	for _, name := range names {
		if boot(name) == now {
			kept = append(kept, name)
		} else if err := c.dropPrepared(name); err != nil {
			return err
		}
	}
	if len(kept) < preparedMost {
		return nil
	}
	slices.SortFunc(kept, func(a, b string) int { return cmp.Compare(made(a), made(b)) })
	for _, name := range kept[:len(kept)-preparedMost/2] {
		if err := c.dropPrepared(name); err != nil {
			return err
		}
	}
	return nil
}

// dropAllPrepared removes all that nothing runs from. They are made again.
func (c *collector) dropAllPrepared() error {
	names, err := listDir(c.s.path(preparedDir))
	for _, name := range names {
		err = errors.Join(err, c.dropPrepared(name))
	}
	return err
}

// dropPrepared removes one, unless something runs from it.
func (c *collector) dropPrepared(name string) error {
	path := c.s.path(preparedDir, name)
	lock, err := tryLockDir(path)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	c.r.Bytes += c.w.disk(path)
	if c.dry {
		return nil
	}
	if !strings.HasPrefix(name, tmpPrefix) {
		// First out of the way under a name that no one believes.
		tmp := c.s.path(preparedDir, tmpPrefix+randomID())
		if err := os.Rename(path, tmp); err != nil {
			return fmt.Errorf("remove a prepared layer: %w", err)
		}
		path = tmp
	}
	return c.w.remove(path)
}
