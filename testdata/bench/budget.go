package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// budget is where the time of a start goes, by what COVE_TRACE writes down.
type budget struct {
	Steps  []budgetStep
	Floors []floor
}

// budgetStep is when a step was done, since cove was started, and how long after the step before it of the same process; in
// milliseconds, for this machine's root and an image's.
type budgetStep struct {
	Process, Step string
	At, Took      [2]float64
}

// floor is what something costs of which a start is made, whoever does it.
type floor struct {
	What string
	Ms   float64
}

// whose says who the time before a step belongs to, and what is done in it. The kernel's and the helpers' cannot go away.
var whose = map[string][2]string{
	"parent began":                  {"kernel, Go", "exec; Go's runtime (it asks for the processor's features, one by one where the machine is virtual); the first packages"},
	"parent forked init":            {"kernel", "beside what the parent does meanwhile: clone with its namespaces, of which the network's takes longest, and exec. It ends when the exec has"},
	"parent command line read":      {"cove", "the packages that come before the usual run; TestTakeovers holds how many"},
	"parent planned":                {"cove", "profile, machine (one file, while nothing changes), the image's record, the Spec"},
	"parent took init":              {"kernel", "waiting for the fork, where it is not done"},
	"parent started the helpers":    {"kernel", "two forks for newuidmap and newgidmap"},
	"parent made state, protection": {"cove", "state, run directory, placeholders for what is protected, beside the helpers"},
	"parent opened to others":       {"cove", "the socket by which exec and stop find the sandbox"},
	"parent mapped ids":             {"helpers", "newuidmap and newgidmap: setuid programs, most of whose time is the dynamic linker's"},
	"parent found a prepared layer": {"cove", "what an earlier start has put above the image"},
	"parent sent Spec":              {"cove", "one message, with the descriptors, while ids are mapped"},
	"parent let init begin":         {"cove", "another message"},
	"parent heard ready":            {"waiting", "for init, below"},
	"parent command ended":          {"the command", "fork and exec of true, its own start and end"},
	"parent ended":                  {"cove", "run directory, placeholders and state are removed, while the kernel takes the mounts apart that init had"},
	"parent gone":                   {"kernel", "exit, until who started it knows"},
	"init began":                    {"kernel, Go", "clone, exec, Go's runtime once more, since cove was started"},
	"init waits":                    {"cove", "limits of its own, the socket"},
	"init has the Spec":             {"waiting", "for the Spec to be sent"},
	"init detached itself":          {"kernel", "what takes no ids: its mounts are its own, loopback"},
	"init has ids":                  {"waiting", "for the ids to be mapped"},
	"init opened sources":           {"kernel", "open_tree of what is mounted from outside"},
	"init became root":              {"kernel", "setresuid and setgroups in all threads"},
	"init built root":               {"kernel", "the mounts: overlay or binds, /dev, /proc, /sys, /tmp, the workspace and what is protected in it"},
	"init entered root":             {"kernel", "pivot_root, and umount of the old root, which waits for RCU"},
	"init network, watch, checks":   {"kernel", "a look at what must not be writable, or open"},
	"init confined":                 {"kernel", "keyring, capabilities, system call filter"},
}

func (b *bench) budget() error {
	out := &budget{}
	runs := [2]*traced{{argv: b.host().argv}, {argv: b.image().argv}}
	floors := b.floors()
	took := make([][]float64, len(floors))
	for i := range b.runs + 1 {
		for _, r := range runs {
			if err := b.trace(r, i > 0); err != nil {
				return err
			}
		}
		for f, one := range floors {
			start := time.Now()
			if err := one.cmd().Run(); err != nil {
				return fmt.Errorf("%s: %w", one.what, err)
			}
			if i > 0 {
				took[f] = append(took[f], float64(time.Since(start))/float64(time.Millisecond))
			}
		}
	}
	for _, key := range runs[1].order() {
		process, step, _ := strings.Cut(key, " ")
		s := budgetStep{Process: process, Step: step}
		for i, r := range runs {
			s.At[i], s.Took[i] = middle(r.at[key]), middle(r.took[key])
		}
		out.Steps = append(out.Steps, s)
	}
	for f, one := range floors {
		out.Floors = append(out.Floors, floor{one.what, middle(took[f])})
	}
	b.out.Budget = out
	return nil
}

// traced are the times of one command's steps, by "process step".
type traced struct {
	argv     []string
	at, took map[string][]float64
}

// order is the steps' order in time.
func (t *traced) order() []string {
	var keys []string
	for key := range t.at {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if middle(t.at[a]) < middle(t.at[b]) {
			return -1
		}
		return 1
	})
	return keys
}

// trace runs it once.
func (b *bench) trace(t *traced, counts bool) error {
	file := filepath.Join(b.dir, "trace")
	if err := os.RemoveAll(file); err != nil {
		return err
	}
	cmd := exec.CommandContext(b.ctx, t.argv[0], t.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr = b.work, append(b.env(), "COVE_TRACE="+file), os.Stderr
	began := monotonic()
	err := cmd.Run()
	gone := monotonic()
	if err != nil {
		return err
	}
	if !counts {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if t.at == nil {
		t.at, t.took = map[string][]float64{}, map[string][]float64{}
	}
	last := map[string]int64{"parent": began, "init": began}
	for line := range strings.Lines(string(data) + strconv.FormatInt(gone, 10) + " parent gone\n") {
		stamp, key, ok := strings.Cut(strings.TrimSpace(line), " ")
		process, _, also := strings.Cut(key, " ")
		now, err := strconv.ParseInt(stamp, 10, 64)
		if !ok || !also || err != nil {
			return errors.New("COVE_TRACE wrote " + strconv.Quote(line))
		}
		t.at[key] = append(t.at[key], float64(now-began)/1e6)
		t.took[key] = append(t.took[key], float64(now-last[process])/1e6)
		last[process] = now
	}
	return nil
}

// monotonic is in nanoseconds, as package trace has it.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it never fails
	return now.Nano()
}

type floored struct {
	what string
	cmd  func() *exec.Cmd
}

// floors are what no start can do without, each done by somebody else.
func (b *bench) floors() []floored {
	plain := func(argv ...string) func() *exec.Cmd {
		return func() *exec.Cmd { return exec.CommandContext(b.ctx, argv[0], argv[1:]...) }
	}
	const all = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET
	isolated := func(flags uintptr) func() *exec.Cmd {
		return func() *exec.Cmd {
			cmd := plain("true")()
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
			return cmd
		}
	}
	return []floored{
		{"`true` alone: fork, exec, its end", plain("true")},
		{"the same in namespaces of its own, one id, no network's", isolated(all &^ unix.CLONE_NEWNET)},
		{"the same with the network's", isolated(all)},
		{"the same with all ids, by unshare(1), newuidmap and newgidmap", plain("unshare", "--user", "--map-auto", "--map-root-user",
			"--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--cgroup", "true")},
		{"bwrap, one id", plain(bwrap("true")...)},
	}
}

func (g *budget) print(w io.Writer) {
	lines := [][]string{{"process", "step done", "host: at", "took", "image: at", "took", "whose", "what it is"},
		{"---", "---", "---:", "---:", "---:", "---:", "---", "---"}}
	ms := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	for _, s := range g.Steps {
		who := whose[s.Process+" "+s.Step]
		if who[0] == "" {
			who[0] = "?" // a new step, of which nothing is said above
		}
		lines = append(lines, []string{s.Process, s.Step, ms(s.At[0]), ms(s.Took[0]), ms(s.At[1]), ms(s.Took[1]), who[0], who[1]})
	}
	printCells(w, lines)
	lines = [][]string{{"of what a start is made, done by others", "ms"}, {"---", "---:"}}
	for _, f := range g.Floors {
		lines = append(lines, []string{f.What, ms(f.Ms)})
	}
	fmt.Fprintln(w)
	printCells(w, lines)
}
