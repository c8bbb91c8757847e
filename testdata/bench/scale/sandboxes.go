package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// atOnce is how many are started at the same time beside those that run.
const atOnce = 50

// sandboxes measures n that do nothing, each in a project of its own, and others beside them.
func (s *scale) sandboxes(n int) (err error) {
	idle := &idlers{s: s}
	defer idle.end()
	start := time.Now()
	for i := range n {
		if err := idle.start(i); err != nil {
			return err
		}
	}
	s.note(n, "sandboxes: start all, one after the other", cost{time: time.Since(start)})
	time.Sleep(time.Second)
	parents, inits, err := idle.memory()
	if err != nil {
		return err
	}
	s.add(n, "sandboxes: PSS of a parent and its init", "", "", fmt.Sprintf("%.2f + %.2f", parents/1024, inits/1024))
	for _, c := range []struct {
		what  string
		times int
		argv  []string
	}{
		{"sandboxes: run beside", 21, []string{"run", "--", "true"}},
		{"sandboxes: run of a name beside", 9, []string{"run", "--name", "named", "--", "true"}},
		{"sandboxes: ps", 9, []string{"ps"}},
		{"sandboxes: exec", 9, []string{"exec", "idle-0", "true"}},
		{"sandboxes: gc", 3, []string{"gc"}},
		{"sandboxes: stop of one", 1, []string{"stop", "idle-0"}},
	} {
		if err := s.row(n, c.times, c.what, "", append([]string{s.cove}, c.argv...)...); err != nil {
			return err
		}
	}
	took, err := s.together()
	if err != nil {
		return err
	}
	s.note(n, fmt.Sprintf("sandboxes: %d at once, beside", atOnce), cost{time: took})
	// Half end as they should, the others are killed, and the next start removes what they leave.
	start = time.Now()
	if err := idle.stop(n / 2); err != nil {
		return err
	}
	s.note(n, "sandboxes: end of half", cost{time: time.Since(start)})
	idle.kill()
	if err := s.row(n, 1, "sandboxes: run after a kill -9 of half", "", s.cove, "run", "--", "true"); err != nil {
		return err
	}
	left, err := os.ReadDir(filepath.Join(s.dir, "run", "cove", "sandboxes"))
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d state directories are left", len(left))
	}
	return err
}

// together starts some at the same time, all in one project.
func (s *scale) together() (time.Duration, error) {
	start := time.Now()
	errs := make([]error, atOnce)
	var all sync.WaitGroup
	for i := range atOnce {
		all.Go(func() { _, errs[i] = s.do("", s.cove, "run", "--", "true") })
	}
	all.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return took, err
		}
	}
	return took, nil
}

type idlers struct {
	s   *scale
	run []*exec.Cmd
}

func (l *idlers) start(i int) error {
	dir := fmt.Sprint("project-", i)
	if err := os.MkdirAll(filepath.Join(l.s.dir, "work", dir), 0o755); err != nil {
		return err
	}
	cmd := l.s.command(dir, l.s.cove, "run", "--name", fmt.Sprint("idle-", i), "--", "sh", "-c", "echo up; exec sleep 10000")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.run = append(l.run, cmd)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		return fmt.Errorf("the %d. sandbox said %q instead of up: %w", i+1, line, err)
	}
	return nil
}

// memory is what each of them takes, in kB: the parent, and init without the command.
func (l *idlers) memory() (parents, inits float64, err error) {
	for _, cmd := range l.run {
		kb, err := pss(cmd.Process.Pid)
		if err != nil {
			return 0, 0, err
		}
		parents += kb
		children, err := children(cmd.Process.Pid)
		if err != nil {
			return 0, 0, err
		}
		for _, pid := range children {
			kb, err := pss(pid)
			if err != nil {
				return 0, 0, err
			}
			inits += kb
		}
	}
	n := float64(len(l.run))
	return parents / n, inits / n, nil
}

func children(pid int) (out []int, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				out = append(out, child)
			}
		}
	}
	return out, nil
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
	return 0, fmt.Errorf("no Pss in smaps_rollup of %d", pid)
}

// stop ends the first n.
func (l *idlers) stop(n int) error {
	for _, cmd := range l.run[:n] {
		_ = cmd.Process.Signal(syscall.SIGTERM) // one has been stopped
	}
	for _, cmd := range l.run[:n] {
		_ = cmd.Wait() // by a signal
	}
	l.run = l.run[n:]
	return nil
}

// kill leaves nobody time to tidy up.
func (l *idlers) kill() {
	for _, cmd := range l.run {
		_ = cmd.Process.Kill()
	}
	for _, cmd := range l.run {
		_ = cmd.Wait()
	}
	l.run = nil
}

func (l *idlers) end() { _ = l.stop(len(l.run)) }
