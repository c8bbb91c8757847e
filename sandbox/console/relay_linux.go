package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// relays copies between the caller's descriptors and pipes of a command.
type relays struct {
	pending []func()       // copies to start when the command runs
	theirs  []*os.File     // the command's ends, ours to close once they are handed over
	outputs sync.WaitGroup // copies of what the command writes
	sources []*source      // what those read from

	mu     sync.Mutex
	failed error // the first output that could not be written
}

// source is a pipe or pty that the command writes to. busy is set while something that was read
// from it is still being passed on.
type source struct {
	*os.File
	busy atomic.Bool
}

// prepare returns the three descriptors to hand in.
func (r *relays) prepare(s Stdio) ([]*os.File, error) {
	in, err := r.input(s.In)
	if err != nil {
		return nil, fmt.Errorf("stdin: %w", err)
	}
	out, err := r.output("stdout", s.Out)
	if err != nil {
		return nil, fmt.Errorf("stdout: %w", err)
	}
	errs, err := r.output("stderr", s.Err)
	if err != nil {
		return nil, fmt.Errorf("stderr: %w", err)
	}
	return []*os.File{in, out, errs}, nil
}

// direct reports whether a descriptor can be handed in as it is. A closed one counts as /dev/null, and so does that itself,
// of which there is nothing to relay: os.ErrClosed.
func direct(f *os.File) (bool, error) {
	var st unix.Stat_t
	if f == nil {
		return false, os.ErrClosed
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, os.ErrClosed
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFSOCK:
		return true, nil
	case unix.S_IFDIR:
		return false, errors.New("is a directory")
	case unix.S_IFCHR:
		if st.Rdev == unix.Mkdev(1, 3) { // devices.txt of the kernel's documentation
			return false, os.ErrClosed
		}
	}
	return false, nil
}

func (r *relays) null() (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		r.theirs = append(r.theirs, f)
	}
	return f, err
}

func (r *relays) input(f *os.File) (*os.File, error) {
	ok, err := direct(f)
	if errors.Is(err, os.ErrClosed) {
		return r.null()
	}
	if ok || err != nil {
		return f, err
	}
	read, write, err := r.pipe()
	if err != nil {
		return nil, err
	}
	r.theirs = append(r.theirs, read)
	r.pending = append(r.pending, func() {
		go func() {
			_, _ = io.Copy(write, f)
			write.Close()
		}()
	})
	return read, nil
}

func (r *relays) output(name string, f *os.File) (*os.File, error) {
	ok, err := direct(f)
	if errors.Is(err, os.ErrClosed) {
		return r.null()
	}
	if ok || err != nil {
		return f, err
	}
	read, write, err := r.pipe()
	if err != nil {
		return nil, err
	}
	r.theirs = append(r.theirs, write)
	r.pending = append(r.pending, func() { r.copy(name, f, read) })
	return write, nil
}

// pipe makes a pipe in blocking mode: the command shares the mode of the end that it gets.
func (r *relays) pipe() (*os.File, *os.File, error) { return Pipe() }

// Pipe makes a pipe for a command to write to, and returns the side to read first.
func Pipe() (*os.File, *os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe", err)
	}
	// To open /dev/stderr is to open this pipe, of which the command's user, or as root everybody
	// inside, is not the owner. Nobody reaches it who does not have it.
	if err := unix.Fchmod(fds[0], 0o666); err != nil {
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fchmod of a pipe", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// handedOver closes the command's ends here, so that their last close is the command's.
func (r *relays) handedOver() {
	for _, f := range r.theirs {
		f.Close()
	}
	r.theirs = nil
}

func (r *relays) start() {
	for _, f := range r.pending {
		f()
	}
	r.pending = nil
}

// copy relays what the command writes. When it cannot be written any more the source is closed,
// so that the command gets SIGPIPE as it would without us. That comes late: its last words may be
// in the pipe, and it gone. So an output with a name, one that does not go to a terminal, is also told of.
func (r *relays) copy(name string, to, from *os.File) {
	src := &source{File: from}
	r.sources = append(r.sources, src)
	r.outputs.Add(1)
	go func() {
		defer r.outputs.Done()
		defer src.Close()
		defer src.busy.Store(false) // also when the bytes could not be passed on
		var buf []byte
		for src.await() {
			if buf == nil {
				buf = make([]byte, 64<<10)
			}
			// busy is set while the bytes are still to be seen by poll: between the two there must be
			// no moment in which drain takes them for passed on.
			src.busy.Store(true)
			n, err := src.Read(buf)
			if n > 0 {
				if _, werr := to.Write(buf[:n]); werr != nil {
					r.fail(name, werr)
					return
				}
			}
			src.busy.Store(false)
			if err != nil {
				return
			}
		}
	}()
}

func (r *relays) fail(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err // what the path of our own descriptor is nobody asked
	}
	if name != "" && r.failed == nil {
		r.failed = fmt.Errorf("write %s: %w", name, err)
	}
}

// result adds to how the command ended what of its output could not be written: to have done well without it is not true.
func (r *relays) result(exited *spec.Exited) *spec.Exited {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil || exited.Text != "" {
		return exited
	}
	told := *exited
	told.Text = r.failed.Error()
	if told.Code == 0 && told.Signal == 0 {
		told.Code = codeFailed
	}
	return &told
}

// codeFailed is the exit code of what cove itself could not do.
const codeFailed = 125

// await waits until there is something to read; false: there is nothing, and nothing to come.
func (s *source) await() bool {
	p := []unix.PollFd{{Fd: int32(s.Fd()), Events: unix.POLLIN}}
	for wait := -1; ; {
		_, err := unix.Poll(p, wait)
		switch {
		case err == unix.EINTR:
		case p[0].Revents != unix.POLLHUP:
			return true // the read will tell
		case wait == 0:
			return false
		default:
			// The kernel looks for bytes first, and for writers then: what the last of them wrote in between is seen now.
			wait = 0
		}
	}
}

// drainIdle bounds the wait for output after the command has ended: what it left running in the
// background may hold the other end open for ever.
const drainIdle = 250 * time.Millisecond

// drain waits until what the command wrote has been passed on.
func (r *relays) drain() {
	if len(r.sources) == 0 {
		return
	}
	done := make(chan struct{})
	go func() {
		r.outputs.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		case <-time.After(drainIdle):
			if !r.waiting() {
				return
			}
		}
	}
}

// waiting reports whether there is still something to read, or to be passed on. It looks in this order: what is not to be read any more
// was read with busy set. The other way round it could be read between the two looks, and be seen in neither.
func (r *relays) waiting() bool {
	for _, f := range r.sources {
		if f.readable() || f.busy.Load() {
			return true
		}
	}
	return false
}

// readable reports whether there is something to read, without a wait.
func (s *source) readable() (ready bool) {
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		ready = err == nil && n > 0 && p[0].Revents&unix.POLLIN != 0
	})
	return ready
}
