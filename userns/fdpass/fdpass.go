// Package fdpass carries typed messages with file descriptors between processes of cove's:
// JSON, or package wire's bytes, in frames over a connected AF_UNIX stream socket, the descriptors as
// SCM_RIGHTS beside the frame's head (unix(7)).
//
// It uses blocking system calls on a plain descriptor, not package net, because the stages that
// start inside a namespace pay for every package that is linked before them.
package fdpass

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"cove/userns/fdpass/wire"

	"golang.org/x/sys/unix"
)

const (
	maxFrame = 64 << 20 // bytes of one message's JSON; an environment may be megabytes
	maxFiles = 250      // SCM_MAX_FD is 253 (unix(7))
)

// Conn is one end of a connection. Send and Recv may be used at the same time, each by several goroutines.
type Conn struct {
	fd     int
	sendMu sync.Mutex
	recvMu sync.Mutex
	once   sync.Once
	raw    syscall.RawConn // with Poll; nil where a system call waits
	file   *os.File        // what raw is of
	same   bool            // both ends are this program: package wire's bytes in place of JSON
	closed bool            // fd is another's by now; both locks are held to set it
}

// Pair makes two connected ends, close-on-exec. The second is a file, to hand to a child.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return &Conn{fd: fds[0]}, os.NewFile(uintptr(fds[1]), "socketpair"), nil
}

// FromFD takes over an inherited or received descriptor, which must be a connected AF_UNIX stream
// socket. It makes it close-on-exec and blocking.
func FromFD(fd int) (*Conn, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	if domain != unix.AF_UNIX || kind != unix.SOCK_STREAM {
		return nil, fmt.Errorf("descriptor %d is no unix stream socket", fd)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, err
	}
	return &Conn{fd: fd}, nil
}

// Poll lets Go's poller wait in place of system calls, before the connection is used by several goroutines: else each
// that waits takes a thread. For a goroutine that is bound to its thread a system call is cheaper. After an error system
// calls wait as before.
func (c *Conn) Poll() error {
	if err := unix.SetNonblock(c.fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(c.fd), "socket")
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	c.file = file
	if err := file.SetReadDeadline(time.Time{}); err != nil { // os.ErrNoDeadline: the poller did not take it (epoll_ctl(2), ENOSPC)
		return errors.Join(err, unix.SetNonblock(c.fd, false))
	}
	c.raw = raw
	return nil
}

// read makes a system call that reads, and again while there is nothing to be read.
func (c *Conn) read(call func() error) error {
	if c.raw == nil {
		return call()
	}
	var err error
	if perr := c.raw.Read(func(uintptr) bool { err = call(); return err != unix.EAGAIN }); perr != nil {
		return os.ErrClosed
	}
	return err
}

// write is read for writing.
func (c *Conn) write(call func() error) error {
	if c.raw == nil {
		return call()
	}
	var err error
	if perr := c.raw.Write(func(uintptr) bool { err = call(); return err != unix.EAGAIN }); perr != nil {
		return os.ErrClosed
	}
	return err
}

// release closes the descriptor.
func (c *Conn) release() error {
	if c.file != nil {
		return c.file.Close()
	}
	return unix.Close(c.fd)
}

// Same says, on both ends of a connection before its first message, that the other is a process of this very program:
// messages are package wire's bytes from then on, which are quicker to make and to read than JSON.
func (c *Conn) Same() { c.same = true }

func (c *Conn) encode(v any) ([]byte, error) {
	if c.same {
		return wire.Append(nil, v), nil
	}
	return json.Marshal(v)
}

func (c *Conn) decode(body []byte, v any) error {
	if c.same {
		return wire.Decode(body, v)
	}
	return json.Unmarshal(body, v)
}

// FD returns the descriptor, for poll(2) and getsockopt(2).
func (c *Conn) FD() int { return c.fd }

// Detach gives the connection's descriptor away, as it is: Close does nothing any more.
func (c *Conn) Detach() *os.File {
	var f *os.File
	c.once.Do(func() {
		c.recvMu.Lock()
		defer c.recvMu.Unlock()
		c.sendMu.Lock()
		defer c.sendMu.Unlock()
		c.closed = true
		if c.file == nil {
			f = os.NewFile(uintptr(c.fd), "socket")
			return
		}
		if fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			f = os.NewFile(uintptr(fd), "socket")
		}
		_ = c.file.Close()
	})
	return f
}

// Close shuts the connection down, which wakes a Recv on either end, and releases it.
func (c *Conn) Close() error {
	var err error
	c.once.Do(func() {
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
		// A Recv that was waiting must be out of the kernel before the number can be reused.
		c.recvMu.Lock()
		defer c.recvMu.Unlock()
		c.sendMu.Lock()
		defer c.sendMu.Unlock()
		err = c.release()
		c.closed = true
	})
	return err
}

// Send writes v together with files, which stay the caller's own.
// A peer that is gone is an error, never a SIGPIPE.
func (c *Conn) Send(v any, files ...*os.File) error {
	body, err := c.encode(v)
	if err != nil {
		return err
	}
	if len(body) > maxFrame || len(files) > maxFiles {
		return fmt.Errorf("message of %d bytes with %d descriptors is too large", len(body), len(files))
	}
	frame := make([]byte, 8, 8+len(body))
	binary.BigEndian.PutUint32(frame[0:], uint32(len(body)))
	binary.BigEndian.PutUint32(frame[4:], uint32(len(files)))
	frame = append(frame, body...)
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	// A file that nobody else refers to must not be finalized, and its number reused, before it is sent.
	defer runtime.KeepAlive(files)
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	for len(frame) > 0 {
		n := 0
		err := c.write(func() (err error) {
			n, err = unix.SendmsgN(c.fd, frame, rights, nil, unix.MSG_NOSIGNAL)
			return err
		})
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("sendmsg", err)
		}
		frame, rights = frame[n:], nil
	}
	return nil
}

// Recv waits for a message and decodes it into v. The descriptors that came with it are the
// caller's to close; they are close-on-exec. io.EOF means that the peer closed its end between messages.
func (c *Conn) Recv(v any) ([]*os.File, error) {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	if c.closed {
		return nil, os.ErrClosed
	}
	var head [8]byte
	fds, err := c.recvHead(head[:])
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	size, count := binary.BigEndian.Uint32(head[0:]), binary.BigEndian.Uint32(head[4:])
	if size > maxFrame || int(count) != len(fds) {
		closeAll(fds)
		return nil, fmt.Errorf("message of %d bytes with %d descriptors, of which %d came", size, count, len(fds))
	}
	body := make([]byte, size)
	if err := c.readFull(body); err != nil {
		closeAll(fds)
		return nil, err
	}
	if err := c.decode(body, v); err != nil {
		closeAll(fds)
		return nil, fmt.Errorf("message: %w", err)
	}
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), fmt.Sprintf("received descriptor %d", i))
	}
	return files, nil
}

// recvHead reads the frame's head; the descriptors travel with its first byte.
func (c *Conn) recvHead(head []byte) ([]int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	var fds []int
	got := 0
	for got < len(head) {
		var n, oobn, flags int
		err := c.read(func() (err error) {
			n, oobn, flags, _, err = unix.Recvmsg(c.fd, head[got:], oob, unix.MSG_CMSG_CLOEXEC)
			return err
		})
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fds, os.NewSyscallError("recvmsg", err)
		}
		if oobn > 0 {
			more, perr := parseRights(oob[:oobn])
			fds = append(fds, more...)
			if perr != nil {
				return fds, perr
			}
		}
		if flags&unix.MSG_CTRUNC != 0 {
			return fds, errors.New("descriptors were lost in transit (RLIMIT_NOFILE?)")
		}
		if n == 0 {
			if got == 0 {
				return fds, io.EOF
			}
			return fds, io.ErrUnexpectedEOF
		}
		got += n
	}
	return fds, nil
}

func (c *Conn) readFull(p []byte) error {
	for len(p) > 0 {
		n := 0
		err := c.read(func() (err error) {
			n, err = unix.Read(c.fd, p)
			return err
		})
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		p = p[n:]
	}
	return nil
}

func parseRights(oob []byte) ([]int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range msgs {
		if msgs[i].Header.Level != unix.SOL_SOCKET || msgs[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return fds, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
