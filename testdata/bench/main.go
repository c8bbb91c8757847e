// Command bench holds cove against its peers on this machine, as an ordinary user: bubblewrap, podman, skopeo and
// umoci, all as Debian has them. Everything is measured side by side: one run of each in turn, over and over, so
// that whatever else the machine does falls on all alike; what counts is the median. See README.md beside it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

type bench struct {
	ctx      context.Context
	cove     string
	dir      string // everything is below it
	work     string // an empty project folder
	registry string // host:port
	mirror   string // of Debian
	runs     int
	pulls    int
	podmanRT string // the OCI runtime that podman is to use
	used     int    // cold stores that have been pulled into
	out      table
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cove := flag.String("cove", "./cove", "the binary to measure")
	dir := flag.String("dir", filepath.Join(os.TempDir(), fmt.Sprintf("cove-bench-%d", os.Getuid())), "where images and stores are kept between runs")
	runs := flag.Int("n", 41, "runs of each command in a table row")
	pulls := flag.Int("pulls", 5, "pulls of each kind")
	only := flag.String("only", "start,exec,memory,pull,again,pullmemory", "what to measure: start, network, exec, memory, pull, again, pullmemory")
	mirror := flag.String("mirror", "http://deb.debian.org/debian", "the Debian mirror the image is made from, once")
	inside := flag.String("probe", "", "only what runs inside a network that is measured; the argument is an address")
	gunzip := flag.Bool("gunzip", false, "only decompress the given files, and throw it away: the limit of a pull")
	flag.Parse()
	if *inside != "" {
		if err := probe(*inside, flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if *gunzip {
		if err := gunzipAll(flag.Args()); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, *cove, *dir, *runs, *pulls, *only, *mirror); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cove, dir string, runs, pulls int, only, mirror string) (err error) {
	if os.Getuid() == 0 {
		return fmt.Errorf("run it as an ordinary user: that is who cove is for")
	}
	b := &bench{ctx: ctx, dir: dir, work: filepath.Join(dir, "work"), mirror: mirror, runs: runs, pulls: pulls}
	if b.cove, err = filepath.Abs(cove); err != nil {
		return err
	}
	// runc where it is there: crun needs a delegated cgroup for some of what podman asks of it.
	if b.podmanRT, err = exec.LookPath("runc"); err != nil {
		if b.podmanRT, err = exec.LookPath("/usr/sbin/runc"); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(b.work, 0o700); err != nil {
		return err
	}
	if b.cove, err = install(b.cove, dir); err != nil {
		return err
	}
	if only != "network" {
		tidy, err := b.prepareImages()
		if err != nil {
			return err
		}
		defer tidy()
	}

	parts := map[string]func() error{"start": b.start, "network": b.network, "exec": b.exec, "memory": b.memory, "pull": b.pull, "again": b.pullAgain, "pullmemory": b.pullMemory}
	for name := range strings.SplitSeq(only, ",") {
		part := parts[name]
		if part == nil {
			return fmt.Errorf("-only %q: it is one of start, network, exec, memory, pull, again, pullmemory", name)
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", name)
		if err := part(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	b.out.print(os.Stdout, b.machine())
	return nil
}

// prepareImages makes what is pulled and run, serves it, and fills the stores; tidy ends that.
func (b *bench) prepareImages() (tidy func(), err error) {
	for _, tool := range []string{"bwrap", "podman", "skopeo", "umoci", "docker-registry", "mmdebstrap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w (apt-get install bubblewrap podman runc skopeo umoci docker-registry mmdebstrap uidmap slirp4netns fuse-overlayfs)", err)
		}
	}
	if err := b.makeImages(); err != nil {
		return nil, err
	}
	stopRegistry, err := b.startRegistry()
	if err != nil {
		return nil, err
	}
	if err = b.push(); err == nil {
		err = b.warm()
	}
	if err != nil {
		stopRegistry()
		return nil, err
	}
	return func() { b.cold(); stopRegistry() }, nil
}

// install copies the binary to where it is measured, as whoever installs it does. The linker writes it through a mapping,
// page by page, and so it lies in the page cache until that is read anew: a start from it was seen to take a sixth longer
// than from a copy, which lies there in larger pieces that are mapped at once.
func install(cove, dir string) (string, error) {
	data, err := os.ReadFile(cove)
	if err != nil {
		return "", err
	}
	installed := filepath.Join(dir, "cove")
	if err := os.RemoveAll(installed); err != nil { // not written over: it may be running
		return "", err
	}
	return installed, os.WriteFile(installed, data, 0o755)
}

// machine says what the figures were taken on.
func (b *bench) machine() string {
	say := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			return name + " ?"
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	return fmt.Sprintf("%s, Linux %s, %s cores; %s; %s; %s; %s; %s", say("sh", "-c", ". /etc/os-release; echo $PRETTY_NAME"), say("uname", "-r"), say("nproc"),
		say(b.cove, "--version"), say("bwrap", "--version"), say("podman", "--version"), say("skopeo", "--version"), say("umoci", "--version"))
}

// command is one way of doing what a row is about.
type command struct {
	name  string
	argv  []string
	then  []string     // run after argv, and timed with it
	reset func() error // before each run, not timed
}

// race runs the commands in turn, each n times, and returns each one's times. One round is for warming up.
func (b *bench) race(n int, commands ...command) (map[string][]time.Duration, error) {
	times := map[string][]time.Duration{}
	for i := range n + 1 {
		for _, c := range commands {
			if c.reset != nil {
				if err := c.reset(); err != nil {
					return nil, err
				}
			}
			start := time.Now()
			err := b.do(c.argv...)
			if err == nil && c.then != nil {
				err = b.do(c.then...)
			}
			took := time.Since(start)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if i > 0 {
				times[c.name] = append(times[c.name], took)
			}
		}
	}
	return times, nil
}

// do runs a command in the empty project folder, and tells what it printed when it fails.
func (b *bench) do(argv ...string) error {
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Dir = b.work
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

// env keeps podman's and cove's stores, settings and caches below dir.
func (b *bench) env() []string {
	return append(os.Environ(),
		"XDG_DATA_HOME="+filepath.Join(b.dir, "data"),
		"XDG_CONFIG_HOME="+filepath.Join(b.dir, "config"),
		"XDG_CACHE_HOME="+filepath.Join(b.dir, "cache"))
}

// podman is podman with what it needs on a machine without systemd, too.
func (b *bench) podman(args ...string) []string {
	return append([]string{"podman", "--cgroup-manager=cgroupfs", "--runtime", b.podmanRT}, args...)
}
