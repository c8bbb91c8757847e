package builtin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/network/egress"
	"cove/sandbox/network/names"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	dialTime = 60 * time.Second // as long as a connect(2) of the sandbox's own would be worth waiting for
	dnsPort  = 53
	dnsIdle  = 10 * time.Second // of a connection to the name server (RFC 7766 6.2.3)
	// What comes from outside is read in whole segments, which the stack makes with room for the longest header of TCP: a read
	// of a few bytes more would end in a packet of a few bytes, each time.
	copyBytes = 2 * (mtu - header.IPv6MinimumSize - header.TCPHeaderMaximumSize)

	timeWait   = 2 * time.Second
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

// inner is the sandbox's side of a connection.
type inner struct {
	*gonet.TCPConn
	ep    tcpip.Endpoint
	queue waiter.Queue
}

// reset breaks the connection off (RST).
func (c *inner) reset() { c.ep.Abort() }

// carry copies both ways until both are at their end; half of a connection may close before the other. What breaks one
// side breaks the other.
func (n *Network) carry(in *inner, out *net.TCPConn, to netip.AddrPort, v egress.Verdict, d *network.Decision) {
	var broken sync.Once
	breakBoth := func() {
		broken.Do(func() {
			_ = out.SetLinger(0)
			out.Close()
			in.reset()
		})
	}
	defer context.AfterFunc(n.ctx, breakBoth)()
	defer in.Close()
	var sent, got atomic.Int64
	var both sync.WaitGroup
	var answer *egress.Answer
	if v.Say != egress.Nothing {
		answer = egress.NewAnswer()
	}
	down := make(chan struct{}) // closed when nothing more comes from outside
	downAll := sync.OnceFunc(func() { close(down) })
	both.Go(func() {
		err := n.upward(in, out, to, v, d, answer, &sent, &got)
		if err != nil {
			breakBoth()
			return
		}
		_ = out.CloseWrite()
		if in.goneBefore(down) {
			breakBoth()
		}
	})
	both.Go(func() {
		defer downAll()
		if answer != nil {
			defer answer.End() // upward may wait for it
		}
		if err := downward(in, out, answer, &got); err != nil {
			breakBoth()
			return
		}
		downAll()
		_ = in.CloseWrite()
	})
	both.Wait()
	d.Sent, d.Got = sent.Load(), got.Load()
}

// goneBefore waits for done, and tells whether the sandbox's side was gone before that: reset, or no longer there (keep-alive). Whoever
// has said all and waits for the answer is otherwise only noticed when there is one.
func (c *inner) goneBefore(done <-chan struct{}) bool {
	entry, told := waiter.NewChannelEntry(waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for state := tcp.EndpointState(c.ep.State()); state != tcp.StateClose && state != tcp.StateError; state = tcp.EndpointState(c.ep.State()) {
		select {
		case <-told:
		case <-done:
			return false
		}
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// upward copies what the sandbox sends, once it has said a name that it may mean.
func (n *Network) upward(in *inner, out *net.TCPConn, to netip.AddrPort, v egress.Verdict, d *network.Decision, answer *egress.Answer, sent, got *atomic.Int64) error {
	w := &counted{w: out, n: sent}
	if v.Say != egress.Nothing {
		c := egress.NewClient(in, v.Say, to.Port(), func(name string) egress.Verdict {
			d.Name = shortName(name)
			return n.policy.Said(v.Say, name, "tcp", to.Port())
		})
		c.Switched = func() bool { return !in.goneBefore(answer.Known()) && answer.Switched() }
		for done := false; !done; {
			var data []byte
			var err error
			if data, done, err = c.Next(); len(data) > 0 {
				if _, werr := w.Write(data); werr != nil {
					return werr
				}
			}
			var refused *egress.RefusedError
			switch {
			case errors.As(err, &refused):
				d.Allowed, d.Reason, d.Entry, d.Error = false, refused.Reason, refused.Entry, refused.Detail
				d.Sent, d.Got, d.Took = sent.Load(), got.Load(), time.Since(d.Time)
				n.log(*d) // before the reset
				return err
			case err == io.EOF:
				return nil
			case err != nil:
				return err
			}
		}
		if _, err := w.Write(c.Rest()); err != nil {
			return err
		}
	}
	return in.copyTo(w)
}

func shortName(name string) string { return name[:min(len(name), maxName)] }

// copyTo writes all that the sandbox sends, from the stack's own buffers.
func (c *inner) copyTo(w *counted) error {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for {
		_, err := c.ep.Read(w, tcpip.ReadOptions{})
		if w.err != nil {
			return w.err
		}
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			return nil
		default:
			return errors.New(err.String())
		}
	}
}

// counted counts what passes, and keeps the error of the connection, which the stack would forget.
type counted struct {
	w   io.Writer
	n   *atomic.Int64
	err error
}

func (c *counted) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	if err != nil {
		c.err = err
	}
	return n, err
}

var buffers = sync.Pool{New: func() any { b := make([]byte, copyBytes); return &b }}

// downward copies what comes from outside; answer, which may be nil, is shown the beginning. Without anything to copy it holds no buffer: idle connections cost little.
func downward(in *inner, out *net.TCPConn, answer *egress.Answer, got *atomic.Int64) error {
	raw, err := out.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var buf *[]byte
		var size int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			buf = buffers.Get().(*[]byte)
			for {
				if size, rerr = unix.Read(int(fd), *buf); rerr != unix.EINTR {
					break
				}
			}
			if rerr == unix.EAGAIN {
				buffers.Put(buf)
				buf = nil
				return false
			}
			return true
		})
		if err == nil {
			err = rerr
		}
		if err == nil && size > 0 {
			if answer != nil && !answer.Watch((*buf)[:size]) {
				answer = nil
			}
			_, err = in.Write((*buf)[:size])
			got.Add(int64(size))
		} else if err == nil {
			buffers.Put(buf)
			return nil
		}
		if buf != nil {
			buffers.Put(buf)
		}
		if err != nil {
			return err
		}
	}
}

// acceptNames takes a connection to the name server, of which there are only so many: each holds a question and an answer, and waits here
// while the sandbox is paused. Where there are too many the SYN is lost, and comes again.
func (n *Network) acceptNames(r *tcp.ForwarderRequest) {
	select {
	case n.askers <- struct{}{}:
	default:
		n.pace.charge(refusalTime)
		r.Complete(false)
		return
	}
	defer func() { <-n.askers }()
	if c := n.create(r); c != nil {
		n.serveNames(c)
	}
}

// serveNames answers questions over TCP.
func (n *Network) serveNames(c *inner) {
	defer c.Close()
	defer context.AfterFunc(n.ctx, c.reset)()
	for {
		if c.SetDeadline(time.Now().Add(dnsIdle)) != nil {
			return
		}
		query, err := names.ReadFrame(c)
		if err != nil {
			return
		}
		// Thousands of questions come with one packet.
		n.pace.wait(n.ctx)
		if !n.beginAsking() {
			return
		}
		answer := n.ask(query, true)
		if answer == nil || c.SetDeadline(time.Now().Add(dnsIdle)) != nil {
			return
		}
		if _, err := c.Write(names.Frame(answer)); err != nil {
			return
		}
	}
}

// beginAsking waits until there are not too many questions under way. ask follows.
func (n *Network) beginAsking() bool {
	select {
	case n.asking <- struct{}{}:
		return true
	case <-n.ctx.Done():
		return false
	}
}

func (n *Network) ask(query []byte, tcp bool) []byte {
	defer func() { <-n.asking }()
	return n.names.Answer(n.ctx, query, tcp)
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
