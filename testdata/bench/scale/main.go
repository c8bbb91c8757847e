// Command scale tells how cove's times and memory grow: with the images of a store, with the sandboxes that run, with the
// files of a layer, of a project and of what is under review. See README.md beside it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

type scale struct {
	ctx  context.Context
	cove string
	dir  string // everything is below it
	all  int
	rows [][]string
}

func main() {
	if filepath.Base(os.Args[0]) == "true" {
		return // in the images that it makes
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cove := flag.String("cove", "./cove", "the binary to measure")
	dir := flag.String("dir", filepath.Join(os.TempDir(), fmt.Sprintf("cove-scale-%d", os.Getuid())), "where everything is, until the end")
	only := flag.String("only", "images,sandboxes,layer,project", "what to measure")
	sizes := flag.String("sizes", "", "how many, one after the other, by commas; \"\": what is usual for each part")
	all := flag.Int("all", 100_000, "up to how many files of a project all are changed")
	flag.Parse()
	if err := run(ctx, *cove, *dir, *only, *sizes, *all); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cove, dir, only, sizes string, all int) (err error) {
	if os.Getuid() == 0 {
		return fmt.Errorf("run it as an ordinary user: that is who cove is for")
	}
	s := &scale{ctx: ctx, dir: dir, all: all}
	if s.cove, err = filepath.Abs(cove); err != nil {
		return err
	}
	parts := map[string]struct {
		measure func(n int) error
		usual   string
	}{
		"images":    {s.images, "10,100,1000,10000"},
		"sandboxes": {s.sandboxes, "1,10,100,500"},
		"layer":     {s.layer, "1000,10000,100000,1000000"},
		"project":   {s.project, "1000,10000,100000"},
	}
	for name := range strings.SplitSeq(only, ",") {
		part, ok := parts[name]
		if !ok {
			return fmt.Errorf("-only %q: it is one of images, sandboxes, layer, project", name)
		}
		list := part.usual
		if sizes != "" {
			list = sizes
		}
		for text := range strings.SplitSeq(list, ",") {
			n, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("-sizes %q: %w", sizes, err)
			}
			fmt.Fprintf(os.Stderr, "scale: %d: %s\n", n, name)
			err = s.fresh()
			if err == nil {
				err = part.measure(n)
			}
			if err != nil {
				return fmt.Errorf("%s, %d: %w", name, n, err)
			}
		}
	}
	s.print()
	return s.remove()
}

// fresh makes the folders anew.
func (s *scale) fresh() error {
	if err := s.remove(); err != nil {
		return err
	}
	for _, d := range []string{"", "home", "run", "work"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return err
		}
	}
	// What it finds out about the machine once is no matter of size.
	_, err := s.do("", s.cove, "run", "--", "true")
	return err
}

// remove takes everything away, of which some is of subordinate ids.
func (s *scale) remove() error {
	if _, err := os.Lstat(s.dir); err != nil {
		return nil
	}
	return exec.Command("unshare", "--map-auto", "--map-root-user", "--setuid", "0", "--setgid", "0", "rm", "-rf", s.dir).Run()
}

func (s *scale) env() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(s.dir, "home"), "XDG_RUNTIME_DIR=" + filepath.Join(s.dir, "run"),
		"COVE_STORE=" + filepath.Join(s.dir, "store")}
}

// A cost is what one command took.
type cost struct {
	time time.Duration
	cpu  time.Duration // of all its processes, their system calls too
	peak int64         // kB: the highest resident memory of any one of its processes
	out  string
}

func (s *scale) command(dir string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = filepath.Join(s.dir, "work", dir), s.env()
	return cmd
}

// do runs a command in a folder of the projects'.
func (s *scale) do(dir string, argv ...string) (cost, error) {
	cmd := s.command(dir, argv...)
	// Files and no pipes: what waits for the end of a pipe waits for whatever holds it.
	out, err := os.CreateTemp(s.dir, "out-*")
	if err != nil {
		return cost{}, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	start := time.Now()
	err = cmd.Run()
	c := cost{time: time.Since(start)}
	said, _ := os.ReadFile(out.Name())
	c.out = string(said)
	if err != nil {
		return c, fmt.Errorf("%s: %w\n%.2000s", strings.Join(argv, " "), err, c.out)
	}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.cpu, c.peak = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), u.Maxrss
	}
	return c, nil
}

// median runs a command several times.
func (s *scale) median(times int, dir string, argv ...string) (cost, error) {
	var all []cost
	for range times {
		c, err := s.do(dir, argv...)
		if err != nil {
			return c, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b cost) int { return int(a.time - b.time) })
	return all[len(all)/2], nil
}

// row measures a command, and notes what it took.
func (s *scale) row(n, times int, what, dir string, argv ...string) error {
	c, err := s.median(times, dir, argv...)
	if err != nil {
		return err
	}
	s.note(n, what, c)
	return nil
}

func (s *scale) note(n int, what string, c cost) {
	cpu, peak := "", ""
	if c.peak > 0 {
		cpu, peak = fmt.Sprintf("%.3f", c.cpu.Seconds()), fmt.Sprintf("%.1f", float64(c.peak)/1024)
	}
	s.add(n, what, fmt.Sprintf("%.3f", c.time.Seconds()), cpu, peak)
}

func (s *scale) add(n int, what, seconds, cpu, megabytes string) {
	s.rows = append(s.rows, []string{what, strconv.Itoa(n), seconds, cpu, megabytes})
	fmt.Fprintf(os.Stderr, "  %-45s %8d %10s s %10s s %s MB\n", what, n, seconds, cpu, megabytes)
}

func (s *scale) print() {
	slices.SortStableFunc(s.rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tsize\tseconds\tof processor time\tMB")
	for _, r := range s.rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	w.Flush()
}
