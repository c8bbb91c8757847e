package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"cove/fetch/store"
	"cove/sandbox/console"
	"cove/sandbox/integration"
	"cove/sandbox/memory"
	"cove/sandbox/network"
	"cove/sandbox/programs"
	"cove/sandbox/review"
	"cove/sandbox/signals"
	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// KeeperName is the stage that is the parent of a shell's sandbox: it has a session of its own and
// no terminal, so that no shell's terminal holds the others, and ends with the last of them.
const KeeperName = "cove-keeper"

// keeperStart is what the first shell tells the keeper.
type keeperStart struct {
	Spec          *spec.Spec
	RuntimeDir    spec.Path
	StoreDir      spec.Path
	Image         *store.Handle
	Project       spec.Path
	ProfileHash   string
	FuseOverlayfs string
	Persist       *Persist
	Parts         []part
}

// keeperReply is the keeper's answer when its sandbox waits for shells, or did not come up.
type keeperReply struct {
	Error    *spec.Failed
	InUse    *review.InUseError // where that is what Error says
	Persist  *PersistError      // likewise
	Missing  *integration.MissingError
	Warnings string
}

// Shell runs the Spec's process in the project's sandbox: the one that runs, when there is one
// already, or else a new one under a keeper. joined tells which it was.
func Shell(ctx context.Context, s *spec.Spec, o Options) (status Status, joined bool, err error) {
	for range 5 {
		dir, r, err := findOrStart(ctx, s, o)
		if err != nil {
			return Status{}, false, err
		}
		joined = r != nil
		if joined {
			if err := o.compare(r, s); err != nil {
				if awaitEnd(dir, endingAfter) { // its last shell had left
					continue
				}
				return Status{}, true, err
			}
			if err := sameImage(r, s, o); err != nil {
				return Status{}, true, err
			}
			if o.Persist != nil && o.Persist.Restart {
				return Status{}, true, errors.New("join the project's sandbox: --rebuild drops what it works on: leave every shell of it first")
			}
			if o.TellJoined {
				o.warn("joined the sandbox %q, which runs since %s", r.Name, r.Started.Format("15:04"))
			}
		}
		tell, tellToo := watchGit(s.Protect, o.warn), watchRepository(s.Repository, o.warn)
		status, err = join(dir, nil, spec.Start{Process: s.Process}, o)
		tell()
		tellToo()
		// The last shell may have left between the look and the call; then there is none to join. A command that has run
		// is never begun again, whatever became of its sandbox.
		if notStarted(err) && awaitEnd(dir, killAfter) {
			continue
		}
		return blame(status, s, o), joined, err
	}
	return Status{}, false, errors.New("the project's sandbox ended again and again while it was joined")
}

// notStarted reports whether a shell found nobody to start it.
func notStarted(err error) bool {
	return errors.Is(err, console.ErrNotStarted) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// endingAfter is how long a keeper may take, on a busy machine, to end when its last shell has.
const endingAfter = time.Second

// awaitEnd waits for a sandbox that is being taken down, and reports whether it is gone.
func awaitEnd(dir string, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if running, err := alive(dir); err != nil || !running {
			return true
		}
	}
	return false
}

// sameImage compares the image of a sandbox that is to be joined with the one that would be started now. A record of
// an older cove has no digest.
func sameImage(r *record, s *spec.Spec, o Options) error {
	if r.Digest == s.Root.Digest {
		return nil
	}
	if o.Frozen {
		return fmt.Errorf("join the project's sandbox: it runs the image %s %s, and %s is locked: leave every shell of it first", r.Image, r.Digest, s.Root.Digest)
	}
	if r.Digest != "" && s.Root.Digest != "" && r.Profile == o.ProfileHash && o.Warn != nil {
		fmt.Fprintln(o.Warn, "cove: this sandbox was started with another image: leave every shell of it to get the one that is meant now")
	}
	return nil
}

// findOrStart returns the directory of the project's sandbox, and its record when it was running
// already. Two shells that come at once find one sandbox: the second waits for the first to start it.
func findOrStart(ctx context.Context, s *spec.Spec, o Options) (string, *record, error) {
	if o.Project != "" {
		lock, err := lockWorkspace(o.RuntimeDir, o.Project, ".shell")
		if err != nil {
			return "", nil, err
		}
		defer lock.Close()
	}
	dir, r, err := findShell(o.RuntimeDir, o.Project)
	if err != nil || r != nil {
		return dir, r, err
	}
	dir, err = startKeeper(ctx, s, o)
	return dir, nil, err
}

func findShell(runtimeDir, project string) (string, *record, error) {
	var found string
	var rec *record
	if project == "" {
		return "", nil, nil
	}
	err := each(runtimeDir, func(dir string, r *record) error {
		if r.Shell && string(r.Project) == project {
			found, rec = dir, r
		}
		return nil
	})
	return found, rec, err
}

// startKeeper starts a keeper, and returns its sandbox's directory when a shell can be had there.
func startKeeper(ctx context.Context, s *spec.Spec, o Options) (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	conn, theirs, err := fdpass.Pair()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer theirs.Close()
	cmd := &exec.Cmd{Path: path, Args: []string{KeeperName}, Env: os.Environ(), Dir: "/"}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	userns.CloseOnExec()
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start %s: %w", KeeperName, err)
	}
	defer func() { _ = cmd.Process.Release() }()
	theirs.Close()
	start := keeperStart{Spec: s, RuntimeDir: spec.Path(o.RuntimeDir), Image: o.Image, Project: spec.Path(o.Project), ProfileHash: o.ProfileHash, Parts: partsOf(s), FuseOverlayfs: o.FuseOverlayfs, Persist: o.Persist}
	if o.Store != nil {
		start.StoreDir = spec.Path(o.Store.Dir())
	}
	if err := conn.Send(start); err != nil {
		return "", fmt.Errorf("talk to %s: %w", KeeperName, err)
	}
	var reply keeperReply
	if _, err := conn.Recv(&reply); err != nil {
		return "", fmt.Errorf("%s ended before its sandbox was up: %w", KeeperName, err)
	}
	if o.Warn != nil {
		fmt.Fprint(o.Warn, reply.Warnings)
	}
	if reply.Error != nil {
		err := &SetupError{Text: reply.Error.Text, Errno: unix.Errno(reply.Error.Errno)}
		if reply.InUse != nil {
			err.cause = reply.InUse
		}
		if reply.Missing != nil {
			err.cause = reply.Missing
		}
		if reply.Persist != nil {
			err.cause = reply.Persist
		}
		return "", err
	}
	return filepath.Join(sandboxesDir(o.RuntimeDir), s.ID), nil
}

// KeeperMain is the keeper stage. It returns the exit code.
func KeeperMain(driver network.Driver, integrations integration.Driver) int {
	conn, err := fdpass.FromFD(3)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: a part of cove that only cove starts\n", KeeperName)
		return 2
	}
	var first keeperStart
	if _, err := conn.Recv(&first); err != nil {
		return 1
	}
	programs.Guard(append(first.Spec.Writable(), string(first.Project))...)
	ctx, cancel := signals.Context(context.Background(), unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer cancel()
	var warnings bytes.Buffer
	o := Options{RuntimeDir: string(first.RuntimeDir), Image: first.Image, Project: string(first.Project), ProfileHash: first.ProfileHash,
		FuseOverlayfs: first.FuseOverlayfs, Persist: first.Persist, Network: driver, Integrations: integrations, Warn: &warnings, shell: true, parts: first.Parts}
	box, err := keep(ctx, &first, o)
	if err != nil {
		failed := &spec.Failed{Text: err.Error()}
		var errno unix.Errno
		if errors.As(err, &errno) {
			failed.Errno = int(errno)
		}
		var inUse *review.InUseError
		errors.As(err, &inUse)
		var persist *PersistError
		errors.As(err, &persist)
		var missing *integration.MissingError
		errors.As(err, &missing)
		_ = conn.Send(keeperReply{Error: failed, InUse: inUse, Persist: persist, Missing: missing, Warnings: warnings.String()})
		return 1
	}
	_ = conn.Send(keeperReply{Warnings: warnings.String()})
	conn.Close()
	memory.GiveBackSoon()
	box.tellReached()
	box.keepUntilEmpty(ctx)
	_ = box.end()
	return 0
}

func keep(ctx context.Context, first *keeperStart, o Options) (*box, error) {
	if first.StoreDir != "" {
		s, err := store.Open(string(first.StoreDir))
		if err != nil {
			return nil, err
		}
		o.Store = s
	}
	return start(ctx, first.Spec, o, nil)
}

// firstShell is how long a keeper waits for its first shell.
const firstShell = 30 * time.Second

// keepUntilEmpty waits until the last shell has left, or the sandbox is stopped.
func (b *box) keepUntilEmpty(ctx context.Context) {
	came := false
	// A first shell that never comes, since it was killed, must not keep the sandbox for ever.
	patience := time.NewTimer(firstShell)
	defer patience.Stop()
	for {
		select {
		case s, ok := <-b.control.counts:
			if !ok {
				_, _ = b.judge(Status{}, console.ErrLost)
				return
			}
			came = came || s.Seen > 0
			if came && b.control.closeIfEmpty(s) {
				return
			}
		case <-patience.C:
			if !came && b.control.closeIfEmpty(spec.Sessions{}) {
				return
			}
		case <-ctx.Done():
			b.stop(unix.SIGHUP)
			return
		case <-b.ended:
			_, _ = b.judge(Status{}, console.ErrLost)
			return
		}
	}
}
