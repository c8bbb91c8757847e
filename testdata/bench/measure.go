package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// warm puts the image into cove's and podman's stores.
func (b *bench) warm() error {
	// Where the store is new, podman 4 takes vfs, which copies every layer; with overlay it is at its best.
	config := filepath.Join(b.dir, "config", "containers")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(config, "storage.conf"), []byte("[storage]\ndriver = \"overlay\"\n"), 0o600); err != nil {
		return err
	}
	if err := b.do(b.cove, "pull", b.ref("one")); err != nil {
		return err
	}
	return b.do(b.podman("pull", "-q", "--tls-verify=false", b.ref("one"))...)
}

// cold takes the stores away again: their files belong to subordinate ids.
func (b *bench) cold() {
	_ = b.do("podman", "system", "migrate") // ends podman's pause process
	used, _ := filepath.Glob(filepath.Join(b.dir, "used-*"))
	_ = b.remove(append(used, filepath.Join(b.dir, "data"), filepath.Join(b.dir, "cold"))...)
}

func (b *bench) remove(paths ...string) error {
	return b.do(append([]string{"unshare", "--map-auto", "--map-root-user", "--setuid", "0", "--setgid", "0", "rm", "-rf"}, paths...)...)
}

func (b *bench) coveImage(args ...string) []string {
	return append([]string{b.cove, "run", "--image", b.ref("one")}, args...)
}

// start is how long an empty command takes from nothing, without a network.
func (b *bench) start() error {
	bwrap := command{name: "bwrap", argv: []string{"bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"}}
	podman := command{name: "podman run", argv: b.podman("run", "--rm", "--network=none", b.ref("one"), "true")}
	host := command{name: "cove host", argv: []string{b.cove, "run", "--", "true"}}
	image := command{name: "cove image", argv: b.coveImage("--", "true")}
	fast, err := b.race(b.runs, host, image, bwrap)
	if err != nil {
		return err
	}
	b.out.times("start, host root", fast, []command{host, bwrap})
	b.out.times("start, image root", fast, []command{image, bwrap})
	// podman on its own: what it leaves to be done after its end would fall on the others.
	slow, err := b.race(max(b.runs/4, 5), image, podman)
	if err != nil {
		return err
	}
	b.out.times("start, image root", slow, []command{image, podman})
	return nil
}

// exec is one more command in a sandbox that runs.
func (b *bench) exec() error {
	stop, err := b.idle(b.coveImage("--name", "bench", "--", "sh", "-c", "echo up; exec sleep 1000"))
	if err != nil {
		return err
	}
	defer stop()
	stopPodman, err := b.idle(b.podman("run", "--rm", "--name", "bench", "--network=none", b.ref("one"), "sh", "-c", "echo up; exec sleep 1000"))
	if err != nil {
		return err
	}
	defer stopPodman()
	cove := command{name: "cove exec", argv: []string{b.cove, "exec", "bench", "true"}}
	podman := command{name: "podman exec", argv: b.podman("exec", "bench", "true")}
	times, err := b.race(max(b.runs/2, 5), cove, podman)
	if err != nil {
		return err
	}
	b.out.times("exec", times, []command{cove, podman})
	return nil
}

// idle starts a command that prints "up" and then does nothing, and waits for that.
func (b *bench) idle(argv []string) (stop func(), err error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = b.work, b.env()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
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
		return nil, fmt.Errorf("%s: said %q instead of up", strings.Join(argv, " "), line)
	}
	return stop, nil
}

// memory is what an idle sandbox adds: the PSS of every process that was not there before, but the sandbox's own command.
func (b *bench) memory() error {
	for _, network := range []string{"none", "user"} {
		podmanNetwork := "none"
		if network == "user" {
			podmanNetwork = "slirp4netns"
		}
		var cove, podman []float64
		for range 3 {
			c, err := b.added(b.coveImage("--network", network, "--", "sh", "-c", "echo up; exec sleep 1000"))
			if err != nil {
				return err
			}
			p, err := b.added(b.podman("run", "--rm", "--network="+podmanNetwork, b.ref("one"), "sh", "-c", "echo up; exec sleep 1000"))
			if err != nil {
				return err
			}
			cove, podman = append(cove, c), append(podman, p)
		}
		slices.Sort(cove)
		slices.Sort(podman)
		b.out.add("idle, network "+network+", PSS", "MB", cove[1], "podman run", podman[1])
	}
	return nil
}

func (b *bench) added(argv []string) (megabytes float64, err error) {
	// podman's pause process outlives its containers; it is part of what podman adds.
	_ = b.do("podman", "system", "migrate")
	time.Sleep(2 * time.Second) // what came before is to be over
	before := processes()
	stop, err := b.idle(argv)
	if err != nil {
		return 0, err
	}
	defer stop()
	time.Sleep(time.Second)
	var total float64
	for _, pid := range processes() {
		if slices.Contains(before, pid) {
			continue
		}
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == "sleep\n" {
			continue
		}
		kb, err := pss(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return 0, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		total += kb / 1024
	}
	if total == 0 {
		return 0, fmt.Errorf("%s: no process was added", strings.Join(argv, " "))
	}
	return total, nil
}

// processes lists what this user runs and what runs as one of its subordinate ids: anything whose memory map it may see.
func processes() []int {
	names, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if f, err := os.Open(filepath.Join(name, "smaps_rollup")); err == nil {
			_, err := f.Read(make([]byte, 1))
			f.Close()
			if err == nil {
				pids = append(pids, pid)
			}
		}
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
