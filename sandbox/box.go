package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cove/fetch/layer"
	"cove/fetch/store"
	"cove/sandbox/cgroup"
	"cove/sandbox/integration"
	"cove/sandbox/network"
	"cove/sandbox/review"
	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// box is one sandbox that this process is the parent of.
type box struct {
	spec    *spec.Spec
	opts    Options
	state   *state
	child   *userns.Child
	control *control
	undos   []func() error
	began   time.Time
	stopped atomic.Bool // end was asked for by somebody
	ending  atomic.Bool // end has begun
	// deserted says that nobody was left inside but init, when the main command had ended; then it ends, too.
	deserted bool

	group     *cgroup.Group // nil without limits that need one
	verdict   *verdict      // what a limit did; under verdictMu
	verdictMu sync.Mutex

	persisted *store.Run      // what is kept of the root file system; nil where it is not
	failed    bool            // init could not make the inside
	prepared  *store.Prepared // what an earlier start has put above the image; nil where none has

	run       *store.Run     // the run's own directory; nil without one
	dropping  sync.WaitGroup // of what is of no use in it any more
	portsMu   sync.Mutex
	published network.Ports // nil before a port is

	integrations integration.Opened // nil without
	main         *mainCommand       // nil under a keeper

	fuseStarted map[int]bool    // for what fuse-overlayfs was asked for; the control socket's listener's own
	servers     sync.WaitGroup  // those that serve it
	view        *review.Session // of a project under review

	filter []byte // of system calls, where landlock stands in for namespaces

	ended   chan struct{} // closed when init is gone; then status and waitErr hold
	status  syscall.WaitStatus
	waitErr error
}

func newBox(s *spec.Spec, o Options) *box {
	return &box{spec: s, opts: o, began: time.Now(), ended: make(chan struct{}), fuseStarted: map[int]bool{}}
}

// undo remembers what end has to do.
func (b *box) undo(f func() error) { b.undos = append(b.undos, f) }

// end takes the sandbox down, whatever runs in it, and removes what it left.
func (b *box) end() error {
	b.ending.Store(true)
	var errs []error
	for i := len(b.undos) - 1; i >= 0; i-- {
		errs = append(errs, b.undos[i]())
	}
	b.undos = nil
	return errors.Join(errs...)
}

// killAfter is how long a stopped sandbox's commands have before they are killed.
const killAfter = 10 * time.Second

// stop sends the signal to the commands, and kills what is left after a while.
func (b *box) stop(sig unix.Signal) {
	b.stopped.Store(true)
	_ = b.control.conn.Send(spec.ToInit{Stop: &spec.Stop{Signal: int(sig)}})
	if b.opts.shell && sig == unix.SIGTERM {
		// An interactive shell ignores SIGTERM, and on SIGHUP it writes its history and ends: bash(1), SIGNALS.
		_ = b.control.conn.Send(spec.ToInit{Stop: &spec.Stop{Signal: int(unix.SIGHUP)}})
	}
	select {
	case <-b.ended:
	case <-time.After(killAfter):
		b.kill()
	}
}

func (b *box) warn(format string, args ...any) { b.opts.warn(format, args...) }

// log tells of a step, with the milliseconds since the box was begun.
func (b *box) log(what string, args ...any) {
	if b.debug() {
		b.opts.Log.Debug(what, append(args, "ms", float64(time.Since(b.began).Microseconds())/1000)...)
	}
}

// debug reports whether somebody listens to log.
func (b *box) debug() bool {
	return b.opts.Log != nil && b.opts.Log.Enabled(context.Background(), slog.LevelDebug)
}

func (o *Options) warn(format string, args ...any) {
	if o.Warn != nil {
		fmt.Fprintf(o.Warn, "cove: "+format+"\n", args...)
	}
}

// giveToSandbox makes the run's directories those of the sandbox's root, where root on the host is
// the caller: inside, host 0 is nobody.
func (b *box) giveToSandbox(dirs ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, _ := b.spec.IDMap.HostUID(0)
	gid, _ := b.spec.IDMap.HostGID(0)
	for _, dir := range dirs {
		if err := os.Lchown(dir, int(uid), int(gid)); err != nil {
			return fmt.Errorf("give the run's directory to the sandbox: %w", err)
		}
	}
	return nil
}

// flatten copies the image's layers into one directory, for a machine without overlay of any kind.
func (b *box) flatten(ctx context.Context, run *store.Run) error {
	var layers []string
	for _, l := range b.spec.Root.Layers {
		layers = append(layers, string(l))
	}
	rootfs := run.Dir + "/rootfs"
	if err := os.Mkdir(rootfs, 0o700); err != nil {
		return fmt.Errorf("copy image %s: %w", b.spec.Root.Image, err)
	}
	if err := b.giveToSandbox(rootfs); err != nil {
		return err
	}
	if len(layers) == 0 {
		return nil
	}
	if err := layer.Flatten(ctx, b.spec.IDMap, layers, rootfs); err != nil {
		return fmt.Errorf("copy image %s: %w", b.spec.Root.Image, err)
	}
	return nil
}

// resolvConf adds /etc/resolv.conf, and with the host's network /etc/hosts, to the files of the
// Spec: they depend on the network that was attached.
func (b *box) resolvConf(dns []spec.IP) error {
	add := func(target, content string) {
		b.spec.Files = append(b.spec.Files, spec.File{Target: spec.Path(target), Kind: spec.FileWrite, Content: spec.Arg(content)})
	}
	switch b.spec.Network.Mode {
	case "none":
		add("/etc/resolv.conf", "")
		return nil
	case "user":
		content, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read the host's /etc/resolv.conf: %w", err)
		}
		add("/etc/resolv.conf", resolvText(dns, string(content)))
		return nil
	}
	for _, name := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		content, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read the host's %s: %w", name, err)
		}
		add(name, string(content))
	}
	return nil
}
