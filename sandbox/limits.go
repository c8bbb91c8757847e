package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"cove/config"
	"cove/sandbox/cgroup"
	"cove/sandbox/console"
	"cove/sandbox/host"
	"cove/sandbox/spec"
	"cove/sandbox/stage"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// A LimitError says that limits that were asked for cannot be held on this machine.
type LimitError struct {
	Keys []string // of the profile, or the flags that were typed
	Err  error
}

func (e *LimitError) Error() string { return strings.Join(e.Keys, ", ") + ": " + e.Err.Error() }
func (e *LimitError) Unwrap() error { return e.Err }

// ErrNoCgroup says that nobody makes a control group for us.
var ErrNoCgroup = errors.New("cannot be held here, for no control group can be made")

// limits decides what holds the sandbox to its limits. One that was asked for and cannot be held is an error; the
// default one on processes is there where it can be.
func (p *planner) limits() error {
	l, out, h := p.profile.Limits, &p.spec.Limits, p.in.Host.Cgroup
	out.TimeoutMS = (l.Timeout + time.Millisecond - 1).Milliseconds()
	var asked []string
	for _, one := range []struct {
		key string
		set bool
	}{{"limits.memory", l.MemoryBytes > 0}, {"limits.cpus", l.CPUs > 0}, {"limits.pids", l.PIDs > 0}} {
		if one.set && p.profile.OriginOf(one.key).Kind != config.FromDefault {
			asked = append(asked, p.profile.NameOf(one.key))
		}
	}
	kind := spec.CgroupKind("")
	switch {
	case h.Systemd != "":
		kind = spec.CgroupSystemd
	case h.Delegated:
		kind = spec.CgroupDelegated
	case len(asked) > 0:
		return &LimitError{asked, ErrNoCgroup}
	}
	if kind == "" || len(asked) == 0 && l.PIDs == 0 {
		return nil
	}
	out.Cgroup, out.MemoryBytes, out.CPUs, out.PIDs = kind, l.MemoryBytes, l.CPUs, l.PIDs
	out.Default = len(asked) == 0
	out.Whole = l.MemoryBytes > 0 && !p.in.Shell
	return nil
}

// TryLimits makes a control group with every kind of limit and takes it away again.
func TryLimits(ctx context.Context, h *host.Host) error {
	p := &planner{in: Input{Host: h}, spec: &spec.Spec{ID: NewID(), Name: "try"}, profile: &config.Profile{
		Limits: config.Limits{MemoryBytes: 64 << 20, CPUs: 1, PIDs: 64}, Origin: map[string]config.Origin{"limits": {Kind: config.FromFlag}}}}
	if err := p.limits(); err != nil {
		return err
	}
	child, err := userns.Fork(userns.Config{Stage: stage.HoldName})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, scopeTime)
	defer cancel()
	group, err := cgroup.Join(ctx, p.spec, child.Pid())
	child.Discard()
	if err != nil {
		return err
	}
	return group.Close()
}

// joining is a control group that is being made, while other things are.
type joining struct {
	done  chan struct{}
	group *cgroup.Group
	err   error
}

// How long systemd has to make a scope. It takes milliseconds; on a machine that is busy to the brim, seconds.
const (
	scopeTime        = 30 * time.Second
	defaultScopeTime = 3 * time.Second // for a limit that nobody asked for
)

// beginLimits has the sandbox's control group made, with its init inside.
func (b *box) beginLimits(ctx context.Context, m *mappingIDs) *joining {
	j := &joining{done: make(chan struct{})}
	if b.spec.Limits.Cgroup == "" {
		close(j.done)
		return j
	}
	patience := scopeTime
	if b.spec.Limits.Default {
		patience = defaultScopeTime
	}
	go func() {
		defer close(j.done)
		<-m.forked
		if m.child == nil {
			j.err = errInitGone // and who waits for it has heard why
			return
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		j.group, j.err = cgroup.Join(ctx, b.spec, m.child.Pid())
	}()
	b.undo(func() error {
		<-j.done
		if j.group == nil {
			return nil
		}
		return j.group.Close()
	})
	return j
}

// awaitLimits waits until the limits are in force.
func (b *box) awaitLimits(ctx context.Context, j *joining) error {
	<-j.done
	switch {
	case j.err == nil:
		b.group = j.group
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case b.spec.Limits.Default && errors.Is(j.err, unix.EBUSY):
		// Other processes would have to leave the group for it, which is too much for a limit that nobody asked for.
		b.log("no limit on processes", "why", j.err)
		return nil
	case b.spec.Limits.Default:
		b.warn("there is no limit on processes: %v", j.err)
		return nil
	}
	return &LimitError{limitKeys(b.spec.Limits), j.err}
}

func limitKeys(l spec.Limits) []string {
	var keys []string
	if l.MemoryBytes > 0 {
		keys = append(keys, "limits.memory")
	}
	if l.CPUs > 0 {
		keys = append(keys, "limits.cpus")
	}
	if l.PIDs > 0 {
		keys = append(keys, "limits.pids")
	}
	return keys
}

// startClock ends the sandbox when its time is up.
func (b *box) startClock() {
	ms := b.spec.Limits.TimeoutMS
	if ms == 0 {
		return
	}
	after := time.Duration(ms) * time.Millisecond
	clock := time.AfterFunc(after, func() {
		b.conclude(verdict{Code: codeTimeout, Text: fmt.Sprintf("%s: timeout of %s reached", b.spec.Name, config.ShowTime(after))})
		sig := unix.SIGTERM
		if b.opts.shell {
			sig = unix.SIGHUP // a shell on a terminal ignores the other
		}
		b.stop(sig)
	})
	b.undo(func() error { clock.Stop(); return nil })
}

// codeTimeout is the exit code of what its time limit ended, timeout(1)'s.
const codeTimeout = 124

// codeKilled is that of what SIGKILL ended, as the kernel ends what has no memory.
const codeKilled = 128 + int(unix.SIGKILL)

// conclude notes what ended the sandbox; the first word counts. Other coves that have a command in it read it from its
// directory, where it is before the sandbox's end is to be seen.
func (b *box) conclude(v verdict) {
	b.verdictMu.Lock()
	defer b.verdictMu.Unlock()
	if b.verdict == nil {
		b.verdict = &v
		b.state.writeVerdict(v)
	}
}

// judge says how the main command ended when a limit had to do with it.
func (b *box) judge(s Status, err error) (Status, error) {
	lost := errors.Is(err, console.ErrLost)
	if err != nil && !lost {
		return s, err
	}
	if !b.stopped.Load() {
		b.judgeGroup(lost, s.Signal == int(unix.SIGKILL))
	}
	b.verdictMu.Lock()
	defer b.verdictMu.Unlock()
	if b.verdict == nil {
		return s, err
	}
	return Status{Code: b.verdict.Code, Text: b.verdict.Text}, nil
}

// judgeGroup looks at the counters of the control group when init is gone, or the main command was killed.
func (b *box) judgeGroup(lost, killed bool) {
	if b.group == nil {
		return
	}
	l := b.spec.Limits
	memory := fmt.Sprintf("%s: memory limit of %s reached", b.spec.Name, config.ShowSize(l.MemoryBytes))
	processes := fmt.Sprintf("%s: limit of %d processes reached", b.spec.Name, l.PIDs)
	r, there := b.group.Reached()
	switch {
	case r.Killed > 0 && (lost || killed):
		b.conclude(verdict{codeKilled, memory})
	case r.Refused > 0 && lost:
		b.conclude(verdict{codeKilled, processes})
	case !there && lost && l.MemoryBytes > 0:
		// Its group went before we looked. Nobody but the kernel's memory killer and the machine's owner can end init.
		b.conclude(verdict{codeKilled, memory + ", or it was killed from outside"})
	case r.Killed > 0:
		b.warn("%s", memory)
	case r.Refused > 0:
		b.warn("%s", processes)
	}
}

// withinLimits is an error where a limit was reached, which a command may have taken for something else and gone on: what came
// of it is not what the commands make.
func (b *box) withinLimits() error {
	if b.group == nil {
		return nil
	}
	switch r, _ := b.group.Reached(); {
	case r.Killed > 0:
		return fmt.Errorf("memory limit of %s reached: what was made is not whole", config.ShowSize(b.spec.Limits.MemoryBytes))
	case r.Refused > 0:
		return fmt.Errorf("limit of %d processes reached: what was made is not whole", b.spec.Limits.PIDs)
	}
	return nil
}

// tellReached tells whoever works in a sandbox of shells that a limit was reached, when that happens.
func (b *box) tellReached() {
	if b.group == nil {
		return
	}
	stop, end, err := os.Pipe()
	if err != nil {
		return
	}
	ending, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var seen cgroup.Reached
		for b.group.Wait(stop) {
			r, there := b.group.Reached()
			if !there {
				return
			}
			if r.Killed > seen.Killed {
				b.notice(fmt.Sprintf("memory limit of %s reached: the kernel ended a process", config.ShowSize(b.spec.Limits.MemoryBytes)))
			}
			if r.Refused > 0 && seen.Refused == 0 {
				b.notice(fmt.Sprintf("limit of %d processes reached: no more are started", b.spec.Limits.PIDs))
			}
			seen = r
			select {
			case <-time.After(200 * time.Millisecond): // a fork bomb changes the counter all the time
			case <-ending:
			}
		}
	}()
	b.undo(func() error {
		close(ending)
		end.Close()
		<-done
		return stop.Close()
	})
}

func (b *box) notice(text string) { _ = b.control.conn.Send(spec.ToInit{Notice: text}) }
