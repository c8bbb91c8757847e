package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"cove/fetch/store"
	"cove/sandbox/console"
	"cove/sandbox/programs"
	"cove/sandbox/spec"
	"cove/sandbox/trace"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// Run carries out the Spec with its main command and returns how that ended. Nothing of the
// sandbox is left when it returns, nor when this process dies before, but for what the kernel still has to do: where
// init was the last process inside, it ends at once, and is not waited for.
func Run(ctx context.Context, s *spec.Spec, o Options) (Status, error) {
	main, err := newMain(o)
	if err != nil {
		return Status{}, err
	}
	defer main.close()
	box, err := start(ctx, s, o, main)
	if err != nil {
		return Status{}, err
	}
	exited, err := main.run(box)
	trace.Step("command ended")
	if err == nil {
		box.deserted = exited.Last
		status, _ := box.judge(Status{Code: exited.Code, Signal: exited.Signal, Text: exited.Text}, nil)
		// What an error in the taking down would say is no part of how the command ended.
		return blame(status, s, o), box.end()
	}
	if status, err := box.judge(Status{}, err); err == nil {
		return status, box.end()
	}
	if errors.Is(err, console.ErrLost) && box.stopped.Load() {
		return Status{Signal: int(unix.SIGKILL)}, box.end()
	}
	end := box.end()
	if errors.Is(err, console.ErrLost) {
		err = fmt.Errorf("%w: init ended %s", err, describe(box.status, box.waitErr))
	}
	return Status{}, errors.Join(err, end)
}

// start makes the sandbox, up to an init that waits for sessions. Each step that something has to
// be undone for pushes that onto the box; end undoes them, last first.
// The main command, where there is one, is started on the way.
func start(ctx context.Context, s *spec.Spec, o Options, main *mainCommand) (box *box, err error) {
	box = newBox(s, o)
	box.main = main
	defer func() {
		if err != nil {
			err = errors.Join(err, box.end())
		}
	}()
	if s.Landlock != nil {
		return box, box.startLandlock(ctx, main)
	}
	ids := beginMapping(ctx, s)
	defer func() {
		if box.child == nil {
			ids.discard()
		}
	}()
	limits := box.beginLimits(ctx, ids)
	if err := box.prepareOutside(ctx); err != nil {
		return box, err
	}
	mounts, err := box.idmapMounts()
	if err != nil {
		return box, err
	}
	defer closeFiles(mounts)
	trace.Step("made state, protection")
	// Before the command runs, so that who hears of it finds the sandbox; they wait until init listens.
	listener, err := box.open()
	if err != nil {
		return box, err
	}
	trace.Step("opened to others")
	box.undo(box.leavePrepared)
	if err := box.adopt(ids); err != nil {
		return box, err
	}
	known, err := box.tellKnown(ctx, mounts, main)
	if err != nil {
		return box, err
	}
	if err := ids.wait(); err != nil {
		return box, err
	}
	box.log("started init and mapped its ids", "pid", box.child.Pid(), "idmap", s.IDMap)
	if err := box.holdPersisted(); err != nil {
		return box, err
	}
	if err := box.awaitLimits(ctx, limits); err != nil {
		return box, err
	}
	if known == nil {
		link, err := box.attachNetwork(ctx)
		if err == nil {
			err = box.tellInit(ctx, link, mounts, main)
		}
		if err != nil {
			return box, err
		}
	}
	if err := box.control.conn.Send(spec.ToInit{Begin: true}); err != nil {
		return box, fmt.Errorf("let init begin: %w", err)
	}
	trace.Step("let init begin")
	// It has work to do now.
	if known != nil && s.Network.Mode == "user" {
		if err := box.attachBeside(ctx); err != nil {
			return box, err
		}
	}
	if err := box.publishPorts(); err != nil {
		return box, err
	}
	go box.control.serve(listener, box)
	if err := box.awaitReady(ctx); err != nil {
		return box, err
	}
	trace.Step("heard ready")
	box.dropMark()
	box.log("init is ready")
	box.startClock()
	return box, nil
}

// prepareOutside makes and opens what lies on the host, while ids are mapped.
func (b *box) prepareOutside(ctx context.Context) error {
	if err := b.makeState(); err != nil {
		return err
	}
	if err := b.protect(); err != nil {
		return fmt.Errorf("protect the workspace: %w", err)
	}
	if err := b.useStore(ctx); err != nil {
		return err
	}
	if err := b.useView(ctx); err != nil {
		return err
	}
	if err := b.hide(); err != nil {
		return err
	}
	if err := b.protectProgram(); err != nil {
		return err
	}
	if err := b.openIntegrations(ctx); err != nil {
		return err
	}
	b.log("made its state, run directory and protection", "state", b.state.dir, "run", b.spec.Root.RunDir)
	return nil
}

// tellKnown is tellInit where the network's link is known before the network is attached: init reads it while its ids are mapped. It returns the
// link; nil where Attach is to find it out, and init has heard nothing.
func (b *box) tellKnown(ctx context.Context, mounts []*os.File, main *mainCommand) (*spec.Link, error) {
	known, err := b.knownLink()
	if err != nil || known == nil {
		return nil, err
	}
	if known.Tun {
		b.control.expectTun()
	}
	return known, b.tellInit(ctx, *known, mounts, main)
}

// tellInit tells init what to make of the sandbox, with the network that was attached.
func (b *box) tellInit(ctx context.Context, link spec.Link, mounts []*os.File, main *mainCommand) error {
	if err := b.resolvConf(link.DNS); err != nil {
		return err
	}
	b.usePrepared(ctx)
	if err := b.sendSetup(link, mounts, main); err != nil {
		return fmt.Errorf("send the Spec to init: %w", err)
	}
	trace.Step("sent Spec")
	return nil
}

// sendSetup tells init what to make, and the main command to start in it. With ports to publish that one waits until
// they are: main.run starts it.
func (b *box) sendSetup(link spec.Link, mounts []*os.File, main *mainCommand) error {
	setup := &spec.Setup{Spec: b.spec, Link: link, Debug: b.debug(), Filter: b.filter}
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil {
		setup.Slack = slack
	}
	if main == nil || len(b.spec.Network.Publish) > 0 {
		return b.control.conn.Send(spec.ToInit{Setup: setup}, mounts...)
	}
	setup.Main = main.start
	err := b.control.conn.Send(spec.ToInit{Setup: setup}, slices.Concat(mounts, []*os.File{main.theirs}, main.files)...)
	main.handOver()
	return err
}

// makeState makes the sandbox's directory in the runtime directory, and sweeps those left behind.
func (b *box) makeState() error {
	Sweep(b.opts.RuntimeDir)
	if err := checkName(b.opts.RuntimeDir, b.spec.ID, b.spec.Name); err != nil {
		return err
	}
	state, err := newState(b.opts.RuntimeDir, b.spec.ID)
	if err != nil {
		return err
	}
	b.state = state
	b.undo(state.close)
	return nil
}

// useStore keeps the image's layers from being collected, and makes the run's own directory.
func (b *box) useStore(ctx context.Context) error {
	root := &b.spec.Root
	if root.Kind == spec.RootHost {
		return nil
	}
	if b.opts.Image != nil {
		release, err := b.opts.Store.Use(*b.opts.Image)
		if err != nil {
			return fmt.Errorf("use image %s: %w", root.Image, err)
		}
		b.undo(func() error { release(); return nil })
	}
	if b.opts.Persist != nil {
		return b.usePersisted(ctx)
	}
	run, err := b.makeRun(ctx, func(string) {})
	if err != nil {
		return err
	}
	root.RunDir = spec.Path(run.Dir)
	if err := b.giveToSandbox(run.Dir, run.Upper, run.Work); err != nil {
		return err
	}
	if root.Kind == spec.RootCopy {
		return b.flatten(ctx, run)
	}
	return nil
}

// makeRun makes the run's own directory in the store, after those that were left there are gone. End removes it;
// prepare is called before.
func (b *box) makeRun(ctx context.Context, prepare func(dir string)) (*store.Run, error) {
	if err := b.opts.Store.Sweep(ctx); err != nil {
		b.warn("remove what killed sandboxes left in the store: %v", err)
	}
	run, err := b.opts.Store.NewRun()
	if err != nil {
		return nil, fmt.Errorf("make the run's directory: %w", err)
	}
	b.run = run
	b.undo(func() error {
		b.dropping.Wait()
		// Its own context: the caller's may be over, and the directory must go all the same.
		ctx, cancel := context.WithTimeout(context.Background(), removeTime)
		defer cancel()
		prepare(run.Dir)
		return run.Remove(ctx, b.spec.IDMap)
	})
	return run, nil
}

// dropMark removes what overlayfs needed to be mounted, while the command begins and this process has nothing to do.
func (b *box) dropMark() {
	if b.run != nil && b.spec.Root.Kind == spec.RootOverlay {
		b.dropping.Go(b.run.DropMark)
	}
}

// removeTime bounds the removal of what a run wrote; a large tree takes seconds.
const removeTime = 5 * time.Minute

// adopt makes the stage the box's init, and begins to listen to it.
func (b *box) adopt(m *mappingIDs) error {
	<-m.forked
	child := m.child
	if child == nil {
		return m.wait()
	}
	b.child = child
	b.control = newControl(child.Conn)
	b.control.fuse = b.serveFuse
	b.control.listening = b.serveIntegrations
	b.control.root = b.heldRoot
	b.control.placed = b.notePlaced
	b.control.step = func(what string) { b.log("init: " + what) }
	go func() {
		b.status, b.waitErr = child.Wait()
		close(b.ended)
	}()
	b.undo(func() error {
		_ = m.wait() // the helpers know it by its number, which may be another's as soon as it is waited for
		child.Kill()
		if b.mustWait() {
			<-b.ended
		}
		return child.Conn.Close()
	})
	go b.control.listen()
	return nil
}

// mustWait reports whether init's end is to be brought about before anything else is undone, and waited for. Where it was alone it
// ends by itself, or is killed and nothing is lost, and what is left is the kernel's work: to take namespaces and mounts apart, a tenth of a short run's time. But
// fuse-overlayfs writes to the run's directory until its mount is gone, and no control group is removed with a process in it.
// A view, or a root file system that is kept, is another's as soon as it is let go: two overlays must not write to the same upper directory.
func (b *box) mustWait() bool {
	return !b.deserted || b.view != nil || b.persisted != nil || b.spec.Root.Kind == spec.RootFuse || b.spec.Limits.Cgroup == spec.CgroupDelegated
}

// findProgram finds one that runs outside.
func (b *box) findProgram(name string) (string, error) {
	return programs.New(append(b.spec.Writable(), b.opts.Project)).Find(name)
}

// awaitReady waits for init's word that the inside is made.
func (b *box) awaitReady(ctx context.Context) error {
	select {
	case err := <-b.control.ready:
		if errors.Is(err, errInitGone) {
			<-b.ended
			return fmt.Errorf("set up the sandbox: init ended (%s)", describe(b.status, b.waitErr))
		}
		if err != nil {
			b.failed = true
			return fmt.Errorf("set up the sandbox: %w", err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open makes the sandbox known to other coves: exec, stop and ps.
func (b *box) open() (*fdpass.Listener, error) {
	listener, err := listenSocket(b.state.dir)
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's socket: %w", err)
	}
	b.undo(listener.Close)
	if l := b.spec.Limits; l.Cgroup != "" || l.TimeoutMS > 0 {
		if err := b.state.makeVerdict(); err != nil {
			return nil, err
		}
	}
	return listener, b.state.publish(&record{Info: b.info(), Parts: b.opts.parts, Process: b.spec.Process})
}

func (b *box) info() Info {
	command := []string{}
	for _, a := range b.spec.Process.Argv {
		command = append(command, string(a))
	}
	return Info{ID: b.spec.ID, Name: b.spec.Name, Image: b.spec.Root.Image, Command: command, Project: spec.Path(b.opts.Project),
		Review: len(b.spec.Views()) > 0, Shell: b.opts.shell, PID: os.Getpid(), Started: time.Now(), Profile: b.opts.ProfileHash, Digest: b.spec.Root.Digest}
}

func describe(ws syscall.WaitStatus, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case ws.Signaled():
		return "by signal " + ws.Signal().String()
	}
	return fmt.Sprintf("with status %d", ws.ExitStatus())
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
