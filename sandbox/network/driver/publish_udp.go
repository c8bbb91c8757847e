package driver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	maxFlows    = 512              // clients of one port at a time; each costs a descriptor
	flowQueue   = 64               // datagrams that wait while a flow is being dialled
	flowIdle    = 60 * time.Second // as long as conntrack keeps a flow, within a factor of two
	maxDatagram = 65535
)

// flows carries the datagrams of one published port: a socket inside for each client, so that the
// server inside can tell clients apart and answers find their way. It is used by one goroutine, but
// for what mu guards.
type flows struct {
	outside *net.UDPConn
	port    uint16
	dial    Dialer
	idle    time.Duration
	slots   chan struct{} // of all ports
	mu      sync.Mutex
	byPeer  map[netip.AddrPort]*flow
	wg      sync.WaitGroup
}

type flow struct{ queue chan []byte }

func newFlows(outside *net.UDPConn, port uint16, dial Dialer, slots chan struct{}) *flows {
	return &flows{outside: outside, port: port, dial: dial, idle: flowIdle, slots: slots, byPeer: map[netip.AddrPort]*flow{}}
}

// serve returns when the outer socket is closed and all flows have ended.
func (fs *flows) serve(ctx context.Context) {
	defer fs.wg.Wait()
	buf := make([]byte, maxDatagram)
	for {
		n, peer, err := fs.outside.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error for what was sent to some client
		}
		f := fs.flow(ctx, peer)
		if f == nil {
			continue
		}
		// UDP may lose what comes faster than it is taken.
		select {
		case f.queue <- append([]byte(nil), buf[:n]...):
		default:
		}
	}
}

// flow finds the peer's flow or begins one; nil where there are too many.
func (fs *flows) flow(ctx context.Context, peer netip.AddrPort) *flow {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.byPeer[peer]; f != nil {
		return f
	}
	if len(fs.byPeer) >= maxFlows {
		return nil
	}
	select {
	case fs.slots <- struct{}{}:
	default:
		return nil
	}
	f := &flow{queue: make(chan []byte, flowQueue)}
	fs.byPeer[peer] = f
	fs.wg.Go(func() {
		defer func() {
			<-fs.slots
			fs.mu.Lock()
			delete(fs.byPeer, peer)
			fs.mu.Unlock()
		}()
		fs.carry(ctx, f, peer)
	})
	return f
}

// carry copies between one client and its socket inside until neither said anything for a while.
func (fs *flows) carry(ctx context.Context, f *flow, peer netip.AddrPort) {
	inside, err := dialInside("udp", fs.port, fs.dial)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { inside.Close() })()
	answers := make(chan struct{}) // each answer, and closed at the end
	go func() {
		defer close(answers)
		fs.answer(ctx, inside, peer, answers)
	}()
	defer func() {
		inside.Close()
		for range answers {
		}
	}()
	idle := time.NewTimer(fs.idle)
	defer idle.Stop()
	for {
		select {
		case p := <-f.queue:
			_, _ = inside.Write(p) // ECONNREFUSED tells of an earlier one
		case _, ok := <-answers:
			if !ok {
				return
			}
		case <-idle.C:
			return
		case <-ctx.Done():
			return
		}
		idle.Reset(fs.idle)
	}
}

// answer copies what comes from inside to the client.
func (fs *flows) answer(ctx context.Context, inside net.Conn, peer netip.AddrPort, answers chan<- struct{}) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := inside.Read(buf)
		if errors.Is(err, syscall.ECONNREFUSED) && ctx.Err() == nil {
			continue // nobody listened when it was sent; somebody may now
		}
		if err != nil {
			return
		}
		_, _ = fs.outside.WriteToUDPAddrPort(buf[:n], peer)
		answers <- struct{}{}
	}
}
