package builtin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"cove/sandbox/network/egress"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	dialTime = 60 * time.Second // as long as a connect(2) of the sandbox's own would be worth waiting for
	dnsPort  = 53
	dnsIdle  = 10 * time.Second // of a connection to the name server (RFC 7766 6.2.3)
	// What comes from outside is read in whole segments, which the stack makes with room for the longest header of TCP: a read
	// of a few bytes more would end in a packet of a few bytes, each time.
	copyBytes = 2 * (mtu - header.IPv6MinimumSize - header.TCPHeaderMaximumSize)

	// How long the stack keeps a connection that it has closed first. Meanwhile it takes no other one from the same port inside, for which the
	// kernel there has no reason to wait: the SYN would be lost, and come again after a second. Between the two nothing overtakes anything,
	// so no segment of the old connection can come into the new one (RFC 9293 3.6.1); who repeats a FIN gets a reset.
	timeWait   = time.Millisecond
	lingerTime = 10 * time.Second
	// The kernel inside answers for whoever is there; where nobody is any more it says so, and the connection ends.
	keepIdle  = 60 * time.Second
	keepEvery = 15 * time.Second
	maxName   = 253 // of what a client says, for the log
)

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(addr, port)
}

// incomingTCP takes a packet that belongs to no connection. A connection that is refused costs no goroutine and no memory, for whoever
// is inside may ask for as many as they like; the stack answers with a reset.
func (n *Network) incomingTCP(accept func(stack.TransportEndpointID, *stack.PacketBuffer) bool) func(stack.TransportEndpointID, *stack.PacketBuffer) bool {
	return func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		if header.TCP(pkt.TransportHeader().Slice()).Flags()&(header.TCPFlagSyn|header.TCPFlagAck) != header.TCPFlagSyn {
			n.pace.charge(strayTime)
			return false
		}
		to := addrPort(id.LocalAddress, id.LocalPort)
		if isNames(to) {
			return accept(id, pkt)
		}
		if _, v := n.decide("tcp", to); !v.OK {
			n.log(n.decision("tcp", to, v)) // before the answer: it is told to who asks when the answer is there
			return false
		}
		return accept(id, pkt)
	}
}

// isNames tells where the name server is.
func isNames(to netip.AddrPort) bool {
	return (to.Addr() == dns4 || to.Addr() == dns6) && to.Port() == dnsPort
}

// acceptTCP carries out one connection of the sandbox's. It runs on a goroutine of its own.
func (n *Network) acceptTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	to := addrPort(id.LocalAddress, id.LocalPort)
	if !n.take() {
		n.pace.charge(refusalTime)
		r.Complete(true)
		return
	}
	defer n.release()
	if isNames(to) {
		n.acceptNames(r)
		return
	}
	target, v := n.decide("tcp", to) // once more: incomingTCP has held nothing
	d := n.decision("tcp", to, v)
	if !v.OK {
		n.log(d)
		r.Complete(true)
		return
	}
	defer n.policy.Hold(to.Addr(), v.Name)()
	out, err := n.dial(target, v.Name)
	if err != nil {
		d.Error = bareError(err)
		n.log(d)
		r.Complete(true)
		return
	}
	defer out.Close()
	in := n.create(r)
	if in == nil {
		return
	}
	n.carry(in, out, to, v, &d)
	if d.Allowed { // else upward has
		d.Took = time.Since(d.Time)
		n.log(d)
	}
}

// decide asks the policy, and says where a connection really leads: the host's loopback has a name and an address inside.
func (n *Network) decide(proto string, to netip.AddrPort) (netip.AddrPort, egress.Verdict) {
	if to.Addr() == host4 || to.Addr() == host6 {
		for _, p := range n.opts.Egress.HostPorts {
			if uint16(p) == to.Port() && proto == "tcp" {
				return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port()), egress.Verdict{OK: true, Entry: "host_ports"}
			}
		}
		return to, egress.Verdict{Reason: egress.Closed}
	}
	return to, n.policy.Connect(proto, to)
}

// dial connects to an address that may be connected to; name is what a proxy is told in its place, or "". A proxy asks for the name's
// address itself, and it may be another there.
func (n *Network) dial(to netip.AddrPort, name string) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	defer cancel()
	proxy, err := n.proxyFor(to, name)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		return connect(ctx, proxy, authority(to, name))
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil && to.Addr().IsLoopback() && to.Addr().Is4() {
		// A server of the host's may listen on ::1 alone.
		if c6, err6 := d.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.IPv6Loopback(), to.Port()).String()); err6 == nil {
			c, err = c6, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// create ends the sandbox's handshake. The connection ends with the network.
func (n *Network) create(r *tcp.ForwarderRequest) *inner {
	c := &inner{}
	ep, err := r.CreateEndpoint(&c.queue)
	r.Complete(err != nil)
	if err != nil {
		return nil
	}
	c.ep, c.TCPConn = ep, gonet.NewTCPConn(&c.queue, ep)
	idle, every := tcpip.KeepaliveIdleOption(n.keepIdle), tcpip.KeepaliveIntervalOption(n.keepEvery)
	if ep.SetSockOpt(&idle) == nil && ep.SetSockOpt(&every) == nil {
		ep.SocketOptions().SetKeepAlive(true)
	}
	if most := bufferOf(len(n.slots)); most > 0 {
		ep.SocketOptions().SetSendBufferSize(most, true)
		ep.SocketOptions().SetReceiveBufferSize(most, true)
	}
	return c
}

// bufferOf bounds each of a connection's two buffers, by how many connections there are; 0 is as the stack likes. Peers that do not
// read fill them, in the memory of this process, which no limit of the sandbox's holds.
func bufferOf(connections int) int64 {
	switch {
	case connections <= 64:
		return 0
	case connections <= 512:
		return 256 << 10
	case connections <= 4096:
		return 64 << 10
	}
	return 32 << 10
}

// bareError is the cause without the addresses, which the log has anyway.
func bareError(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer"
	}
	return err.Error()
}
