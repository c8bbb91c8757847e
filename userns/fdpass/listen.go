package fdpass

import (
	"os"

	"golang.org/x/sys/unix"
)

// Listener is a listening AF_UNIX stream socket.
type Listener struct{ file *os.File }

// Listen makes a socket at path, which must not be there. Nobody removes it.
func Listen(path string) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("listen", err)
	}
	return &Listener{os.NewFile(uintptr(fd), "listener")}, nil // non-blocking: Go's poller waits, and Close wakes it
}

// Accept waits for the next connection. os.ErrClosed after Close.
func (l *Listener) Accept() (*Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, os.ErrClosed
	}
	fd := -1
	var aerr error
	err = raw.Read(func(listener uintptr) bool {
		fd, _, aerr = unix.Accept4(int(listener), unix.SOCK_CLOEXEC)
		return aerr != unix.EAGAIN && aerr != unix.EINTR && aerr != unix.ECONNABORTED
	})
	if err != nil {
		return nil, os.ErrClosed // there is no deadline that could have passed
	}
	if aerr != nil {
		return nil, os.NewSyscallError("accept", aerr)
	}
	return &Conn{fd: fd}, nil
}

// Close ends listening, and an Accept that waits.
func (l *Listener) Close() error { return l.file.Close() }
