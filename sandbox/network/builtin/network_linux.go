package builtin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/network/egress"
	"cove/sandbox/network/names"
	"cove/sandbox/network/outside"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const mtu = network.BuiltinMTU

// The addresses inside, of which network.BuiltinLink has the sandbox's own and the name server's.
var (
	guest4 = netip.MustParsePrefix("10.0.2.100/24")
	host4  = netip.MustParseAddr("10.0.2.2")
	dns4   = netip.MustParseAddr("10.0.2.3")
	guest6 = netip.MustParsePrefix("fd00::100/64")
	host6  = netip.MustParseAddr("fd00::2")
	dns6   = netip.MustParseAddr("fd00::3")
)

// Options say what the network is to be.
type Options struct {
	Egress spec.Egress
	// ResolvConf is the host's resolv.conf(5); "" is /etc/resolv.conf.
	ResolvConf string
	// Proxy is asked for every connection that is made outside; nil: all are made directly.
	Proxy Proxy
	// Log takes every decision; it may be nil. It is called from many goroutines.
	Log func(network.Decision)
}

// Network is one sandbox's network.
type Network struct {
	opts   Options
	policy *egress.Policy
	names  *names.Server
	host   *hostAddresses

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
	slots  chan struct{} // connections, of every kind
	flows  chan struct{} // of datagrams
	asking chan struct{} // questions to name servers
	askers chan struct{} // connections to ours
	echoes chan struct{}
	pace   pacer

	keepIdle, keepEvery time.Duration

	mu     sync.Mutex // held for a moment only: whatever ends is waited for without it
	stack  *stack.Stack
	link   *link
	ending bool           // nothing begins any more
	conns  sync.WaitGroup // all that has begun
}

const (
	// maxConnections bounds what a sandbox can take of this process's descriptors; each connection is one. Where the process
	// may have fewer, spareFiles of them stay for everything else.
	maxConnections = 16384
	spareFiles     = 1024
	// maxPublished bounds what comes in by published ports. A socket to either side, and a pipe for each direction, which splice(2) takes.
	maxPublished     = 4096
	filesOfPublished = 6
	maxFlows         = 4096
	maxAsking        = 256
	maxAskers        = maxAsking
	maxEchoes        = 64
	// maxDialing bounds the connections that are being made: beyond it a SYN is lost, and comes again.
	maxDialing = 2048
)

// New makes a network that carries nothing yet: Link says what init is to make, and Serve takes what it has made.
func New(o Options) (*Network, error) {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	n := &Network{opts: o, host: &hostAddresses{}, done: make(chan struct{}), slots: make(chan struct{}, connections()),
		flows: make(chan struct{}, maxFlows), keepIdle: keepIdle, keepEvery: keepEvery, asking: make(chan struct{}, maxAsking), askers: make(chan struct{}, maxAskers), echoes: make(chan struct{}, maxEchoes)}
	if err := n.host.refresh(); err != nil {
		return nil, fmt.Errorf("look at the host's network: %w", err)
	}
	var err error
	if n.policy, err = egress.New(o.Egress, n.closed, time.Now); err != nil {
		return nil, err
	}
	n.names = &names.Server{Policy: n.policy, Asker: &names.Upstream{Path: o.ResolvConf}, IPv6: n.host.hasIPv6, Log: n.logName}
	if len(o.Egress.HostPorts) > 0 {
		n.names.Host = []netip.Addr{host4}
		if n.host.hasIPv6() {
			n.names.Host = append(n.names.Host, host6)
		}
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n, nil
}

// connections is how many there may be at a time. What is inside must not take the descriptors that its end needs.
func connections() int { return connectionsOf(openFiles()) }

func connectionsOf(files uint64) int { return int(max(min(spendable(files)*3/4, maxConnections), 1)) }

// Published is how many connections through published ports there may be at a time, each of filesOfPublished descriptors, and how
// many flows of datagrams, each of one: a quarter of what connections leaves.
func Published() (connections, flows int) { return publishedOf(openFiles()) }

func publishedOf(files uint64) (connections, flows int) {
	share := spendable(files) / 4
	return int(max(min(share*3/4/filesOfPublished, maxPublished), 1)), int(max(min(share/4, maxPublished), 1))
}

// openFiles is how many descriptors this process may have (Go has raised it to what may be).
func openFiles() uint64 {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 2 * spareFiles
	}
	return files.Cur
}

// spendable is what is left of them for the sandbox's connections, in both directions.
func spendable(files uint64) uint64 {
	if files < 2*spareFiles {
		return files / 2
	}
	return files - spareFiles
}

// closed tells what no name and no open list opens: what is closed everywhere, this network, and this machine's addresses.
func (n *Network) closed(a netip.Addr) bool {
	if inner, ok := egress.Embedded(a); ok && n.closed(inner) {
		return true // a router out there could lead it back to this machine
	}
	return egress.IsClosed(a) || guest4.Contains(a) || guest6.Contains(a) || n.host.has(a) || outside.MeansHost(a)
}

// Link is what init makes and configures.
func (n *Network) Link() spec.Link { return *network.BuiltinLink(n.host.hasIPv6()) }

// Serve begins to carry: tun is the interface that init made, and is taken over.
func (n *Network) Serve(tun *os.File) error {
	l, err := newLink(tun, mtu, n.pace.owed, func(error) { n.stop() })
	if err != nil {
		return fmt.Errorf("take over the sandbox's interface: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		l.Close()
		return n.ctx.Err()
	}
	n.link = l
	if n.stack, err = n.newStack(l); err != nil {
		l.Close()
		return fmt.Errorf("make the network stack: %w", err)
	}
	return nil
}

const nicID = 1

// The stack would tell standard error of odd packets, which whoever is inside can send as many of as they like. Loggers of
// its packages have taken the first one for theirs already, which SetTarget would only replace.
var silence = sync.OnceFunc(func() { log.Log().Emitter = log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}} })

func (n *Network) newStack(l *link) (*stack.Stack, error) {
	silence()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	var failed []error
	must := func(what string, err tcpip.Error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %s", what, err))
		}
	}
	sack := tcpip.TCPSACKEnabled(true)
	must("SACK", s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack))
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	must("receive buffer", s.SetTransportProtocolOption(tcp.ProtocolNumber, &moderate))
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 512 << 10, Max: 4 << 20}
	must("send buffer", s.SetTransportProtocolOption(tcp.ProtocolNumber, &send))
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 512 << 10, Max: 4 << 20}
	must("receive buffer", s.SetTransportProtocolOption(tcp.ProtocolNumber, &receive))
	// What has ended is not to fill the memory.
	wait, linger := tcpip.TCPTimeWaitTimeoutOption(timeWait), tcpip.TCPLingerTimeoutOption(lingerTime)
	must("time wait", s.SetTransportProtocolOption(tcp.ProtocolNumber, &wait))
	must("linger", s.SetTransportProtocolOption(tcp.ProtocolNumber, &linger))
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, n.incomingTCP(tcp.NewForwarder(s, 0, maxDialing, n.acceptTCP).HandlePacket))
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, n.acceptUDP).HandlePacket)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, n.echo)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber6, n.echo)
	must("interface", s.CreateNIC(nicID, l))
	// Whatever the sandbox sends to, the stack is that, and answers as that.
	must("promiscuous mode", s.SetPromiscuousMode(nicID, true))
	must("spoofing", s.SetSpoofing(nicID, true))
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}, {Destination: header.IPv6EmptySubnet, NIC: nicID}})
	return s, errors.Join(failed...)
}

// Done is closed when the network carries nothing any more.
func (n *Network) Done() <-chan struct{} { return n.done }

func (n *Network) stop() {
	n.once.Do(func() {
		n.cancel()
		close(n.done)
	})
}

// Close ends every connection, and waits for that.
func (n *Network) Close() error {
	n.stop()
	n.mu.Lock()
	s, l := n.stack, n.link
	n.ending = true
	n.mu.Unlock()
	if s == nil {
		return nil
	}
	l.Close()
	l.Wait() // no packet comes any more
	s.Close()
	n.awaitConnections(s)
	s.Wait()
	return nil
}

// awaitConnections waits until all have ended. The stack has broken off those that it had when it was closed; one whose handshake began just
// then would wait for its answer for a minute.
func (n *Network) awaitConnections(s *stack.Stack) {
	gone := make(chan struct{})
	go func() {
		n.conns.Wait()
		close(gone)
	}()
	for again := time.Millisecond; ; again = min(2*again, 100*time.Millisecond) {
		select {
		case <-gone:
			return
		case <-time.After(again):
		}
		for _, e := range s.RegisteredEndpoints() {
			e.Abort()
		}
	}
}

// begin counts what is to be waited for; false where the network has ended. end follows.
func (n *Network) begin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ending || n.ctx.Err() != nil {
		return false
	}
	n.conns.Add(1)
	return true
}

func (n *Network) end() { n.conns.Done() }

// take takes a slot for a connection; false where there are too many, or the network has ended.
func (n *Network) take() bool {
	if !n.begin() {
		return false
	}
	select {
	case n.slots <- struct{}{}:
		return true
	default:
		n.end()
		return false
	}
}

func (n *Network) release() {
	<-n.slots
	n.end()
}

// hostAddresses are this machine's own, looked at again where that was a while ago: a laptop moves.
type hostAddresses struct {
	mu   sync.Mutex
	read time.Time
	host *outside.Host
	own  []netip.Prefix
}

const addressesAge = 2 * time.Second

// refresh keeps what was known where it cannot be read again.
func (h *hostAddresses) refresh() error {
	if time.Since(h.read) < addressesAge {
		return nil
	}
	host, err := outside.Read()
	if err != nil {
		return err
	}
	h.host, h.own, h.read = host, host.Own(), time.Now()
	return nil
}

func (h *hostAddresses) has(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.refresh()
	return slices.ContainsFunc(h.own, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (h *hostAddresses) hasIPv6() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.refresh()
	return h.host.IPv6
}
