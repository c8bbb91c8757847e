package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

func (b *bench) coveImage(args ...string) []string { return b.coveOf("one", args...) }

func (b *bench) coveOf(image string, args ...string) []string {
	return append([]string{b.cove, "run", "--image", b.ref(image)}, args...)
}

func (b *bench) host() command {
	return command{name: "cove host", argv: []string{b.cove, "run", "--", "true"}}
}

func (b *bench) image() command { return command{name: "cove image", argv: b.coveImage("--", "true")} }

func (b *bench) podmanRun(image, network string) command {
	return command{name: "podman run", argv: b.podman("run", "--rm", "--network="+network, b.ref(image), "true")}
}

func bwrap(args ...string) []string {
	return append([]string{"bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"}, args...)
}

// start is how long an empty command takes from nothing, without a network.
func (b *bench) start() error {
	if err := b.makeBundle(); err != nil {
		return err
	}
	host, image := b.host(), b.image()
	peers := b.working(
		command{name: "bwrap", argv: bwrap("true")},
		command{name: "unshare", argv: []string{"unshare", "--user", "--map-auto", "--map-root-user", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--cgroup", "true"}},
		command{name: "runc", argv: []string{b.podmanRT, "--root", filepath.Join(b.dir, "runc"), "run", "-b", b.bundle(), "bench"}},
		command{name: "crun", argv: []string{"crun", "--root", filepath.Join(b.dir, "crun"), "--cgroup-manager=disabled", "run", "-b", b.bundle(), "bench"}})
	times, err := b.race(b.runs, append([]command{host, image}, peers...)...)
	if err != nil {
		return err
	}
	b.out.times("start, host root", times, append([]command{host}, peers...))
	b.out.times("start, image root", times, append([]command{image}, peers...))

	// podman on its own: what it leaves to be done after its end would fall on the others.
	engines := b.working(b.podmanRun("one", "none"),
		command{name: "podman run, crun", argv: podmanWith("crun", "run", "--rm", "--network=none", "--cgroups=disabled", b.ref("one"), "true")})
	if err := b.compare("start, image root", b.few(), append([]command{image}, engines...)...); err != nil {
		return err
	}
	return b.startShapes()
}

// startShapes is the same of images with more layers, and more in them.
func (b *bench) startShapes() error {
	one := b.image()
	one.name = "cove, 1 layer"
	for _, s := range []struct{ name, what string }{{"twenty", "start, 20 layers"}, {"150", "start, 150 layers"}, {"files", "start, 50 000 files more"}} {
		if err := b.compare(s.what, b.runs, command{name: "cove", argv: b.coveOf(s.name, "--", "true")}, one); err != nil {
			return err
		}
		if s.name == "150" {
			continue // podman 4 cannot
		}
		if err := b.compare(s.what, b.few(), command{name: "cove", argv: b.coveOf(s.name, "--", "true")}, b.podmanRun(s.name, "none")); err != nil {
			return err
		}
	}
	return nil
}

// startCold is a start whose files have to be read from the disk, and one for which the machine has to be looked at, too.
func (b *bench) startCold() error {
	host, image, podman, bwrapped := b.host(), b.image(), b.podmanRun("one", "none"), command{name: "bwrap", argv: bwrap("true")}
	first := command{name: "cove image, first after boot", argv: image.argv}
	all := []command{host, image, first, bwrapped, podman}
	for i := range all {
		all[i].reset = b.dropCaches
	}
	all[2].reset = func() error {
		if err := forgetMachine(); err != nil {
			return err
		}
		return b.dropCaches()
	}
	times, err := b.turns(max(b.runs/6, 1), all...)
	if err != nil {
		return err
	}
	b.out.times("cold start, host root", times, []command{host, bwrapped})
	b.out.times("cold start, image root", times, []command{image, bwrapped, podman})
	b.out.times("first start after boot, image root", times, []command{first, bwrapped, podman})
	// What was read from the disk again lies in the page cache in smaller pieces than what was written: see install.
	if err := b.compare("start, program read again, host root", b.runs, b.host(), bwrapped); err != nil {
		return err
	}
	if err := b.compare("start, program read again, image root", b.runs, b.image(), bwrapped); err != nil {
		return err
	}
	_, err = install(b.given, b.cove)
	return err
}

// forgetMachine removes what cove has found out about the machine, which is kept until the next boot.
func forgetMachine() error {
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		return errors.New("XDG_RUNTIME_DIR is not set: where cove keeps what it knows of the machine is not known")
	}
	if err := os.Remove(filepath.Join(run, "cove", "host")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// startNetworks is a start with each network that there is. Nothing is sent.
func (b *bench) startNetworks() error {
	with := func(args ...string) command {
		return command{name: "cove", argv: b.coveImage(append(args, "--", "true")...)}
	}
	none, own, host := with("--network", "none"), with("--network", "user"), with("--network", "host")
	none.name, own.name, host.name = "cove, none", "cove, user", "cove, host"
	closed, open := command{name: "bwrap", argv: bwrap("true")}, command{name: "bwrap --share-net", argv: bwrap("--share-net", "true")}
	times, err := b.race(b.runs, none, own, host, closed, open)
	if err != nil {
		return err
	}
	b.out.times("start, network none", times, []command{none, closed})
	b.out.times("start, network user", times, []command{own, none, closed})
	b.out.times("start, network host", times, []command{host, open})

	slirp, pasta := with("--network", "user", "--driver", "slirp4netns"), with("--network", "user", "--driver", "pasta")
	slirp.name, pasta.name = "cove, slirp4netns", "cove, pasta"
	alone := b.networks()
	slirpAlone, pastaAlone := command{name: "slirp4netns", argv: alone[1].argv("true")}, command{name: "pasta", argv: alone[2].argv("true")}
	podman, podmanHost := b.podmanRun("one", "slirp4netns"), b.podmanRun("one", "host")
	podman.name, podmanHost.name = "podman run, slirp4netns", "podman run, host"
	times, err = b.race(b.few(), own, host, slirp, pasta, slirpAlone, pastaAlone, podman, podmanHost)
	if err != nil {
		return err
	}
	b.out.times("start, network user", times, []command{own, podman})
	b.out.times("start, network user by slirp4netns", times, []command{slirp, slirpAlone, podman})
	b.out.times("start, network user by pasta", times, []command{pasta, pastaAlone})
	b.out.times("start, network host", times, []command{host, podmanHost})
	return nil
}

// startBeside is a start while other sandboxes run. They grow in number three times over, so that what else the machine
// does falls on all numbers.
func (b *bench) startBeside() error {
	image, bwrapped := b.image(), command{name: "bwrap, beside the same", argv: bwrap("true")}
	numbers := []int{0, 1, 10, 100}
	const rounds = 3
	times := map[int]map[string][]time.Duration{}
	for range rounds {
		if err := b.beside(numbers, func(running int) error {
			more, err := b.race(max(b.runs/rounds, 1), image, bwrapped)
			if err != nil {
				return err
			}
			if times[running] == nil {
				times[running] = map[string][]time.Duration{}
			}
			for name, took := range more {
				times[running][name] = append(times[running][name], took...)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, n := range numbers[1:] {
		what, took := fmt.Sprintf("start beside %d", n), median(times[n][image.name])
		b.out.add(what, "ms", took, "cove, beside none", median(times[0][image.name]))
		b.out.add(what, "ms", took, bwrapped.name, median(times[n][bwrapped.name]))
	}
	return nil
}

// beside calls measure while that many sandboxes run, for each number; the numbers grow.
func (b *bench) beside(numbers []int, measure func(running int) error) error {
	running := 0
	for _, n := range numbers {
		for ; running < n; running++ {
			stop, err := b.idle(b.coveImage(append([]string{"--name", fmt.Sprintf("beside-%d", running), "--"}, idler...)...))
			if err != nil {
				return err
			}
			defer stop()
		}
		if err := measure(n); err != nil {
			return err
		}
	}
	return nil
}
