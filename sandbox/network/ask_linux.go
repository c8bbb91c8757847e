package network

import (
	"errors"
	"fmt"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// localhostQuery asks for the address of "localhost" (RFC 1035 4.1), which a name server answers from its own knowledge
// (RFC 6761 6.3).
const localhostQuery = "\x2a\x2a\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01"

// AskForLocalhost asks a name server for what it knows without asking anybody, to see that packets go there and back.
func AskForLocalhost(server spec.IP) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: dnsPort, Addr: [4]byte(server)}); err != nil {
		return fmt.Errorf("connect to name server %s: %w", server, err)
	}
	answer := make([]byte, 512)
	var n int
	for range 5 { // a datagram may be lost, as on every network, and is where the machine is slow
		if _, err = unix.Write(fd, []byte(localhostQuery)); err == nil {
			n, err = unix.Read(fd, answer)
		}
		if err != unix.EAGAIN {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("ask name server %s: %w", server, err)
	}
	if n < len(localhostQuery) || string(answer[:2]) != localhostQuery[:2] {
		return errors.New("the name server answered something else")
	}
	return nil
}
