// Package quick carries out the usual `cove run`, and `cove exec`, before the packages that it does not need are initialised: the
// command line library, the image libraries with their regular expressions, HTTP. It runs in its own init, which ends
// the process with the command's code; package start says what makes its turn come early.
//
// It does the same as package cli, by the same code of package start, or nothing: whatever would need to ask, to
// advise, to pull or to tell an error is left to cli, which begins anew. Only when the sandbox was started does it
// keep what came of that, for cli to tell. With a network of cove's own the other packages are initialised beside the run, when init
// has its ids and makes the inside.
package quick

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"

	"cove/config"
	"cove/fetch/image"
	"cove/sandbox"
	"cove/sandbox/integration"
	"cove/sandbox/network"
	"cove/sandbox/review"
	"cove/sandbox/spec"
	"cove/sandbox/start"
	"cove/sandbox/trace"
)

// outcome is how a run ended that cli has to tell of.
var outcome struct {
	pending chan struct{} // closed when the rest holds; nil: it does
	ran     bool
	status  sandbox.Status
	err     error
}

// Outcome returns how the run or exec that the command line asks for has ended; ran is false when it is still to be done.
func Outcome() (status sandbox.Status, err error, ran bool) {
	if outcome.pending != nil {
		<-outcome.pending
	}
	return outcome.status, outcome.err, outcome.ran
}

func init() {
	l, ok := wanted(os.Args)
	if !ok {
		return
	}
	// Not on this goroutine: while packages are initialised it is bound to its thread, and each time that it waits for
	// another the threads have to change.
	done, beside := make(chan struct{}), make(chan struct{})
	go func() {
		if os.Args[1] == "exec" {
			exec(l)
		} else {
			run(l, func() { close(beside) })
		}
		close(done)
	}()
	select {
	case <-done:
	case <-beside:
		outcome.pending = done
	}
}

// work is what the network's outer half, which is initialised last of all, is to do at the start of a sandbox. It is done on the thread that
// initialises: that has a processor, and whom it would wake for it might get the one that init is on.
var work = make(chan func(network.Driver))

// Provide does it, once everything is initialised, until the run has ended.
func Provide(d network.Driver) {
	if outcome.pending == nil {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case f := <-work:
			f(d)
		case <-outcome.pending:
			return
		}
	}
}

// lateNetwork has the driver initialised when it is first needed: init has its ids then, and makes the inside.
type lateNetwork struct {
	beside func() // lets the other packages be initialised
}

// with calls f with the driver, and returns when it has; f is not called when it ends with ctx's error.
func (l lateNetwork) with(ctx context.Context, f func(network.Driver)) error {
	l.beside()
	done := make(chan struct{})
	select {
	case work <- func(d network.Driver) { f(d); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Link implements network.Driver. The driver is network.Builtin.
func (l lateNetwork) Link(*spec.Network) (*spec.Link, error) { return network.BuiltinLinkHere() }

// Attach implements network.Driver.
func (l lateNetwork) Attach(ctx context.Context, pid int, n *spec.Network, find func(string) (string, error), decide func(network.Decision)) (*network.Attached, error) {
	var link *network.Attached
	var err error
	if late := l.with(ctx, func(d network.Driver) { link, err = d.Attach(ctx, pid, n, find, decide) }); late != nil {
		return nil, late
	}
	if err != nil {
		return nil, err
	}
	serve := link.Serve
	link.Serve = func(tun *os.File) error {
		var err error
		if late := l.with(ctx, func(network.Driver) { err = serve(tun) }); late != nil {
			return errors.Join(late, tun.Close())
		}
		return err
	}
	return link, nil
}

// Publish implements network.Driver.
func (l lateNetwork) Publish(ctx context.Context, ports []spec.Port, dial func(proto string, port uint16) (*os.File, error)) (network.Ports, error) {
	var p network.Ports
	var err error
	if late := l.with(ctx, func(d network.Driver) { p, err = d.Publish(ctx, ports, dial) }); late != nil {
		return nil, late
	}
	return p, err
}

// wanted reads the command line of a run that needs nothing but to be run, or of an exec.
func wanted(args []string) (start.Line, bool) {
	if len(args) < 3 || args[1] != "run" && args[1] != "exec" {
		return nil, false
	}
	l, ok := start.Parse(args[1], args[2:])
	if !ok || slices.ContainsFunc([]string{"debug", "help", "dry-run", "publish", "learn-network"}, l.IsSet) {
		return nil, false
	}
	if l.IsSet("store") && l.String("store") == "" {
		return nil, false // package cli refuses it
	}
	return l, true
}

// errOrdinary says that package cli has to do it.
var errOrdinary = errors.New("not for the short way")

// run calls beside when other packages are to be initialised meanwhile: those of the network are among them.
func run(l start.Line, beside func()) {
	trace.Step("command line read")
	start.KeepOwnerBits()
	ctx, stop := start.UntilSignal()
	defer stop()
	c := newCall(ctx, l)
	said := false
	c.Warn = func(string, ...any) { said = true }
	plan, err := c.Plan(l)
	trace.Step("planned")
	if ctx.Err() != nil {
		// The signal came to this run, and package cli would not know of it.
		outcome.ran, outcome.err = true, context.Cause(ctx)
		return
	}
	if err != nil || said {
		return
	}
	if _, unsaid := plan.Unsaid(); len(unsaid) > 0 || plan.Spec.Integrations != nil || len(plan.Spec.Network.Publish) > 0 || plan.Spec.Network.PublishAuto {
		return
	}
	if n := plan.Spec.Network; n.Mode == "user" {
		if n.Driver != network.Builtin {
			return
		}
		plan.Options.Network = lateNetwork{sync.OnceFunc(beside)}
	}
	outcome.status, outcome.err = sandbox.Run(ctx, plan.Spec, plan.Options)
	outcome.ran = true
	if ctx.Err() != nil && errors.Is(outcome.err, ctx.Err()) {
		outcome.err = context.Cause(ctx)
	}
	trace.Step("ended")
	if outcome.err == nil && outcome.status.Text == "" {
		start.Exit(outcome.status.ExitCode())
	}
}

// exec is `cove exec`: what it says is said as package cli would, which tells of errors.
func exec(l start.Line) {
	start.KeepOwnerBits()
	_, stop := start.UntilSignal() // until the session hands them on
	defer stop()
	name, in, err := start.Exec(l)
	if err != nil {
		return
	}
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return
	}
	outcome.status, outcome.err = sandbox.Exec(name, in, sandbox.Options{RuntimeDir: dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Warn: os.Stderr, Log: slog.New(slog.DiscardHandler)})
	outcome.ran = true
	if outcome.err == nil && outcome.status.Text == "" {
		start.Exit(outcome.status.ExitCode())
	}
}

func newCall(ctx context.Context, l start.Line) *start.Call {
	return &start.Call{
		Ctx: ctx, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Log: slog.New(slog.DiscardHandler),
		Command: "run", StoreDir: l.String("store"),
		Agree:   func(*config.Trust, *config.Profile, config.Decision) error { return errOrdinary },
		Pull:    find,
		Devices: func([]string) (*integration.Devices, error) { return nil, errOrdinary },
		// What a view holds is told, which takes more than is ready here.
		Review: func(string, string) (*review.Record, error) { return nil, errOrdinary },
		SetUp:  func(*start.SetUp) (*image.Image, error) { return nil, errOrdinary },
	}
}

// find gets an image that is in the store and need not be asked for.
func find(w start.Wanted) (*image.Image, error) {
	if w.Policy != image.Missing && w.Policy != image.Never {
		return nil, errOrdinary
	}
	img, err := image.Find(w.Ref, image.Options{Store: w.Store, IDMap: w.IDMap, Platform: w.Platform, Policy: w.Policy, Locked: w.Locked, Demands: w.Demands})
	if err == nil && img.Kind == image.Dir {
		// A directory never came in, so policy.json is asked each time, and package fetch reads it.
		if file, err := image.PolicyFile(); err != nil || file != "" {
			return nil, errOrdinary
		}
	}
	return img, err
}
