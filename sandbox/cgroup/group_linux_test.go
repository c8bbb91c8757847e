package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"cove/sandbox/spec"
)

// These are the kernel's files in name and content; how the kernel itself takes them is tried by testdata/accept/limits.

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		limits spec.Limits
		want   map[string]string
		need   []string
	}{
		{spec.Limits{}, map[string]string{}, nil},
		{spec.Limits{PIDs: 512}, map[string]string{"pids.max": "512"}, []string{"pids"}},
		{spec.Limits{MemoryBytes: 1<<30 + 1, CPUs: 0.01, PIDs: 32, Whole: true}, map[string]string{"memory.max": "1073741824", "memory.swap.max": "0",
			"memory.oom.group": "1", "cpu.max": "1000 100000", "pids.max": "32"}, []string{"memory", "cpu", "pids"}},
		{spec.Limits{CPUs: 1.5}, map[string]string{"cpu.max": "150000 100000"}, []string{"cpu"}},
	} {
		got := map[string]string{}
		for _, v := range values(c.limits) {
			got[v.file] = v.want
		}
		if !reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(controllers(c.limits), c.need) {
			t.Errorf("%+v: %v of %v, want %v of %v", c.limits, got, controllers(c.limits), c.want, c.need)
		}
	}
}

// A limit holds when the kernel says so, and a controller that is not there is an error.
func TestEnforce(t *testing.T) {
	dir := t.TempDir()
	g := &Group{dir: dir, limits: spec.Limits{MemoryBytes: 64 << 20, CPUs: 1, PIDs: 100, Whole: true}}
	put(t, dir, "memory.max", "67108864\n") // by systemd
	put(t, dir, "memory.oom.group", "0")
	put(t, dir, "cpu.max", "")
	var missing *ControllerError
	if err := g.enforce(); !errors.As(err, &missing) || missing.Name != "pids" {
		t.Errorf("without pids.max: %v", err)
	}
	put(t, dir, "pids.max", "")
	if err := g.enforce(); err != nil { // and without memory.swap.max
		t.Fatal(err)
	}
	if got := get(t, dir, "memory.oom.group") + " " + get(t, dir, "cpu.max") + " " + get(t, dir, "pids.max"); got != "1 100000 100000 100" {
		t.Errorf("wrote %s", got)
	}
	// /dev/null takes everything and keeps nothing.
	if err := os.Remove(filepath.Join(dir, "pids.max")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.DevNull, filepath.Join(dir, "pids.max")); err != nil {
		t.Fatal(err)
	}
	if err := g.enforce(); err == nil {
		t.Error("a limit that was not kept is no error")
	}
}

func TestReached(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "memory.events", "low 0\nhigh 0\nmax 812\noom 3\noom_kill 2\noom_group_kill 1\n")
	put(t, dir, "pids.events", "max 17\n")
	g := &Group{dir: dir, limits: spec.Limits{MemoryBytes: 64 << 20, PIDs: 100}, remove: func() error { return nil }}
	if err := g.open(); err != nil {
		t.Fatal(err)
	}
	if r, ok := g.Reached(); !ok || r != (Reached{Killed: 2, Refused: 17}) {
		t.Errorf("%+v, %v", r, ok)
	}
	put(t, dir, "pids.peak", "60\n") // of a group above
	if r, ok := g.Reached(); !ok || r != (Reached{Killed: 2}) {
		t.Errorf("with a peak of 60: %+v, %v", r, ok)
	}
	put(t, dir, "pids.peak", "100\n")
	if r, ok := g.Reached(); !ok || r.Refused != 17 {
		t.Errorf("with a peak of 100: %+v, %v", r, ok)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := g.Reached(); ok {
		t.Error("counters of a group that is gone")
	}
}

// A group that is gone before it was looked at has left its mark in the one above.
func TestReachedAbove(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "cove-x.scope")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, top, "memory.events", "oom_kill 5\n")
	put(t, dir, "memory.events", "oom_kill 0\n")
	g := &Group{dir: dir, limits: spec.Limits{MemoryBytes: 64 << 20}, remove: func() error { return nil }}
	if err := g.open(); err != nil {
		t.Fatal(err)
	}
	g.memory.Close() // as good as ENODEV
	if r, ok := g.Reached(); ok {
		t.Errorf("where nothing was killed: %+v", r)
	}
	put(t, top, "memory.events", "oom_kill 7\n")
	if r, ok := g.Reached(); !ok || r != (Reached{Killed: 2}) {
		t.Errorf("%+v, %v", r, ok)
	}
}

func TestEnable(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "cgroup.controllers", "cpuset cpu io memory pids\n")
	put(t, dir, "cgroup.subtree_control", "memory pids\n")
	if err := enable(dir, []string{"memory", "pids"}, false); err != nil || get(t, dir, "cgroup.subtree_control") != "memory pids\n" {
		t.Errorf("%v; wrote %q", err, get(t, dir, "cgroup.subtree_control"))
	}
	if err := enable(dir, []string{"memory", "cpu"}, false); err != nil || get(t, dir, "cgroup.subtree_control")[:4] != "+cpu" {
		t.Errorf("%v; wrote %q", err, get(t, dir, "cgroup.subtree_control"))
	}
	var missing *ControllerError
	if err := enable(dir, []string{"hugetlb"}, true); !errors.As(err, &missing) || missing.Name != "hugetlb" {
		t.Errorf("a controller that is not there: %v", err)
	}
}

// Two coves at once: what one has just made is not a leftover of the other's.
func TestMakeAndSweep(t *testing.T) {
	top := t.TempDir()
	g := &Group{}
	lock, err := g.make(filepath.Join(top, prefix+"live"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{prefix + "dead", "cove-outside", "theirs"} {
		if err := os.Mkdir(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (names []string) {
		entries, err := os.ReadDir(top)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	sweep(top)
	if got := left(); !reflect.DeepEqual(got, []string{"cove-live", "cove-outside", "theirs"}) {
		t.Errorf("swept, left are %v", got)
	}
	lock.Close()
	sweep(top)
	if got := left(); !reflect.DeepEqual(got, []string{"cove-outside", "theirs"}) {
		t.Errorf("after its cove died, left are %v", got)
	}
	if _, err := g.make(filepath.Join(top, "theirs")); err == nil {
		t.Error("took a group that was there")
	}
	if err := removeGroup(filepath.Join(top, "theirs")); err != nil {
		t.Error(err)
	}
	if err := removeGroup(filepath.Join(top, "theirs")); err != nil {
		t.Error("removing what is gone:", err)
	}
}

// Making and sweeping at the same time loses no group.
func TestMakeAgainstSweep(t *testing.T) {
	top := t.TempDir()
	var sweepers sync.WaitGroup
	var over atomic.Bool
	defer sweepers.Wait()
	defer over.Store(true)
	for range 2 {
		sweepers.Go(func() {
			for !over.Load() {
				sweep(top)
			}
		})
	}
	g := &Group{}
	for range 2000 {
		lock, err := g.make(filepath.Join(top, prefix+"x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(g.dir); err != nil {
			t.Fatalf("swept while held: %v", err)
		}
		lock.Close()
	}
}

func TestHasNSDelegate(t *testing.T) {
	for table, want := range map[string]bool{
		"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n": true,
		"30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,memory_recursiveprot\n":                     false,
		"30 23 0:26 / /sys/fs/cgroup rw,nsdelegate - cgroup2 cgroup2 rw\n":                                      false,
		"30 23 0:26 / /mnt rw - cgroup2 cgroup2 rw,nsdelegate\n":                                                false,
		"30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n":                                            false,
		"": false,
	} {
		if got := hasNSDelegate([]byte(table)); got != want {
			t.Errorf("%q: %v", table, got)
		}
	}
}
