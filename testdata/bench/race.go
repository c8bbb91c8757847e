package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// command is one way of doing what a row is about.
type command struct {
	name  string
	argv  []string
	then  []string     // run after argv, and timed with it
	dir   string       // "": the empty project
	reset func() error // before each run, not timed
}

// race runs the commands in turn, each n times after one for warming up, and returns each one's times.
func (b *bench) race(n int, commands ...command) (map[string][]time.Duration, error) {
	if _, err := b.turns(1, commands...); err != nil {
		return nil, err
	}
	return b.turns(n, commands...)
}

// turns is race without warming up. Each time another begins: what one leaves to the kernel, such as blocks to be freed, falls
// on the next.
func (b *bench) turns(n int, commands ...command) (map[string][]time.Duration, error) {
	times := map[string][]time.Duration{}
	for i := range n {
		for j := range commands {
			c := commands[(i+j)%len(commands)]
			took, err := b.time(c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			times[c.name] = append(times[c.name], took)
		}
	}
	return times, nil
}

func (b *bench) time(c command) (took time.Duration, err error) {
	if c.reset != nil {
		if err := c.reset(); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	if err = b.doIn(c.dir, c.argv...); err == nil && c.then != nil {
		err = b.doIn(c.dir, c.then...)
	}
	return time.Since(start), err
}

// few is how often something slow is run, rounds something that takes seconds.
func (b *bench) few() int    { return max(b.runs/4, 3) }
func (b *bench) rounds() int { return max(b.runs/13, 1) }

// compare races the commands and adds a row for each peer of the first, which is cove.
func (b *bench) compare(what string, n int, commands ...command) error {
	times, err := b.race(n, commands...)
	if err == nil {
		b.out.times(what, times, commands)
	}
	return err
}

// working leaves out what does not run here, such as crun where no cgroup is delegated, and says so.
func (b *bench) working(commands ...command) (work []command) {
	for _, c := range commands {
		if err := b.doIn(c.dir, c.argv...); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s is left out, it does not run here: %v\n", c.name, err)
			continue
		}
		work = append(work, c)
	}
	return work
}

// do runs a command in the empty project folder, and tells what it printed when it fails.
func (b *bench) do(argv ...string) error { return b.doIn("", argv...) }

func (b *bench) doIn(dir string, argv ...string) error {
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	if cmd.Dir = dir; dir == "" {
		cmd.Dir = b.work
	}
	cmd.Env = b.env()
	// A file and no pipe: Run would wait until the last helper that a command leaves behind has closed it.
	errors, err := os.Create(filepath.Join(b.dir, "stderr"))
	if err != nil {
		return err
	}
	defer errors.Close()
	cmd.Stderr = errors
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(errors.Name())
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, said)
	}
	return nil
}

// output runs a command in the project folder, and returns what it says.
func (b *bench) output(argv []string) ([]byte, error) {
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = b.work, b.env()
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out, said.String())
	}
	return out, nil
}

// idle starts a command that prints "up" and then does nothing, and waits for that.
func (b *bench) idle(argv []string) (stop func(), err error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = b.work, b.env()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	errors, err := os.Create(filepath.Join(b.dir, "stderr-idle"))
	if err != nil {
		return nil, err
	}
	defer errors.Close()
	cmd.Stderr = errors
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		// PID 1 of podman's container ignores SIGTERM; both must still tidy up after themselves.
		if argv[0] == "podman" {
			_ = b.do(b.podman("kill", "-a")...)
		} else {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		_ = cmd.Wait()
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		stop()
		said, _ := os.ReadFile(errors.Name())
		return nil, fmt.Errorf("%s: said %q instead of up\n%s", strings.Join(argv, " "), line, said)
	}
	return stop, nil
}

// idler is what idle wants to be run.
var idler = []string{"sh", "-c", "echo up; exec sleep 1000"}

// env keeps podman's and cove's stores, settings and caches below dir.
func (b *bench) env() []string {
	return append(os.Environ(),
		"XDG_DATA_HOME="+filepath.Join(b.dir, "data"),
		"XDG_CONFIG_HOME="+filepath.Join(b.dir, "config"),
		"XDG_CACHE_HOME="+filepath.Join(b.dir, "cache"))
}

// podman is podman with what it needs on a machine without systemd, too.
func (b *bench) podman(args ...string) []string { return podmanWith(b.podmanRT, args...) }

func podmanWith(runtime string, args ...string) []string {
	return append([]string{"podman", "--cgroup-manager=cgroupfs", "--runtime", runtime}, args...)
}
