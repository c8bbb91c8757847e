// Command bench holds cove against its peers on this machine, as an ordinary user: bubblewrap, unshare, podman with runc and
// crun, these alone, skopeo and umoci, slirp4netns and pasta, all as Debian has them. Everything is measured side by side:
// one run of each in turn, over and over, so that whatever else the machine does falls on all alike; what counts is the
// median. See README.md beside it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// options are what the command line says.
type options struct {
	cove, dir, only, mirror, readme, user, world string
	runs, pulls                                  int
	drop                                         int // the descriptor by which root is asked to empty the page cache; 0: nobody is there
}

type bench struct {
	options
	ctx      context.Context
	work     string // an empty project folder
	registry string // host:port
	podmanRT string // the OCI runtime that podman is to use
	heavy    bool   // the images that only pullmemory wants are to be made
	given    string // the binary that cove is a copy of
	used     int    // cold stores that have been pulled into
	out      table
}

// part is one comparison, or several that need the same to be there.
type part struct {
	name, what string
	run        func(*bench) error
	images     bool // the stores are to be filled
	root       bool // by `sudo bench -as USER` alone: it empties the page cache, or opens ways out, which lead into testdata/netns
	extra      bool // only when it is named
}

var parts = []part{
	{name: "prepare", what: "make the images, once", run: (*bench).makeImages, extra: true},
	{name: "start", what: "an empty command from nothing, no network: this machine's root and an image's, 1 to 150 layers, 50 000 files", run: (*bench).start, images: true},
	{name: "cold", what: "the same with an empty page cache", run: (*bench).startCold, images: true, root: true},
	{name: "networks", what: "the same with each network", run: (*bench).startNetworks, images: true, root: true},
	{name: "beside", what: "the same beside 1, 10 and 100 running sandboxes", run: (*bench).startBeside, images: true},
	{name: "exec", what: "one more command in a running sandbox", run: (*bench).exec, images: true},
	{name: "memory", what: "PSS of what an idle sandbox adds, by process", run: (*bench).memory, images: true},
	{name: "pull", what: "one layer, twenty, and small files into an empty store", run: (*bench).pull, images: true},
	{name: "again", what: "a pull of what is there", run: (*bench).pullAgain, images: true},
	{name: "pullmemory", what: "the most memory that a pull takes", run: (*bench).pullMemory, images: true, extra: true},
	{name: "network", what: "throughput, connections, latency", run: (*bench).network, root: true},
	{name: "files", what: "untar, git status, rm -r, npm ci on the root file system", run: (*bench).fileWork, images: true},
	{name: "try", what: "cove try and diff on a project of 100 000 files", run: (*bench).try},
	{name: "budget", what: "where the time of a start goes", run: (*bench).budget, images: true},
}

func main() {
	// What we were started with is nothing for who is measured: a high descriptor makes the table of all that they start larger,
	// which spares them a wait (expand_fdtable in the kernel's fs/file.c).
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.cove, "cove", "./cove", "the binary to measure")
	flag.StringVar(&o.dir, "dir", "", "where images and stores are kept between runs (default /tmp/cove-bench-UID)")
	flag.IntVar(&o.runs, "n", 41, "runs of each command in a table row")
	flag.IntVar(&o.pulls, "pulls", 3, "pulls of each kind")
	flag.StringVar(&o.only, "only", "", "what to measure, separated by commas: "+partNames()+" (default: all that is possible, but prepare and pullmemory)")
	flag.StringVar(&o.mirror, "mirror", "http://deb.debian.org/debian", "the Debian mirror the image is made from, once")
	flag.StringVar(&o.readme, "readme", "", "write the tables into this file, between its marks")
	flag.StringVar(&o.user, "as", "", "for root: install the packages, and measure as this user, in testdata/netns, with an empty page cache where that is wanted")
	flag.StringVar(&o.world, "netns", "testdata/netns", "that script")
	flag.IntVar(&o.drop, "drop", 0, "by -as: the descriptor by which it is asked to empty the page cache")
	inside := flag.String("probe", "", "only what runs inside a network that is measured; the argument is an address")
	work := flag.String("work", "", "only the file work, in that folder; the argument is the tarball")
	gunzip := flag.Bool("gunzip", false, "only decompress the given files, and throw it away: the limit of a pull")
	flag.Parse()
	var err error
	switch {
	case *inside != "":
		err = probe(*inside, flag.Arg(0))
	case *work != "":
		err = workInside(*work, flag.Arg(0))
	case *gunzip:
		err = gunzipAll(flag.Args())
	case flag.NArg() > 0:
		err = fmt.Errorf("%q: it takes options alone", flag.Args())
	case o.user != "":
		err = asRoot(ctx, o)
	default:
		err = run(ctx, o)
	}
	var said *exec.ExitError
	if o.user != "" && errors.As(err, &said) {
		os.Exit(1) // by the bench that this one has started
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func partNames() string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

// chosen are the parts that -only names, or all that can be done here.
func (o options) chosen() (chosen []part, err error) {
	for name := range strings.FieldsFuncSeq(o.only, func(r rune) bool { return r == ',' }) {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %q: it is one of %s", name, partNames())
		}
		if parts[i].root && o.drop == 0 && o.user == "" {
			return nil, fmt.Errorf("-only %s: it takes root: bench -as USER (README.md has the command)", name)
		}
		chosen = append(chosen, parts[i])
	}
	if o.only != "" {
		return chosen, nil
	}
	for _, p := range parts {
		switch {
		case p.extra:
		case p.root && o.drop == 0 && o.user == "":
			fmt.Fprintf(os.Stderr, "bench: %s is left out: it takes root (-as USER)\n", p.name)
		default:
			chosen = append(chosen, p)
		}
	}
	return chosen, nil
}

func run(ctx context.Context, o options) (err error) {
	if os.Getuid() == 0 {
		return errors.New("run it as an ordinary user, for that is who cove is for, or with -as USER")
	}
	chosen, err := o.chosen()
	if err != nil {
		return err
	}
	if o.dir == "" {
		o.dir = defaultDir(os.Getuid())
	}
	b := &bench{options: o, ctx: ctx, work: filepath.Join(o.dir, "work")}
	b.heavy = slices.ContainsFunc(chosen, func(p part) bool { return p.name == "pullmemory" })
	if err := b.setUp(); err != nil {
		return err
	}
	began := time.Now()
	if slices.ContainsFunc(chosen, func(p part) bool { return p.images }) {
		stop, err := b.prepareImages()
		if err != nil {
			return err
		}
		defer stop()
	}
	defer b.tidy()
	// What one part cannot do is no reason to lose what the others have measured.
	var failed error
	for _, p := range chosen {
		fmt.Fprintf(os.Stderr, "bench: %3.0f s: %s: %s\n", time.Since(began).Seconds(), p.name, p.what)
		b.out = table{Machine: b.machine()}
		err := p.run(b)
		if err == nil {
			err = b.keep(p.name)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.name, err))
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", p.name, err)
		}
		b.out.print(os.Stdout)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if failed == nil && b.readme != "" {
		return b.writeReadme()
	}
	return failed
}

func defaultDir(uid int) string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("cove-bench-%d", uid))
}

// setUp makes the folders and puts the binary where it is measured.
func (b *bench) setUp() (err error) {
	if b.drop != 0 {
		syscall.CloseOnExec(b.drop)
	}
	if err := os.MkdirAll(b.work, 0o700); err != nil {
		return err
	}
	if b.given, err = filepath.Abs(b.cove); err != nil {
		return err
	}
	if b.cove, err = install(b.given, filepath.Join(b.dir, "cove")); err != nil {
		return err
	}
	// Where the store is new, podman 4 takes vfs, which copies every layer; with overlay it is at its best. It remembers what
	// it took in its first call, whatever that was for.
	config := filepath.Join(b.dir, "config", "containers")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(config, "storage.conf"), []byte("[storage]\ndriver = \"overlay\"\n"), 0o600); err != nil {
		return err
	}
	// runc where it is there: crun needs a delegated cgroup for some of what podman asks of it.
	if b.podmanRT, err = exec.LookPath("runc"); err != nil {
		b.podmanRT, err = exec.LookPath("/usr/sbin/runc") // not in an ordinary user's PATH
	}
	return err
}

// install copies a program to where it is measured, as whoever installs it does. The linker writes it through a mapping,
// page by page, and so it lies in the page cache until that is read anew: a start from it was seen to take a sixth longer
// than from a copy, which lies there in larger pieces that are mapped at once; one from what was read from the disk on demand lies between.
func install(program, installed string) (string, error) {
	data, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(installed); err != nil { // not written over: it may be running
		return "", err
	}
	return installed, os.WriteFile(installed, data, 0o755)
}

// prepareImages makes what is pulled and run, serves it, and fills the stores; stop ends the registry.
func (b *bench) prepareImages() (stop func(), err error) {
	for _, tool := range []string{"bwrap", "podman", "skopeo", "umoci", "docker-registry", "mmdebstrap", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w (apt-get install %s)", err, strings.Join(packages, " "))
		}
	}
	if err := b.makeImages(); err != nil {
		return nil, err
	}
	stop, err = b.startRegistry()
	if err != nil {
		return nil, err
	}
	if err = b.push(); err == nil {
		err = b.warm()
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}
