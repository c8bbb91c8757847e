package outside

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// MeansHost tells whether this machine itself takes what is sent to an address: its own, those that a route makes its own (a prefix
// on the loopback interface, "ip route add local"), a broadcast of one of its networks. It asks the kernel, which
// knows of what has come since Read. Where that does not answer it is so.
func MeansHost(a netip.Addr) bool {
	kind, err := routeKind(a.Unmap().WithZone(""))
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return false // no route, or one that refuses (ip-route(8): unreachable, prohibit, blackhole)
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return false // a kernel without IPv6
	case err != nil:
		return true
	}
	return kind != unix.RTN_UNICAST
}

// routeKind asks for the type of the route to an address (rtnetlink(7), RTM_GETROUTE).
func routeKind(a netip.Addr) (byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// The kernel answers while it takes the request.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	to := a.AsSlice()
	m := make([]byte, unix.SizeofNlMsghdr+unix.SizeofRtMsg+unix.SizeofRtAttr, 64)
	m = append(m, to...)
	order := binary.NativeEndian
	order.PutUint32(m, uint32(len(m)))
	order.PutUint16(m[4:], unix.RTM_GETROUTE)
	order.PutUint16(m[6:], unix.NLM_F_REQUEST)
	m[unix.SizeofNlMsghdr] = unix.AF_INET
	if a.Is6() {
		m[unix.SizeofNlMsghdr] = unix.AF_INET6
	}
	m[unix.SizeofNlMsghdr+1] = byte(a.BitLen())
	attr := m[unix.SizeofNlMsghdr+unix.SizeofRtMsg:]
	order.PutUint16(attr, uint16(unix.SizeofRtAttr+len(to)))
	order.PutUint16(attr[2:], unix.RTA_DST)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(fd, answer, 0)
	}
	if err != nil {
		return 0, os.NewSyscallError("recvfrom", err)
	}
	return kindOf(answer[:n])
}

// kindOf reads the answer: an rtmsg, or an error's number.
func kindOf(answer []byte) (byte, error) {
	const typeAt = unix.SizeofNlMsghdr + 7 // rtm_type
	if len(answer) < unix.SizeofNlMsghdr+unix.SizeofRtMsg {
		return 0, errors.New("a short answer")
	}
	switch binary.NativeEndian.Uint16(answer[4:]) {
	case unix.NLMSG_ERROR:
		return 0, unix.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])))
	case unix.RTM_NEWROUTE:
		return answer[typeAt], nil
	}
	return 0, errors.New("an answer to something else")
}
