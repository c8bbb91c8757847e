package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// helper is a started program and the thread that it must not outlive.
type helper struct {
	done chan struct{} // closed when the program is gone
	stop func()        // ends the program; done follows
	once sync.Once
}

func (h *helper) close() error {
	h.once.Do(h.stop)
	<-h.done
	return nil
}

// start runs begin on a thread of its own, and wait after it on the same thread until the program
// is gone: PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the process
// (PR_SET_PDEATHSIG(2const)), and Go ends idle threads' lives as it likes. When ctx ends first,
// what begin started is stopped as soon as it returns.
func start(ctx context.Context, begin func() (wait, stop func(), err error)) (*helper, error) {
	type result struct {
		h   *helper
		err error
	}
	results := make(chan result, 1)
	abandoned := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		wait, stop, err := begin()
		if err != nil {
			results <- result{nil, err}
			return
		}
		h := &helper{done: make(chan struct{}), stop: stop}
		results <- result{h, nil}
		go func() {
			select {
			case <-abandoned:
				_ = h.close()
			case <-h.done:
			}
		}()
		wait()
		close(h.done)
	}()
	select {
	case r := <-results:
		return r.h, r.err
	case <-ctx.Done():
		close(abandoned)
		return nil, ctx.Err()
	}
}

// readyTimeout bounds the start of a helper, which takes some 50 ms.
const readyTimeout = 10 * time.Second

// run starts a helper and waits until it says through a pipe, given to it by handOver, that it is
// ready. It is to be called on a thread that lives as long as the helper.
func run(ctx context.Context, cmd *exec.Cmd, log io.Writer, handOver func(ready *os.File), isReady func(string) bool) (wait, stop func(), err error) {
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer readyR.Close()
	said := newTail(log)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stderr = said
	handOver(readyW)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if mayMount() {
		// slirp4netns takes leave of the old root with an unmount that would go on to every mount namespace that shares
		// them, which under systemd is the machine's: /sys/fs/cgroup and /dev/shm would be gone. Package syscall makes the
		// mounts of the new one private.
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	}
	// A copy of stderr's pipe in a child of the helper's must not hold up Wait.
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	readyW.Close() // so that the helper's end is the pipe's end
	if err != nil {
		return nil, nil, err
	}
	if err := awaitReady(ctx, readyR, isReady); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, nil, withTail(err, said)
	}
	return func() { _ = cmd.Wait() }, func() { _ = cmd.Process.Kill() }, nil
}

// mayMount reports whether what is started here could change the mounts that we see, as root can. A helper of anybody
// else does what it does to mounts in the sandbox's user namespace, from where nothing reaches ours (mount_namespaces(7)).
func mayMount() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&head, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// awaitReady reads until the helper has said that it is ready.
func awaitReady(ctx context.Context, r *os.File, isReady func(string) bool) error {
	if err := r.SetReadDeadline(time.Now().Add(readyTimeout)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })()
	said := make([]byte, 0, 64)
	for !isReady(string(said)) {
		if len(said) == cap(said) {
			return fmt.Errorf("it said %q instead of that it is ready", said)
		}
		n, err := r.Read(said[len(said):cap(said)])
		said = said[:len(said)+n]
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return errors.New("it ended")
		case err != nil:
			return fmt.Errorf("wait until it is ready: %w", err)
		}
	}
	return nil
}

// tail keeps the end of what a helper says, for the error, and passes all of it on.
type tail struct {
	mu   sync.Mutex
	text []byte
	pass func([]byte)
}

const tailSize = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > tailSize {
		t.text = append(t.text[:0], t.text[len(t.text)-tailSize:]...)
	}
	if t.pass != nil {
		t.pass(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

func newTail(log io.Writer) *tail {
	t := &tail{}
	if log != nil {
		t.pass = func(p []byte) { _, _ = log.Write(p) }
	}
	return t
}

// withTail adds what the helper said last.
func withTail(err error, said *tail) error {
	var lines []string
	for _, l := range strings.Split(said.String(), "\n") {
		// pasta's complaint about its own complaints, where no syslog runs.
		if l = strings.TrimSpace(l); l != "" && !strings.HasSuffix(l, "bytes to syslog") {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w: it said %q", err, strings.Join(lines, "; "))
}
