package builtin

import (
	"context"
	"time"

	"cove/sandbox/network/names"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

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
