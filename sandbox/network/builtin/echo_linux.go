package builtin

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// echoTime is how long an answer is waited for; ping(8) itself waits ten seconds at most.
const echoTime = 10 * time.Second

// echo takes the sandbox's ICMP: an echo request goes out by a ping socket (icmp(7)), where this machine lets its user
// have one and the policy lets the address be reached. An answer is the other's or there is none; what may not go
// out is answered as a router would that has been told to keep it in (RFC 1812 5.2.7.1, RFC 4443 3.1).
func (n *Network) echo(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	ip := pkt.Network()
	from, to := addrPort(ip.SourceAddress(), 0).Addr(), addrPort(ip.DestinationAddress(), 0).Addr()
	message := append(append([]byte(nil), pkt.TransportHeader().Slice()...), pkt.Data().AsRange().ToSlice()...)
	if len(message) < 8 || message[0] != echoRequest(to) {
		return true // nothing that the stack would have to answer
	}
	packet := append(append([]byte(nil), pkt.NetworkHeader().Slice()...), message...)
	if to == host4 || to == dns4 || to == host6 || to == dns6 {
		answer := append([]byte(nil), message...)
		answer[0] = echoReply(to)
		n.sendICMP(to, from, answer) // that is us
		return true
	}
	v := n.policy.Reachable(to)
	d := n.decision("icmp", netip.AddrPortFrom(to, 0), v)
	if !v.OK {
		n.log(d)
		n.unreachable(from, to, packet)
		return true
	}
	if !n.begin() {
		return true
	}
	select {
	case n.echoes <- struct{}{}:
	default:
		n.pace.charge(refusalTime)
		n.end()
		return true
	}
	go func() {
		defer n.end()
		defer func() { <-n.echoes }()
		answer, err := ping(n.ctx, to, message)
		if err != nil {
			d.Error = bareError(err)
			n.unreachable(from, to, packet)
		} else if answer != nil {
			d.Got = int64(len(answer))
			n.sendICMP(to, from, answer)
		}
		d.Sent, d.Took = int64(len(message)), time.Since(d.Time)
		n.log(d)
	}()
	return true
}

func echoRequest(to netip.Addr) byte {
	if to.Is4() {
		return byte(header.ICMPv4Echo)
	}
	return byte(header.ICMPv6EchoRequest)
}

func echoReply(to netip.Addr) byte {
	if to.Is4() {
		return byte(header.ICMPv4EchoReply)
	}
	return byte(header.ICMPv6EchoReply)
}

// ping sends an echo request and returns the answer to it, under the identifier of the request; nil where none came.
func ping(ctx context.Context, to netip.Addr, message []byte) ([]byte, error) {
	family, proto, reply := unix.AF_INET, unix.IPPROTO_ICMP, echoReply(to)
	if to.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close()
	if err := unix.Connect(fd, sockaddr(to)); err != nil {
		return nil, err
	}
	if err := f.SetReadDeadline(time.Now().Add(echoTime)); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { f.Close() })()
	if _, err := f.Write(message); err != nil {
		return nil, err
	}
	for buf := make([]byte, maxPacket); ; {
		size, err := f.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		// The kernel has given the request an identifier of its own; the sequence number is the sandbox's.
		if size >= 8 && buf[0] == reply && string(buf[6:8]) == string(message[6:8]) {
			copy(buf[4:6], message[4:6])
			return buf[:size], nil
		}
	}
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// unreachable says that packet, which from has sent to to, may not go where it was to.
func (n *Network) unreachable(from, to netip.Addr, packet []byte) {
	if from.Is4() {
		const administratively = 13 // communication administratively prohibited
		packet = packet[:min(len(packet), header.IPv4MinimumSize+8+40)]
		n.sendICMP(to, from, append([]byte{byte(header.ICMPv4DstUnreachable), administratively, 0, 0, 0, 0, 0, 0}, packet...))
		return
	}
	const administratively = 1
	packet = packet[:min(len(packet), header.IPv6MinimumMTU-header.IPv6MinimumSize-8)]
	n.sendICMP(to, from, append([]byte{byte(header.ICMPv6DstUnreachable), administratively, 0, 0, 0, 0, 0, 0}, packet...))
}

// sendICMP puts a message with its header and checksum into the sandbox.
func (n *Network) sendICMP(from, to netip.Addr, message []byte) {
	binary.BigEndian.PutUint16(message[2:], 0)
	n.mu.Lock()
	l := n.link
	n.mu.Unlock()
	if l == nil {
		return
	}
	if to.Is4() {
		binary.BigEndian.PutUint16(message[2:], ^checksum.Checksum(message, 0))
		ip := header.IPv4(make([]byte, header.IPv4MinimumSize))
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip) + len(message)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
			SrcAddr: address(from), DstAddr: address(to)})
		ip.SetChecksum(^ip.CalculateChecksum())
		l.send(append(ip, message...))
		return
	}
	sum := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, address(from), address(to), uint16(len(message)))
	binary.BigEndian.PutUint16(message[2:], ^checksum.Checksum(message, sum))
	ip := header.IPv6(make([]byte, header.IPv6MinimumSize))
	ip.Encode(&header.IPv6Fields{PayloadLength: uint16(len(message)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 64,
		SrcAddr: address(from), DstAddr: address(to)})
	l.send(append(ip, message...))
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// Pingable tells whether this machine's user may have ping sockets at all, for `cove doctor`.
func Pingable() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err == nil {
		unix.Close(fd)
	}
	return err
}
