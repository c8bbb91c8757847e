package network

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// message is one netlink message while it is being written (netlink(7)): a header whose length
// is filled in last, a body that the message's type prescribes, then attributes. Numbers are in
// the machine's byte order, everything is padded to four bytes.
type message struct{ b []byte }

// newMessage begins a request of type kind. body is the fixed part, such as an ifinfomsg.
func newMessage(kind, flags uint16, body []byte) *message {
	m := &message{make([]byte, unix.SizeofNlMsghdr, 256)}
	binary.NativeEndian.PutUint16(m.b[4:], kind)
	binary.NativeEndian.PutUint16(m.b[6:], flags|unix.NLM_F_REQUEST)
	m.b = append(m.b, body...)
	m.pad()
	return m
}

// attr adds an attribute: its length with header, its type, its bytes.
func (m *message) attr(kind uint16, data []byte) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(unix.SizeofRtAttr+len(data)))
	m.b = binary.NativeEndian.AppendUint16(m.b, kind)
	m.b = append(m.b, data...)
	m.pad()
}

func (m *message) attr32(kind uint16, v uint32) {
	m.attr(kind, binary.NativeEndian.AppendUint32(nil, v))
}

// attrBE32 is attr32 in network byte order, which nf_tables uses.
func (m *message) attrBE32(kind uint16, v uint32) {
	m.attr(kind, binary.BigEndian.AppendUint32(nil, v))
}

// attrString adds a string with the NUL that the kernel expects.
func (m *message) attrString(kind uint16, s string) { m.attr(kind, append([]byte(s), 0)) }

// nest adds an attribute that holds those which inside adds.
func (m *message) nest(kind uint16, inside func()) {
	at := len(m.b)
	m.attr(kind|unix.NLA_F_NESTED, nil)
	inside()
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

func (m *message) pad() {
	for len(m.b)%unix.NLMSG_ALIGNTO != 0 {
		m.b = append(m.b, 0)
	}
}

// finish fills in the length and the serial number, which the answer repeats.
func (m *message) finish(serial uint32) []byte {
	binary.NativeEndian.PutUint32(m.b[0:], uint32(len(m.b)))
	binary.NativeEndian.PutUint32(m.b[8:], serial)
	return m.b
}

// netlink is a socket to one of the kernel's netlink families, used for one request at a time.
type netlink struct {
	fd     int
	serial uint32
}

func openNetlink(family int) (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	// The kernel answers while it takes the request, so that a wait this long means no answer.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set netlink time-out: %w", err)
	}
	// Without it an error repeats the whole request, which for a batch is more than a buffer
	// should hold. Kernels that refuse it (before 4.3) send the longer answer.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &netlink{fd: fd}, nil
}

func (n *netlink) close() { unix.Close(n.fd) }

// do sends one request and waits for the kernel's answer: nil or an errno.
func (n *netlink) do(m *message) error {
	n.serial++
	binary.NativeEndian.PutUint16(m.b[6:], binary.NativeEndian.Uint16(m.b[6:])|unix.NLM_F_ACK)
	if err := n.send(m.finish(n.serial)); err != nil {
		return err
	}
	return n.acks(n.serial, n.serial)
}

func (n *netlink) send(b []byte) error {
	for {
		err := unix.Sendto(n.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return err
		}
	}
}

// acks waits until every request from serial first to last is answered, and returns the first error.
// Requests are answered in their order.
func (n *netlink) acks(first, last uint32) error {
	// An answer is 36 bytes, or an error with the request, which is not much longer. A buffer of more pages than that takes is
	// got from the kernel page by page, in each start.
	var buf [4 << 10]byte
	for {
		got, _, err := unix.Recvfrom(n.fd, buf[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		for b := buf[:got]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b[0:]))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return fmt.Errorf("netlink answer of %d bytes in %d", size, len(b))
			}
			kind, serial := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
			if kind == unix.NLMSG_ERROR && serial >= first && serial <= last && size >= unix.SizeofNlMsghdr+4 {
				// A negative errno, or 0 for success.
				if errno := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); errno != 0 {
					return unix.Errno(-errno)
				}
				if serial == last {
					return nil
				}
			}
			b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
		}
	}
}
