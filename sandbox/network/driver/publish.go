package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"cove/sandbox/network/builtin"
	"cove/sandbox/spec"
)

// Dialer gives a socket that is connected to a port inside the sandbox, made by its init.
type Dialer func(proto string, port uint16) (*os.File, error)

// maxConnections bounds the connections that one published port carries at a time. More wait in the listener's backlog.
const maxConnections = 1024

// Published is a set of ports that are listened on. Its methods may be called at the same time.
type Published struct {
	ctx    context.Context
	cancel context.CancelFunc
	dial   Dialer
	wg     sync.WaitGroup
	// Of all ports together: each connection, and each flow of datagrams, costs descriptors, of which this process has only so many.
	slots chan struct{}
	flows chan struct{}

	mu     sync.Mutex
	open   []*opened
	closed bool
}

// opened is one port: its end is that of every connection through it.
type opened struct {
	port   spec.Port // with the port that was chosen, where any was wanted
	addr   net.Addr
	closer io.Closer
	cancel context.CancelFunc
}

// Publish listens on each port and carries what comes to a socket of dial's. All ports are bound when it
// returns; on error none is. It ends with Close or with ctx.
func Publish(ctx context.Context, ports []spec.Port, dial func(proto string, port uint16) (*os.File, error)) (*Published, error) {
	connections, flows := builtin.Published()
	return publishBounded(ctx, ports, dial, connections, flows)
}

func publishBounded(ctx context.Context, ports []spec.Port, dial Dialer, connections, flows int) (*Published, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &Published{ctx: ctx, cancel: cancel, dial: dial, slots: make(chan struct{}, connections), flows: make(chan struct{}, flows)}
	for _, port := range ports {
		if _, err := p.Add(port); err != nil {
			p.Close()
			return nil, err
		}
	}
	context.AfterFunc(ctx, p.closeAll)
	return p, nil
}

// Add listens on one more port, and returns it with the host's port that was chosen where any was wanted (0).
func (p *Published) Add(port spec.Port) (spec.Port, error) {
	if !p.begin() {
		return port, net.ErrClosed
	}
	defer p.wg.Done()
	ctx, cancel := context.WithCancel(p.ctx)
	o, err := p.listen(ctx, port)
	if err != nil {
		cancel()
		return port, err
	}
	o.cancel = cancel
	p.mu.Lock()
	p.open = append(p.open, o)
	p.mu.Unlock()
	if p.ctx.Err() != nil { // Close may not have seen it
		o.end()
	}
	return o.port, nil
}

// begin counts what Close waits for; false where it may be waiting already.
func (p *Published) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.ctx.Err() != nil {
		return false
	}
	p.wg.Add(1)
	return true
}

// Remove ends one port, by its host's address and port, and every connection through it. It reports whether there was one.
func (p *Published) Remove(port spec.Port) bool {
	p.mu.Lock()
	i := slices.IndexFunc(p.open, func(o *opened) bool {
		return o.port.HostIP == port.HostIP && o.port.HostPort == port.HostPort && o.port.Proto == port.Proto
	})
	if i < 0 {
		p.mu.Unlock()
		return false
	}
	o := p.open[i]
	p.open = slices.Delete(p.open, i, i+1)
	p.mu.Unlock()
	o.end()
	return true
}

// Ports are those that are listened on, in the order in which they came.
func (p *Published) Ports() []spec.Port {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []spec.Port
	for _, o := range p.open {
		out = append(out, o.port)
	}
	return out
}

// Addrs are the addresses that are listened on, in the order of the ports.
func (p *Published) Addrs() []net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []net.Addr
	for _, o := range p.open {
		out = append(out, o.addr)
	}
	return out
}

// Close ends listening and every connection, and waits for that.
func (p *Published) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.closeAll()
	p.wg.Wait()
	return nil
}

func (p *Published) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.open {
		o.end()
	}
}

func (o *opened) end() {
	o.cancel()
	_ = o.closer.Close()
}

// listen binds one port and serves it.
func (p *Published) listen(ctx context.Context, port spec.Port) (*opened, error) {
	if port.HostIP == "" {
		port.HostIP = "127.0.0.1"
	}
	if port.Proto == "" {
		port.Proto = "tcp"
	}
	ip, err := netip.ParseAddr(port.HostIP)
	if err != nil {
		return nil, fmt.Errorf("publish port %d: address %q: not an IP address", port.ContainerPort, port.HostIP)
	}
	addr := netip.AddrPortFrom(ip, port.HostPort)
	// An address of one family means that family alone; [::] does not take IPv4 along.
	family := "4"
	if ip.Is6() && !ip.Is4In6() {
		family = "6"
	}
	switch port.Proto {
	case "tcp":
		l, err := net.Listen("tcp"+family, addr.String())
		if err != nil {
			return nil, bindError(addr, "tcp", err)
		}
		port.HostPort = uint16(l.Addr().(*net.TCPAddr).Port)
		p.wg.Go(func() { p.serveTCP(ctx, l, port.ContainerPort, p.dial) })
		return &opened{port: port, addr: l.Addr(), closer: l}, nil
	case "udp":
		c, err := net.ListenPacket("udp"+family, addr.String())
		if err != nil {
			return nil, bindError(addr, "udp", err)
		}
		port.HostPort = uint16(c.LocalAddr().(*net.UDPAddr).Port)
		p.wg.Go(func() { newFlows(c.(*net.UDPConn), port.ContainerPort, p.dial, p.flows).serve(ctx) })
		return &opened{port: port, addr: c.LocalAddr(), closer: c}, nil
	}
	return nil, fmt.Errorf("publish port %d: unknown protocol %q", port.ContainerPort, port.Proto)
}

// bindError says what to do about the errors that users meet.
func bindError(addr netip.AddrPort, proto string, err error) error {
	var errno syscall.Errno
	_ = errors.As(err, &errno)
	advice := ""
	switch errno {
	case syscall.EADDRINUSE:
		advice = " (another program, or another sandbox, listens there: end it or publish another host port)"
	case syscall.EACCES:
		advice = " (a port below net.ipv4.ip_unprivileged_port_start: publish a higher host port)"
	case syscall.EADDRNOTAVAIL:
		advice = " (this machine does not have that address)"
	case 0:
		return fmt.Errorf("publish %s/%s: %w", addr, proto, err)
	}
	return fmt.Errorf("publish %s/%s: %w%s", addr, proto, errno, advice)
}

func (p *Published) serveTCP(ctx context.Context, l net.Listener, port uint16, dial Dialer) {
	// One port leaves some to the others, where there are few.
	own := make(chan struct{}, min(maxConnections, max(cap(p.slots)*3/4, 1)))
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, or a client that was gone before it was accepted.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		// Behind Accept: a port that nobody uses holds no slot.
		if !take(ctx, own) {
			c.Close()
			return
		}
		if !take(ctx, p.slots) {
			c.Close()
			return
		}
		p.wg.Go(func() {
			defer func() { <-p.slots; <-own }()
			carryTCP(ctx, c.(*net.TCPConn), port, dial)
		})
	}
}

// take waits for a slot; false at the end.
func take(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// carryTCP copies both ways until both are at their end. Where nobody listens inside, the client is
// reset, as it would be by a port that is closed.
func carryTCP(ctx context.Context, client *net.TCPConn, port uint16, dial Dialer) {
	defer client.Close()
	inside, err := dialTCP(port, dial)
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	defer inside.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); inside.Close() })()
	var both sync.WaitGroup
	both.Go(func() { pipe(inside, client) })
	both.Go(func() { pipe(client, inside) })
	both.Wait()
}

// pipe copies until src ends, and passes the end on: half of a connection may close before the other.
// A broken connection breaks the other too.
func pipe(dst, src *net.TCPConn) {
	if _, err := io.Copy(dst, src); err != nil {
		_ = dst.SetLinger(0)
		_ = src.SetLinger(0)
		dst.Close()
		src.Close()
		return
	}
	_ = dst.CloseWrite()
	_ = src.CloseRead()
}

func dialTCP(port uint16, dial Dialer) (*net.TCPConn, error) {
	c, err := dialInside("tcp", port, dial)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, errors.New("the sandbox's socket is not TCP")
	}
	return tcp, nil
}

func dialInside(proto string, port uint16, dial Dialer) (net.Conn, error) {
	f, err := dial(proto, port)
	if err != nil {
		return nil, err
	}
	defer f.Close() // FileConn duplicates it
	return net.FileConn(f)
}
