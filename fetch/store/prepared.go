package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What cove itself puts into the root file system of an image, which is the same at each start of its kind, is a layer above the
// image's: to make it anew in every upper directory, and to remove it again, takes a tenth of a short run's time.
// Nothing is lost with it, and nothing of it is synced: its name begins with the boot that it is of, and after the next one
// nobody believes it.

// Prepared is such a layer's folder, what else is to be known noted beside it. Once it has its name it keeps it as long as somebody
// has it open.
type Prepared struct {
	Dir  string
	lock *os.File // on Dir, shared
}

// Layer is the directory for overlayfs.
func (p *Prepared) Layer() string { return p.Dir + "/layer" }

// PreparedName makes a name of the machine's boot (/proc/sys/kernel/random/boot_id) and of a digest of all that the layer depends on.
func PreparedName(boot, digest string) string { return boot + "." + digest }

// bootOf is the first part of a PreparedName.
func bootOf(name string) string {
	boot, _, _ := strings.Cut(name, ".")
	return boot
}

const (
	preparedDir = "prepared"
	// preparedMost is how many there are at the most: one for each image, project and set of mounts, unless somebody has
	// mounts of new names every time.
	preparedMost = 64
)

// UsePrepared opens the one of that name; nil when there is none. It is to be closed.
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

// BeginPrepared makes the folder for one in the run's own directory, with which it goes unless it is published under the name.
// Those of earlier boots are removed first, and the oldest of too many.
func (s *Store) BeginPrepared(ctx context.Context, r *Run, name string) (*Prepared, error) {
	if err := s.mkdir(s.path(preparedDir)); err != nil {
		return nil, err
	}
	if err := s.thinPrepared(ctx, bootOf(name)); err != nil {
		return nil, err
	}
	p := &Prepared{Dir: r.Dir + "/prepared"}
	return p, errors.Join(s.mkdir(p.Dir), s.mkdir(p.Layer()))
}

// Publish gives it its name, for the next start. Where another was faster that is an error, and nothing is lost.
func (s *Store) Publish(p *Prepared, name string) error {
	return os.Rename(p.Dir, s.path(preparedDir, name))
}

// Forget takes its name away, so that the next start makes it anew. One that somebody else uses stays: it can be used.
func (s *Store) Forget(p *Prepared) error {
	if ok, err := flock(p.lock, unix.LOCK_EX); err != nil || !ok || !same(p.lock, p.Dir) {
		return err
	}
	return os.Rename(p.Dir, s.aside())
}

// aside is a new name among the runs' directories: what it is given to is swept once nobody has it locked.
func (s *Store) aside() string { return s.path("run", randomID()) }

// thinPrepared removes what no start will ask for.
func (s *Store) thinPrepared(ctx context.Context, now string) error {
	names, err := listDir(s.path(preparedDir))
	if err != nil {
		return err
	}
	c := collector{s: s, w: remover{ctx: ctx}}
	defer c.w.close()
	var kept []string
	for _, name := range names {
		if bootOf(name) == now {
			kept = append(kept, name)
		} else if err := c.dropPrepared(name); err != nil {
			return err
		}
	}
	if len(kept) < preparedMost {
		return nil
	}
	made := func(name string) int64 {
		var st unix.Stat_t
		_ = unix.Stat(s.path(preparedDir, name), &st)
		return st.Mtim.Nano()
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
	// First it gives up its name, so that nobody believes half of it.
	aside := c.s.aside()
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("remove a prepared layer: %w", err)
	}
	return c.w.remove(aside)
}
