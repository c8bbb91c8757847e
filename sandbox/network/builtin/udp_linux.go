package builtin

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/network/egress"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A flow of datagrams ends when neither side has said anything for a while: soon where there was no answer, as
// conntrack has it (nf_conntrack_udp_timeout, nf_conntrack_udp_timeout_stream).
const (
	flowIdle       = 30 * time.Second
	flowIdleStream = 120 * time.Second
	// maxQuestion is more than a question comes to, with all that EDNS may add (RFC 8467); each socket that asks takes it.
	maxQuestion = 2048
)

// acceptUDP begins a flow. It returns false where there is to be none: the stack answers that the port is closed.
func (n *Network) acceptUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	to := addrPort(id.LocalAddress, id.LocalPort)
	isDNS := isNames(to)
	var v egress.Verdict
	if !isDNS {
		if _, v = n.decide("udp", to); !v.OK {
			n.log(n.decision("udp", to, v))
			return false
		}
	}
	if !n.takeFlow() {
		n.pace.charge(refusalTime)
		return false
	}
	c := &flow{}
	ep, err := r.CreateEndpoint(&c.queue)
	if err != nil {
		n.releaseFlow()
		return true
	}
	c.ep, c.UDPConn = ep, gonet.NewUDPConn(&c.queue, ep)
	go func() {
		defer n.releaseFlow()
		defer c.Close()
		if isDNS {
			n.answerNames(c.UDPConn)
			return
		}
		defer n.policy.Hold(to.Addr(), v.Name)()
		d := n.decision("udp", to, v)
		n.carryFlow(c, to, &d)
		d.Took = time.Since(d.Time)
		n.log(d)
	}()
	return true
}

// takeFlow takes a slot of both kinds: datagrams from ever new ports must leave some for TCP.
func (n *Network) takeFlow() bool {
	select {
	case n.flows <- struct{}{}:
	default:
		return false
	}
	if !n.take() {
		<-n.flows
		return false
	}
	return true
}

func (n *Network) releaseFlow() {
	n.release()
	<-n.flows
}

// flow is the sandbox's side of one.
type flow struct {
	*gonet.UDPConn
	ep    tcpip.Endpoint
	queue waiter.Queue
}

// carryFlow copies both ways until it has been idle.
func (n *Network) carryFlow(in *flow, to netip.AddrPort, d *network.Decision) {
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		d.Error = bareError(err)
		return
	}
	ended := make(chan struct{}) // in either direction, or with the network
	end := sync.OnceFunc(func() { close(ended); out.Close() })
	defer context.AfterFunc(n.ctx, end)()
	var last atomic.Int64
	var answered atomic.Bool
	touch := func() { last.Store(time.Now().UnixNano()) }
	touch()
	var down sync.WaitGroup
	down.Go(func() {
		defer end()
		receiveFlow(in, out, d, func() { answered.Store(true); touch() })
	})
	idle := func() time.Duration {
		most := flowIdle
		if answered.Load() {
			most = flowIdleStream
		}
		return time.Until(time.Unix(0, last.Load()).Add(most))
	}
	sendFlow(in, out, d, ended, idle, touch)
	end()
	down.Wait()
}

// receiveFlow copies what comes from outside.
func receiveFlow(in *flow, out *net.UDPConn, d *network.Decision, touch func()) {
	raw, err := out.SyscallConn()
	if err != nil {
		return
	}
	for {
		buf, size, err := readSome(raw)
		switch err {
		case nil:
			touch()
			d.Got += int64(size)
			_, err = in.Write((*buf)[:size])
			buffers.Put(buf)
		case unix.ECONNREFUSED: // for an earlier one: the next may be taken
			continue
		}
		if err != nil {
			return
		}
	}
}

// sendFlow copies what the sandbox sends, until the flow has ended or been idle.
func sendFlow(in *flow, out *net.UDPConn, d *network.Decision, ended <-chan struct{}, idle func() time.Duration, touch func()) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	in.queue.EventRegister(&entry)
	defer in.queue.EventUnregister(&entry)
	for {
		buf := buffers.Get().(*[]byte)
		w := tcpip.SliceWriter(*buf)
		got, err := in.ep.Read(&w, tcpip.ReadOptions{})
		if err == nil {
			touch()
			d.Sent += int64(got.Count)
			_, _ = out.Write((*buf)[:got.Count]) // ECONNREFUSED tells of an earlier one
		}
		buffers.Put(buf)
		switch err.(type) {
		case nil:
			continue
		case *tcpip.ErrWouldBlock:
		default:
			return
		}
		left := idle()
		if left <= 0 {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-ready:
		case <-timer.C:
		case <-ended:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// answerNames answers the questions of one socket inside, side by side.
func (n *Network) answerNames(c *gonet.UDPConn) {
	defer context.AfterFunc(n.ctx, func() { c.Close() })()
	q := questions{conn: c}
	buf := make([]byte, maxQuestion)
	for q.await() == nil {
		size, err := c.Read(buf)
		if err != nil {
			return
		}
		if n.pace.owed() > 0 {
			continue // it was in the queue before the interface was left alone
		}
		query := append([]byte(nil), buf[:size]...)
		if !n.beginAsking() {
			return
		}
		q.asked()
		n.conns.Go(func() { // this flow is counted: the count is not at its end yet
			defer q.answered()
			if answer := n.ask(query, false); answer != nil {
				_, _ = c.Write(answer)
			}
		})
	}
}

// questions are those of one socket inside that are still to be answered. A socket for each question is usual, and each is a flow, of which there
// are only so many: it ends soon after its last answer. Where the socket asks again later, another begins.
type questions struct {
	conn *gonet.UDPConn
	mu   sync.Mutex
	open int
}

// flowAnswered is how long the next question is waited for when all are answered.
const flowAnswered = 250 * time.Millisecond

// await bounds the wait for the next question, the first one among them.
func (q *questions) await() error { return q.change(0) }

func (q *questions) asked()    { _ = q.change(1) }
func (q *questions) answered() { _ = q.change(-1) }

func (q *questions) change(by int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open += by
	wait := flowAnswered
	if q.open > 0 {
		wait = flowIdle
	}
	return q.conn.SetReadDeadline(time.Now().Add(wait))
}
