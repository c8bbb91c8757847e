package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cove/sandbox/host"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// prefix begins the names of the groups that we make below a delegated one.
const prefix = "cove-"

// delegated makes the group below the one that was delegated to us.
func (g *Group) delegated(s *spec.Spec, pid int) error {
	top, err := host.DelegatedGroup()
	if err != nil {
		return err
	}
	sweep(top)
	if err := enable(top, controllers(s.Limits), !s.Limits.Default); err != nil {
		return err
	}
	lock, err := g.make(filepath.Join(top, prefix+s.ID))
	if err != nil {
		return err
	}
	g.remove = func() error { return errors.Join(removeGroup(g.dir), lock.Close()) }
	if err := g.enforce(); err != nil {
		return err
	}
	if err := write(filepath.Join(g.dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("move init into the control group %s: %w", g.dir, err)
	}
	return nil
}

// make makes the group, and locks its folder (flock(2)) for as long as we live: what has no holder of its lock is a
// leftover, and whoever finds it removes it.
func (g *Group) make(dir string) (*os.File, error) {
	for {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make control group: %w", err)
		}
		lock, err := os.Open(dir)
		if err == nil {
			// A sweep that has it now lets go of it at once.
			if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX); err == nil && same(lock, dir) {
				g.dir = dir
				return lock, nil
			}
			lock.Close()
		}
		// Before it was locked another cove took it for a leftover.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && err != unix.EINTR && !errors.Is(err, unix.ENODEV) {
			return nil, fmt.Errorf("lock control group: %w", err)
		}
	}
}

// same reports whether f is still what lies at dir.
func same(f *os.File, dir string) bool {
	was, err := f.Stat()
	if err != nil {
		return false
	}
	is, err := os.Stat(dir)
	return err == nil && os.SameFile(was, is)
}

// sweep removes the groups of sandboxes whose cove was killed.
func sweep(top string) {
	entries, err := os.ReadDir(top)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || e.Name() == host.OutsideGroup {
			continue
		}
		dir := filepath.Join(top, e.Name())
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && same(f, dir) {
			_ = os.Remove(dir) // rmdir(2): one in which something runs stays
		}
		f.Close()
	}
}

// enable has the controllers work for the groups below top. Below a group that has processes of its own none can, but for
// the very first (cgroups(7), "no internal processes"): where it may be, those move into a group beside the sandboxes'.
func enable(top string, want []string, move bool) error {
	have, err := os.ReadFile(filepath.Join(top, "cgroup.controllers"))
	if err != nil {
		return err
	}
	on, err := os.ReadFile(filepath.Join(top, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range want {
		if !slices.Contains(strings.Fields(string(have)), c) {
			return &ControllerError{c}
		}
		if !slices.Contains(strings.Fields(string(on)), c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	file, words := filepath.Join(top, "cgroup.subtree_control"), strings.Join(missing, " ")
	err = write(file, words)
	if !errors.Is(err, unix.EBUSY) || !move {
		return err
	}
	if err := vacate(top); err != nil {
		return err
	}
	return write(file, words)
}

// vacate moves every process of the group one group down. More may come meanwhile.
func vacate(top string) error {
	outside := filepath.Join(top, host.OutsideGroup)
	if err := os.Mkdir(outside, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for range 100 {
		procs, err := os.ReadFile(filepath.Join(top, "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(string(procs))
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if pid == "0" { // it would mean ourselves
				return fmt.Errorf("the control group %s has processes that cannot be seen from here", top)
			}
			err := write(filepath.Join(outside, "cgroup.procs"), pid)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("move process %s out of the control group %s: %w", pid, top, err)
			}
		}
	}
	return fmt.Errorf("processes keep coming into the control group %s", top)
}

// removeGroup removes an empty group. The kernel lets go of its last process a moment after that was waited for.
func removeGroup(dir string) error {
	deadline := time.Now().Add(2 * time.Second)
	for wait := time.Millisecond; ; wait *= 2 {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			return &os.PathError{Op: "remove control group", Path: dir, Err: err}
		}
		time.Sleep(wait)
	}
}
