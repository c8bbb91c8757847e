package driver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/spec"
)

// localPort is the port of a listener.
func localPort(t *testing.T, a net.Addr) uint16 {
	t.Helper()
	switch a := a.(type) {
	case *net.TCPAddr:
		return uint16(a.Port)
	case *net.UDPAddr:
		return uint16(a.Port)
	}
	t.Fatalf("address %v", a)
	return 0
}

func publish(t *testing.T, ports ...spec.Port) *Published {
	t.Helper()
	p, err := Publish(t.Context(), ports, network.Dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// listenTCP is a server inside, which ends with the test.
func listenTCP(t *testing.T, addr string, handle func(net.Conn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return localPort(t, l.Addr())
}

// listenUDP is a server inside that answers each datagram.
func listenUDP(t *testing.T, answer func(from net.Addr, p []byte) []byte) uint16 {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(answer(from, buf[:n]), from)
		}
	}()
	return localPort(t, server.LocalAddr())
}

// The server reads to the end before it answers: without half-close it would wait for ever.
func TestPublishTCPHalfClose(t *testing.T) {
	port := listenTCP(t, "127.0.0.1:0", func(c net.Conn) {
		b, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(b))
	})
	p := publish(t, spec.Port{ContainerPort: port, Proto: "tcp"})
	if host := p.Addrs()[0].(*net.TCPAddr).IP; !host.IsLoopback() {
		t.Errorf("without an address it listens on %v", host)
	}
	c, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	sent := bytes.Repeat([]byte("half a megabyte "), 1<<15)
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.ToUpper(sent)) {
		t.Errorf("%d bytes came back of %d, or others", len(got), len(sent))
	}
}

// A server on ::1 alone is reached too.
func TestPublishIPv6Loopback(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 loopback here: ", err)
	}
	l.Close()
	port := listenTCP(t, "[::1]:0", func(c net.Conn) { _, _ = c.Write([]byte("six")) })
	p := publish(t, spec.Port{ContainerPort: port, Proto: "tcp"})
	c, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); string(got) != "six" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPublishNobodyInside(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := localPort(t, l.Addr())
	l.Close()
	p := publish(t, spec.Port{ContainerPort: free, Proto: "tcp"})
	c, err := net.Dial("tcp", p.Addrs()[0].String())
	if err == nil { // the reset may come as early as that
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

func TestPublishConflict(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := localPort(t, free.Addr())
	free.Close()
	_, err = Publish(t.Context(), []spec.Port{
		{HostPort: first, ContainerPort: 80, Proto: "tcp"},
		{HostPort: localPort(t, l.Addr()), ContainerPort: 80, Proto: "tcp"},
	}, network.Dial)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v: want EADDRINUSE with %v", err, l.Addr())
	}
	// The port that was free is so again.
	again, err := net.Listen("tcp", (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(first)}).String())
	if err != nil {
		t.Fatalf("a port stayed bound: %v", err)
	}
	again.Close()
}

// Two clients of one UDP port: each gets its own answers, from a socket inside of its own.
func TestPublishUDPFlows(t *testing.T) {
	port := listenUDP(t, func(from net.Addr, p []byte) []byte { return []byte(from.String() + " " + string(p)) })
	p := publish(t, spec.Port{ContainerPort: port, Proto: "udp"})
	peers := map[string]bool{}
	for _, word := range []string{"one", "two"} {
		c, err := net.Dial("udp", p.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		for range 2 { // the second over the same flow
			_, _ = c.Write([]byte(word))
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			peer, got, _ := strings.Cut(string(buf[:n]), " ")
			if got != word {
				t.Errorf("client %q was answered %q", word, got)
			}
			peers[peer] = true
		}
	}
	if len(peers) != 2 {
		t.Errorf("the server saw %d clients, want 2: %v", len(peers), peers)
	}
}

// A flow that is idle goes away, and no more than maxFlows are there at a time.
func TestFlowsExpireAndAreBounded(t *testing.T) {
	outside, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	dialled := 0
	fs := newFlows(outside.(*net.UDPConn), localPort(t, server.LocalAddr()), func(proto string, port uint16) (*os.File, error) {
		dialled++
		return network.Dial(proto, port)
	}, make(chan struct{}, maxFlows))
	fs.idle = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { fs.serve(ctx); close(ended) }()
	c, err := net.Dial("udp", outside.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	count := func() int { fs.mu.Lock(); defer fs.mu.Unlock(); return len(fs.byPeer) }
	until := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); count() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d flows, want %d", count(), want)
			}
		}
	}
	_, _ = c.Write([]byte("x"))
	until(1)
	until(0)
	cancel()
	outside.Close()
	<-ended
	if dialled != 1 {
		t.Errorf("dialled %d times", dialled)
	}
	fs.mu.Lock()
	for i := range maxFlows {
		fs.byPeer[netipPort(i)] = &flow{}
	}
	fs.mu.Unlock()
	if fs.flow(t.Context(), netipPort(maxFlows)) != nil {
		t.Error("one flow more than the bound was begun")
	}
}

func netipPort(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(i+1))
}

// All ports together take a bounded part of this process's descriptors; who has to wait is served when another has gone, and a port that
// nobody uses takes nothing of it.
func TestPublishBounded(t *testing.T) {
	tcp := spec.Port{Proto: "tcp", ContainerPort: listenTCP(t, "127.0.0.1:0", func(c net.Conn) {
		_, _ = c.Write([]byte("hello"))
		_, _ = io.Copy(io.Discard, c)
	})}
	udp := spec.Port{Proto: "udp", ContainerPort: listenUDP(t, func(_ net.Addr, p []byte) []byte { return p })}
	p, err := publishBounded(t.Context(), []spec.Port{tcp, tcp, tcp, udp, udp}, network.Dial, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	greeted := make(chan net.Conn, 10)
	dial := func(port int) {
		c, err := net.Dial("tcp", p.Addrs()[port].String())
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			if _, err := io.ReadFull(c, make([]byte, 5)); err == nil {
				greeted <- c
			}
		}()
	}
	for _, port := range []int{1, 1, 2, 0} {
		dial(port)
	}
	first := []net.Conn{<-greeted, <-greeted}
	select {
	case <-greeted:
		t.Error("three connections where two may be")
	case <-time.After(300 * time.Millisecond):
	}
	for _, c := range first {
		c.Close()
		select {
		case <-greeted:
		case <-time.After(5 * time.Second):
			t.Fatal("nobody is served in the place of who has gone")
		}
	}
	echo := func(port int) error {
		c, err := net.Dial("udp", p.Addrs()[port].String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		_, _ = c.Write([]byte("x"))
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, err = c.Read(make([]byte, 10))
		return err
	}
	if err := echo(3); err != nil {
		t.Error(err)
	}
	if err := echo(4); err == nil {
		t.Error("two flows where one may be")
	}
}

// Ports come and go while others are used and all are closed: what Close has not ended was never there.
func TestPublishAtOnce(t *testing.T) {
	inside := listenTCP(t, "127.0.0.1:0", func(net.Conn) {})
	for range 20 {
		p, err := Publish(t.Context(), nil, network.Dial)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 4 {
			proto := []string{"tcp", "udp"}[i%2]
			all.Go(func() {
				for {
					port, err := p.Add(spec.Port{ContainerPort: inside, Proto: proto})
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if c, err := net.Dial(proto, net.JoinHostPort(port.HostIP, strconv.Itoa(int(port.HostPort)))); err == nil {
						_, _ = c.Write([]byte("x"))
						c.Close()
					}
					p.Ports()
					if i > 1 {
						p.Remove(port)
					}
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		p.Close()
		all.Wait()
		for _, a := range p.Addrs() {
			if c, err := net.Dial("tcp", a.String()); err == nil && a.Network() == "tcp" {
				c.Close()
				t.Errorf("%s is still listened on", a)
			}
		}
	}
}
