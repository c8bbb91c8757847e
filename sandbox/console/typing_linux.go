package console

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// typing passes on what is typed. It can be ended while nobody types: a read of the terminal that still waits would take
// the first line from whoever reads it next, as cove does when it asks what is to become of a command's changes.
type typing struct {
	wake int // an eventfd
	done chan struct{}
}

func startTyping(to io.Writer, from *os.File) (*typing, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	t := &typing{wake: wake, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		buf := make([]byte, 32<<10)
		for t.await(int(from.Fd())) {
			n, err := from.Read(buf)
			if n > 0 {
				_, err = to.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	return t, nil
}

// await waits until there is something to read; it is false when typing has been ended.
func (t *typing) await(from int) bool {
	for {
		p := []unix.PollFd{{Fd: int32(from), Events: unix.POLLIN}, {Fd: int32(t.wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return false
		}
		return p[1].Revents == 0
	}
}

// endTyping bounds the wait for what is just being passed on: the other side may take no more.
const endTyping = 200 * time.Millisecond

// end is to be called before the terminal is put back: a line discipline would hold back what a read has been told is there.
func (t *typing) end() {
	if t == nil {
		return
	}
	_, _ = unix.Write(t.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	select {
	case <-t.done:
		_ = unix.Close(t.wake)
	case <-time.After(endTyping):
	}
}
