package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// warm puts what is started into cove's and podman's stores.
func (b *bench) warm() error {
	for _, name := range []string{"one", "twenty", "files", "150"} {
		if err := b.do(b.cove, "pull", b.ref(name)); err != nil {
			return err
		}
		if name == "150" {
			continue // of which podman 4 cannot start any
		}
		if err := b.do(b.podman("pull", "-q", "--tls-verify=false", b.ref(name))...); err != nil {
			return err
		}
	}
	return nil
}

// tidy takes away what the pulls have left: their files belong to subordinate ids.
func (b *bench) tidy() {
	b.ctx = context.WithoutCancel(b.ctx)    // after an interrupt, too
	_ = b.do("podman", "system", "migrate") // ends podman's pause process
	used, _ := filepath.Glob(filepath.Join(b.dir, "used-*"))
	_ = b.remove(append(used, filepath.Join(b.dir, "cold"))...)
}

func (b *bench) remove(paths ...string) error {
	return b.do(append([]string{"unshare", "--map-auto", "--map-root-user", "--setuid", "0", "--setgid", "0", "rm", "-rf"}, paths...)...)
}

// exec is one more command in a sandbox that runs.
func (b *bench) exec() error {
	stop, err := b.idle(b.coveImage(append([]string{"--name", "bench", "--"}, idler...)...))
	if err != nil {
		return err
	}
	defer stop()
	stopPodman, err := b.idle(b.podman(append([]string{"run", "--rm", "--name", "bench", "--network=none", b.ref("one")}, idler...)...))
	if err != nil {
		return err
	}
	defer stopPodman()
	cove := command{name: "cove exec", argv: []string{b.cove, "exec", "bench", "true"}}
	if err := b.compare("exec", b.runs, cove, command{name: "bwrap, a start", argv: bwrap("true")}); err != nil {
		return err
	}
	return b.compare("exec", b.few(), cove, command{name: "podman exec", argv: b.podman("exec", "bench", "true")})
}

// memory is what an idle sandbox adds: the PSS of every process that comes with it, but of the sandbox's own command.
func (b *bench) memory() error {
	if err := adopt(true); err != nil {
		return err
	}
	defer func() { _ = adopt(false) }()
	for _, network := range []struct{ cove, podman string }{{"none", "none"}, {"user", "slirp4netns"}} {
		cove := sampled{name: "cove", argv: b.coveImage(append([]string{"--network", network.cove, "--"}, idler...)...)}
		peers := []*sampled{{name: "podman run", argv: b.podman(append([]string{"run", "--rm", "--network=" + network.podman, b.ref("one")}, idler...)...)}}
		if network.cove == "none" {
			peers = append(peers, &sampled{name: "bwrap", argv: bwrap(append([]string{"--die-with-parent"}, idler...)...)})
		}
		for range b.rounds() {
			for _, s := range append(peers, &cove) {
				added, err := b.added(s.argv)
				if err != nil {
					return err
				}
				s.add(added)
			}
		}
		what := "idle, network " + network.cove + ", PSS"
		for _, p := range peers {
			b.out.add(what, "MB", middle(cove.total), p.name, middle(p.total))
		}
		for _, process := range slices.Sorted(maps.Keys(cove.split)) {
			b.out.add("- of it "+process, "MB", middle(cove.split[process]), "", 0)
		}
		for _, p := range peers {
			for _, process := range slices.Sorted(maps.Keys(p.split)) {
				b.out.addTheirs("- of it "+process, "MB", p.name, middle(p.split[process]))
			}
		}
	}
	return nil
}

// sampled is what one tool has added each time, in all and by process.
type sampled struct {
	name  string
	argv  []string
	total []float64
	split map[string][]float64
}

func (s *sampled) add(megabytes map[string]float64) {
	if s.split == nil {
		s.split = map[string][]float64{}
	}
	var total float64
	for process, mb := range megabytes {
		total += mb
		s.split[process] = append(s.split[process], mb)
	}
	s.total = append(s.total, total)
}

// added is the PSS of what argv adds, by the name of the process.
func (b *bench) added(argv []string) (megabytes map[string]float64, err error) {
	// podman's pause process outlives its containers; it is part of what podman adds.
	_ = b.do("podman", "system", "migrate")
	time.Sleep(time.Second) // what came before is to be over
	before := processes(os.Getpid())
	stop, err := b.idle(argv)
	if err != nil {
		return nil, err
	}
	defer stop()
	time.Sleep(2 * time.Second) // what it took for a moment is given back
	megabytes = map[string]float64{}
	for _, pid := range processes(os.Getpid()) {
		name := processName(pid)
		if slices.Contains(before, pid) || name == "sleep" {
			continue
		}
		kb, err := pss(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		megabytes[name] += kb / 1024
	}
	if len(megabytes) == 0 {
		return nil, fmt.Errorf("%s: no process was added", strings.Join(argv, " "))
	}
	return megabytes, nil
}

// processName is what a process was called as, or the kernel's name of it.
func processName(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	name, _, _ := strings.Cut(string(line), "\x00")
	if name == "" {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		name = strings.TrimSpace(string(comm))
	}
	return filepath.Base(name)
}

// adopt lets this process be the parent of what the processes below it leave behind (PR_SET_CHILD_SUBREAPER(2const)), so that
// what somebody else starts meanwhile is not counted.
func adopt(yes bool) error {
	on := uintptr(0)
	if yes {
		on = 1
	}
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, on, 0, 0, 0)
}

// processes lists what was started below pid.
func processes(pid int) []int {
	var pids []int
	for _, child := range children(pid) {
		pids = append(append(pids, child), processes(child)...)
	}
	return pids
}

func pss(pid int) (kb float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			return strconv.ParseFloat(strings.Fields(rest)[0], 64)
		}
	}
	return 0, fmt.Errorf("no Pss in smaps_rollup")
}
