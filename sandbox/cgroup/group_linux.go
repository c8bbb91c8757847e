package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// root is where systemd and everybody else mounts the hierarchy.
const root = "/sys/fs/cgroup"

// Group is the control group of one sandbox: its limits are in force, and its init is inside.
type Group struct {
	dir    string
	limits spec.Limits
	// The counters are opened while the group is there: it may be gone when they are wanted.
	memory, pids *os.File
	// The group above counts ours with its own, and is still there when systemd was quicker to remove ours than we to look.
	above  *os.File
	killed uint64 // what above said at first
	remove func() error
}

// A ControllerError says that a limit needs a controller (cgroups(7)) that nobody delegated to us.
type ControllerError struct{ Name string }

func (e *ControllerError) Error() string {
	return "the cgroup controller " + e.Name + " is not delegated"
}

// ErrNotClosed says that whoever makes sandboxes inside could raise the limits: with nested it may mount the hierarchy,
// and the files of its group belong to the caller, who is root inside. The kernel keeps it from that only where the
// hierarchy is mounted with nsdelegate (cgroups(7), "Cgroup delegation"), as systemd does it.
var ErrNotClosed = errors.New("cgroup2 is mounted without nsdelegate here, and with nested the limits could be raised from inside")

func ownGroupClosed() bool {
	table, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && hasNSDelegate(table)
}

// hasNSDelegate looks for the option of the hierarchy at root, in a table as proc_pid_mountinfo(5) has it.
func hasNSDelegate(table []byte) bool {
	for line := range strings.Lines(string(table)) {
		mount, super, _ := strings.Cut(line, " - ")
		fields, options := strings.Fields(mount), strings.Fields(super)
		if len(fields) > 4 && fields[4] == root && len(options) > 2 && options[0] == "cgroup2" {
			return slices.Contains(strings.Split(options[2], ","), "nsdelegate")
		}
	}
	return false
}

// Join makes the control group that the Spec's limits want, and moves the process there.
func Join(ctx context.Context, s *spec.Spec, pid int) (*Group, error) {
	if s.Security.Nested && !ownGroupClosed() {
		return nil, ErrNotClosed
	}
	g := &Group{limits: s.Limits, remove: func() error { return nil }}
	var err error
	switch s.Limits.Cgroup {
	case spec.CgroupSystemd:
		err = g.scope(ctx, s, pid)
	case spec.CgroupDelegated:
		err = g.delegated(s, pid)
	default:
		err = fmt.Errorf("bug: a control group of kind %q", s.Limits.Cgroup)
	}
	if err == nil {
		err = g.open()
	}
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Close removes the group, in which nothing must be left, where nobody else does.
func (g *Group) Close() error {
	for _, f := range []*os.File{g.memory, g.pids, g.above} {
		if f != nil {
			f.Close()
		}
	}
	return g.remove()
}

// value is one file of the group and what it must hold for a limit to be in force.
type value struct {
	controller, file, want string
	optional               bool // the kernel may have been built, or started, without it
}

// values are the limits as the kernel's files have them.
func values(l spec.Limits) []value {
	var all []value
	if l.MemoryBytes > 0 {
		// The kernel counts in pages.
		limit := l.MemoryBytes / int64(os.Getpagesize()) * int64(os.Getpagesize())
		all = append(all, value{"memory", "memory.max", strconv.FormatInt(limit, 10), false},
			// Or what does not fit into memory would fill the machine's swap.
			value{"memory", "memory.swap.max", "0", true})
		if l.Whole {
			all = append(all, value{"memory", "memory.oom.group", "1", false})
		}
	}
	if l.CPUs > 0 {
		all = append(all, value{"cpu", "cpu.max", fmt.Sprintf("%d %d", quota(l.CPUs), period), false})
	}
	if l.PIDs > 0 {
		all = append(all, value{"pids", "pids.max", strconv.FormatInt(l.PIDs, 10), false})
	}
	return all
}

// period is that of cpu.max, in microseconds, as the kernel and systemd have it; quota is what of it may be used.
const period = 100000

func quota(cpus float64) int64 { return max(int64(cpus*period+0.5), 1000) }

// controllers are those that the limits need.
func controllers(l spec.Limits) []string {
	var all []string
	for _, v := range values(l) {
		if len(all) == 0 || all[len(all)-1] != v.controller {
			all = append(all, v.controller)
		}
	}
	return all
}

// enforce writes what does not hold yet, and believes of each limit what the kernel says of it afterwards.
func (g *Group) enforce() error {
	for _, v := range values(g.limits) {
		file := filepath.Join(g.dir, v.file)
		is, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			if v.optional {
				continue
			}
			return &ControllerError{v.controller}
		}
		if err == nil && text(is) != v.want {
			if err = write(file, v.want); err == nil {
				is, err = os.ReadFile(file)
			}
		}
		if err != nil {
			return err
		}
		if text(is) != v.want {
			return fmt.Errorf("%s is %q, where %q was wanted", file, text(is), v.want)
		}
	}
	return nil
}

// open opens the counters of what reached a limit.
func (g *Group) open() error {
	var err error
	if g.limits.MemoryBytes > 0 {
		if g.memory, err = os.Open(filepath.Join(g.dir, "memory.events")); err != nil {
			return err
		}
		if above, err := os.Open(filepath.Join(filepath.Dir(g.dir), "memory.events")); err == nil {
			g.above = above
			g.killed, _ = counter(above, "oom_kill")
		}
	}
	if g.limits.PIDs > 0 {
		g.pids, err = os.Open(filepath.Join(g.dir, "pids.events"))
	}
	return err
}

// Reached says how often each limit ended or refused something.
type Reached struct {
	Killed  uint64 // processes that the kernel ended for want of memory
	Refused uint64 // processes and threads that were not made
}

// Reached reads the counters. ok is false when the group is gone already.
func (g *Group) Reached() (r Reached, ok bool) {
	ok = true
	if g.memory != nil {
		if r.Killed, ok = counter(g.memory, "oom_kill"); !ok && g.above != nil {
			if n, there := counter(g.above, "oom_kill"); there && n > g.killed {
				return Reached{Killed: n - g.killed}, true
			}
		}
	}
	if g.pids != nil {
		n, there := counter(g.pids, "max")
		r.Refused = n
		ok = ok && there
	}
	// Before Linux 6.11 the counter takes the limits of groups above as ours.
	if r.Refused > 0 {
		if peak, err := os.ReadFile(filepath.Join(g.dir, "pids.peak")); err == nil {
			if n, err := strconv.ParseInt(text(peak), 10, 64); err == nil && n < g.limits.PIDs {
				r.Refused = 0
			}
		}
	}
	return r, ok
}

// counter reads one line of a file such as memory.events.
func counter(f *os.File, name string) (uint64, bool) {
	buf := make([]byte, 512)
	n, err := unix.Pread(int(f.Fd()), buf, 0) // ENODEV: the group is removed
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(buf[:n]) {
		if key, value, found := strings.Cut(text(line), " "); found && key == name {
			n, err := strconv.ParseUint(value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// Wait returns when a counter may have changed, and false when stop is readable or nothing can be waited for.
func (g *Group) Wait(stop *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(stop.Fd()), Events: unix.POLLIN}}
	for _, f := range []*os.File{g.memory, g.pids} {
		if f != nil {
			fds = append(fds, unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLPRI})
		}
	}
	for {
		_, err := unix.Poll(fds, -1)
		if err == unix.EINTR {
			continue
		}
		return err == nil && fds[0].Revents == 0
	}
}

func text(b []byte) string { return strings.TrimSpace(string(b)) }

// write is for the kernel's files: not created, and written at once.
func write(file, content string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}

// groupOf is a process's group of version 2, as a path below root.
func groupOf(pid int) (string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(b) {
		if path, ok := strings.CutPrefix(text(line), "0::"); ok {
			return path, nil
		}
	}
	return "", fmt.Errorf("process %d is in no control group of version 2", pid)
}
