package builtin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/network/egress"
	"cove/sandbox/network/names"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A flow of datagrams ends when neither side has said anything for a while: soon where there was no answer, as
// conntrack has it (nf_conntrack_udp_timeout, nf_conntrack_udp_timeout_stream).
const (
	flowIdle       = 30 * time.Second
	flowIdleStream = 120 * time.Second
)

// acceptUDP begins a flow. It returns false where there is to be none: the stack answers that the port is closed.
func (n *Network) acceptUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	to := addrPort(id.LocalAddress, id.LocalPort)
	isDNS := (to.Addr() == dns4 || to.Addr() == dns6) && to.Port() == dnsPort
	var v egress.Verdict
	if !isDNS {
		if _, v = n.decide("udp", to); !v.OK {
			n.log(n.decision("udp", to, v))
			return false
		}
	}
	if !n.take() {
		return false
	}
	var queue waiter.Queue
	ep, err := r.CreateEndpoint(&queue)
	if err != nil {
		n.release()
		return true
	}
	c := gonet.NewUDPConn(&queue, ep)
	n.conns.Go(func() {
		defer n.release()
		defer c.Close()
		if isDNS {
			n.answerNames(c)
			return
		}
		defer n.policy.Hold(to.Addr(), v.Names)()
		d := n.decision("udp", to, v)
		n.flow(c, to, &d)
		d.Took = time.Since(d.Time)
		n.log(d)
	})
	return true
}

// flow copies both ways until it has been idle.
func (n *Network) flow(in *gonet.UDPConn, to netip.AddrPort, d *network.Decision) {
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		d.Error = bareError(err)
		return
	}
	defer context.AfterFunc(n.ctx, func() { in.Close(); out.Close() })()
	var last atomic.Int64
	var answered atomic.Bool
	touch := func() { last.Store(time.Now().UnixNano()) }
	touch()
	down := make(chan struct{})
	go func() {
		defer close(down)
		defer in.Close()
		buf := make([]byte, maxPacket)
		for {
			size, err := out.Read(buf)
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue // for an earlier one: the next may be taken
			}
			if err != nil {
				return
			}
			answered.Store(true)
			touch()
			d.Got += int64(size)
			if _, err := in.Write(buf[:size]); err != nil {
				return
			}
		}
	}()
	n.sendFlow(in, out, d, &last, &answered, touch)
	out.Close()
	<-down
}

func (n *Network) sendFlow(in *gonet.UDPConn, out *net.UDPConn, d *network.Decision, last *atomic.Int64, answered *atomic.Bool, touch func()) {
	buf := make([]byte, maxPacket)
	for {
		idle := flowIdle
		if answered.Load() {
			idle = flowIdleStream
		}
		until := time.Unix(0, last.Load()).Add(idle)
		if time.Now().After(until) || in.SetReadDeadline(until) != nil {
			return
		}
		size, err := in.Read(buf)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			continue
		}
		if err != nil {
			return
		}
		touch()
		d.Sent += int64(size)
		_, _ = out.Write(buf[:size]) // ECONNREFUSED tells of an earlier one
	}
}

// answerNames answers the questions of one socket inside, side by side.
func (n *Network) answerNames(c *gonet.UDPConn) {
	defer context.AfterFunc(n.ctx, func() { c.Close() })()
	buf := make([]byte, names.MaxMessage)
	for {
		if c.SetReadDeadline(time.Now().Add(flowIdle)) != nil {
			return
		}
		size, err := c.Read(buf)
		if err != nil {
			return
		}
		query := append([]byte(nil), buf[:size]...)
		if !n.beginAsking() {
			return
		}
		n.conns.Go(func() {
			if answer := n.ask(query, false); answer != nil {
				_, _ = c.Write(answer)
			}
		})
	}
}
