package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"cove/config"
	"cove/sandbox/console"
	"cove/sandbox/host"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

func TestPlanLimits(t *testing.T) {
	systemd, own := host.Cgroup{V2: true, Systemd: "/run/user/1000/systemd/private", Delegated: true}, host.Cgroup{V2: true, Delegated: true}
	none := host.Cgroup{V2: true}
	typed := config.Origin{Kind: config.FromFlag, Flag: "--x"}
	wrote := config.Origin{Kind: config.FromProfile}
	for name, c := range map[string]struct {
		cgroup host.Cgroup
		limits config.Limits
		origin map[string]config.Origin
		shell  bool
		want   spec.Limits
		err    string
	}{
		"the default": {cgroup: systemd, limits: config.Limits{PIDs: 2048},
			want: spec.Limits{Cgroup: spec.CgroupSystemd, PIDs: 2048, Default: true}},
		"the default, below our own group": {cgroup: own, limits: config.Limits{PIDs: 2048},
			want: spec.Limits{Cgroup: spec.CgroupDelegated, PIDs: 2048, Default: true}},
		"the default cannot be had": {cgroup: none, limits: config.Limits{PIDs: 2048}},
		"no limit on processes":     {cgroup: systemd, origin: map[string]config.Origin{"limits.pids": typed}},
		"memory, of one command": {cgroup: systemd, limits: config.Limits{MemoryBytes: 1 << 30, PIDs: 2048}, origin: map[string]config.Origin{"limits.memory": wrote},
			want: spec.Limits{Cgroup: spec.CgroupSystemd, MemoryBytes: 1 << 30, PIDs: 2048, Whole: true}},
		"memory, of shells": {cgroup: systemd, limits: config.Limits{MemoryBytes: 1 << 30}, origin: map[string]config.Origin{"limits.memory": wrote}, shell: true,
			want: spec.Limits{Cgroup: spec.CgroupSystemd, MemoryBytes: 1 << 30}},
		"a time needs no group": {cgroup: none, limits: config.Limits{PIDs: 2048, Timeout: 1500*time.Millisecond + 1}, origin: map[string]config.Origin{"limits.timeout": typed},
			want: spec.Limits{TimeoutMS: 1501}},
		"asked for and not to be had": {cgroup: none, limits: config.Limits{CPUs: 1, PIDs: 512},
			origin: map[string]config.Origin{"limits.cpus": typed, "limits.pids": wrote}, err: "--x, limits.pids: cannot be held here, for no control group can be made"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Plan(input(func(in *Input) {
				in.Host.Cgroup, in.Profile.Limits, in.Profile.Origin, in.Shell = c.cgroup, c.limits, c.origin, c.shell
			}))
			if c.err != "" {
				var e *LimitError
				if !errors.As(err, &e) || !errors.Is(err, ErrNoCgroup) || err.Error() != c.err {
					t.Fatalf("error is %v, want %s", err, c.err)
				}
				return
			}
			if err != nil || s.Limits != c.want {
				t.Errorf("planned %+v (%v), want %+v", s.Limits, err, c.want)
			}
		})
	}
}

// A client that is there when a sandbox ends reads why, also when that is written only after it lost the sandbox.
func TestVerdict(t *testing.T) {
	dir := t.TempDir()
	s, err := newState(dir, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.makeVerdict(); err != nil {
		t.Fatal(err)
	}
	early, late := listenVerdict(s.dir), listenVerdict(s.dir)
	defer early.close()
	defer late.close()
	if v := early.get(false); v != nil {
		t.Errorf("before the end: %+v", v)
	}
	got := make(chan *verdict)
	go func() { got <- early.get(true) }()
	time.Sleep(20 * time.Millisecond)
	want := verdict{137, "web: memory limit of 2GiB reached"}
	b := &box{state: s, spec: &spec.Spec{}}
	b.conclude(want)
	b.conclude(verdict{124, "too late"})
	if v := <-got; v == nil || *v != want {
		t.Errorf("heard %+v", v)
	}
	if status, err := b.judge(Status{}, console.ErrLost); err != nil || !reflect.DeepEqual(status, Status{Code: 137, Text: want.Text}) {
		t.Errorf("judged %+v, %v", status, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if v := late.get(true); v == nil || *v != want {
		t.Errorf("after the end heard %+v", v)
	}
}

// Where nobody says anything the client hears nothing, and does not wait for more than the parent's end.
func TestNoVerdict(t *testing.T) {
	s, err := newState(t.TempDir(), "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.makeVerdict(); err != nil {
		t.Fatal(err)
	}
	l := listenVerdict(s.dir)
	defer l.close()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if v := l.get(true); v != nil || time.Since(began) > 5*time.Second {
		t.Errorf("heard %+v after %v", v, time.Since(began))
	}
	none := listenVerdict(filepath.Join(os.TempDir(), "no such sandbox"))
	if v := none.get(true); v != nil {
		t.Errorf("of a sandbox without limits: %+v", v)
	}
	none.close()
	lost, err := (&box{spec: &spec.Spec{}}).judge(Status{}, console.ErrLost)
	if !errors.Is(err, console.ErrLost) {
		t.Errorf("without a limit %+v, %v", lost, err)
	}
	killed, err := (&box{spec: &spec.Spec{}}).judge(Status{Signal: int(unix.SIGKILL)}, nil)
	if err != nil || killed.ExitCode() != 137 {
		t.Errorf("a kill without a limit is %+v, %v", killed, err)
	}
}

// A default that cannot be had is a warning, what was asked for an error.
func TestAwaitLimits(t *testing.T) {
	why := errors.New("systemd is away")
	failed := func() *joining { j := &joining{done: make(chan struct{}), err: why}; close(j.done); return j }
	b := &box{spec: &spec.Spec{Limits: spec.Limits{Cgroup: spec.CgroupSystemd, PIDs: 2048, Default: true}}}
	if err := b.awaitLimits(context.Background(), failed()); err != nil {
		t.Errorf("the default: %v", err)
	}
	b.spec.Limits.Default = false
	var e *LimitError
	if err := b.awaitLimits(context.Background(), failed()); !errors.As(err, &e) || !errors.Is(err, why) || err.Error() != "limits.pids: systemd is away" {
		t.Errorf("asked for: %v", err)
	}
}
