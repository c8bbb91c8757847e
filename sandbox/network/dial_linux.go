package network

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds a connect(2) to the sandbox's own loopback, which answers at once unless a
// listener's backlog is full.
const dialTimeout = 3 * time.Second

// Dial connects a socket to a port of this network namespace's loopback, 127.0.0.1 and then ::1,
// for a port that is published outside. proto is tcp or udp. The file is non-blocking.
func Dial(proto string, port uint16) (*os.File, error) {
	kind := unix.SOCK_STREAM
	switch proto {
	case "tcp":
	case "udp":
		kind = unix.SOCK_DGRAM
	default:
		return nil, fmt.Errorf("dial: unknown protocol %q", proto)
	}
	v4 := &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}
	v6 := &unix.SockaddrInet6{Port: int(port), Addr: [16]byte{15: 1}}
	if proto == "udp" && !udpBound(port, "/proc/self/net/udp") && udpBound(port, "/proc/self/net/udp6") {
		// A datagram socket connects whether or not anyone listens, so the order must be chosen by
		// looking. A wildcard of IPv6 usually takes IPv4 too, but one that is bound to ::1 does
		// not.
		if fd, err := connect(unix.AF_INET6, kind, v6); err == nil {
			return os.NewFile(uintptr(fd), "udp"), nil
		}
	}
	fd, err := connect(unix.AF_INET, kind, v4)
	if err != nil {
		var err6 error
		if fd, err6 = connect(unix.AF_INET6, kind, v6); err6 != nil {
			return nil, fmt.Errorf("connect to port %d/%s: %w", port, proto, err)
		}
	}
	return os.NewFile(uintptr(fd), proto), nil
}

func connect(domain, kind int, to unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Connect(fd, to)
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		err = connected(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// connected waits for the end of a connect that is under way.
func connected(fd int) error {
	deadline := time.Now().Add(dialTimeout)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left.Milliseconds())+1)
		if err == unix.EINTR || (err == nil && n == 0) {
			continue
		}
		if err != nil {
			return err
		}
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			return err
		}
		if code != 0 {
			return unix.Errno(code)
		}
		return nil
	}
}

// udpBound looks for a socket bound to the port in a table of proc(5): "sl local_address ...", the
// address as hexadecimal HOST:PORT. Where it cannot be read, none is found.
func udpBound(port uint16, table string) bool {
	b, err := os.ReadFile(table)
	if err != nil {
		return false
	}
	want := fmt.Sprintf(":%04X", port)
	for _, line := range strings.Split(string(b), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasSuffix(fields[1], want) {
			return true
		}
	}
	return false
}
