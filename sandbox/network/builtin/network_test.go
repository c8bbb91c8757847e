package builtin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/network/egress"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// sayBack copies without splice(2), whose pipes Go would keep open for a while.
func sayBack(c *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }

// Half of a connection closes before the other, in either direction.
func TestHalfClose(t *testing.T) {
	s := newInside(t)
	late := serve(t, func(c *net.TCPConn) { // answers when it has heard all
		all, err := io.ReadAll(c)
		_, _ = c.Write(append(all, []byte(errText(err))...))
	})
	c := s.mustDial(late)
	_, _ = c.Write([]byte("all there is, "))
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "all there is, " || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	heard := make(chan string, 1)
	early := serve(t, func(c *net.TCPConn) { // has said all before it listens
		_, _ = c.Write([]byte("said"))
		_ = c.CloseWrite()
		all, err := io.ReadAll(c)
		heard <- string(all) + errText(err)
	})
	c = s.mustDial(early)
	if got, err := io.ReadAll(c); string(got) != "said" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = c.Write([]byte("answered"))
	c.Close()
	if got := <-heard; got != "answered" {
		t.Errorf("%q", got)
	}
}

func errText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// A port inside can be used again for the same server as soon as the kernel inside lets it, and not only when a SYN comes for the second time.
func TestPortUsedAgain(t *testing.T) {
	s := newInside(t)
	addr := serve(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("closes first")) })
	first := s.mustDial(addr)
	port := first.LocalAddr().(*net.TCPAddr).Port
	for c, again := first, 0; ; again++ {
		if got, err := io.ReadAll(c); string(got) != "closes first" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		c.Close()
		if again == 10 {
			return
		}
		time.Sleep(20 * time.Millisecond) // the stack answers the last packet, and the kernel inside has forgotten the connection
		var err error
		if c, err = s.dialFrom(port, addr); err != nil {
			t.Fatal(err)
		}
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			if info.Total_retrans > 0 {
				t.Errorf("from port %d for the %d. time: the SYN was sent %d times more", port, again+2, info.Total_retrans)
			}
		})
	}
}

// A connection that breaks on one side breaks on the other.
func TestReset(t *testing.T) {
	s := newInside(t)
	addr := serve(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	c := s.mustDial(addr)
	_, _ = c.Write([]byte("x"))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("from outside: %v", err)
	}
	heard := make(chan error, 1)
	addr = serve(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("x"))
		_, err := io.ReadAll(c)
		heard <- err
	})
	c = s.mustDial(addr)
	_, _ = c.Read(make([]byte, 1))
	_ = c.SetLinger(0)
	c.Close()
	if err := <-heard; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("from inside: %v", err)
	}
	if _, err := s.dial(www + ":1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
	if _, err := s.dial("10.0.2.77:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed address: %v", err)
	}
}

// Who asks for a WebSocket and is gone before the answer is noticed, though more of what they sent is still to be looked at.
func TestGoneBeforeTheAnswer(t *testing.T) {
	s := newInside(t, func(n *Network) {
		p, err := egress.New(spec.Egress{Listed: true, Allow: []spec.Reach{{Text: "ws.example", Name: "ws.example", Proto: "tcp"}}}, egress.IsClosed, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		p.Learn("ws.example", netip.MustParseAddr(www), time.Minute)
		n.policy = p
	})
	const ask = "GET / HTTP/1.1\r\nHost: ws.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
	asked, heard := make(chan error, 1), make(chan error, 1)
	addr := serve(t, func(c *net.TCPConn) { // never answers
		_, err := io.ReadFull(c, make([]byte, len(ask)))
		asked <- err
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Read(make([]byte, 1))
		heard <- err
	})
	c := s.mustDial(addr)
	_, _ = c.Write([]byte(ask + "x"))
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	_ = c.SetLinger(0)
	c.Close()
	if err := <-heard; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server heard %v", err)
	}
}

// Who does not read stops who writes, in either direction; nothing is lost for it.
func TestBackPressure(t *testing.T) {
	s := newInside(t)
	const most = 64 << 20
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	// fill writes until nothing is taken for a while, or more than fits anywhere has been.
	fill := func(c *net.TCPConn) (total int) {
		for total < most {
			_ = c.SetWriteDeadline(time.Now().Add(700 * time.Millisecond))
			n, err := c.Write(block)
			if total += n; err != nil {
				return total
			}
		}
		return total
	}
	filled := make(chan int, 1)
	addr := serve(t, func(c *net.TCPConn) {
		filled <- fill(c)
	})
	c := s.mustDial(addr)
	n := <-filled
	if n == 0 || n >= most {
		t.Fatalf("from outside: %d bytes went to a reader that never read", n)
	}
	if got, err := io.Copy(io.Discard, c); int(got) != n || err != nil {
		t.Errorf("%d of %d bytes, %v", got, n, err)
	}
	goOn := make(chan struct{})
	heard := make(chan int64, 1)
	addr = serve(t, func(c *net.TCPConn) {
		<-goOn
		n, _ := io.Copy(io.Discard, c)
		heard <- n
	})
	c = s.mustDial(addr)
	n = fill(c)
	if n == 0 || n >= most {
		t.Fatalf("from inside: %d bytes went to a reader that never read", n)
	}
	close(goOn)
	c.Close()
	if got := <-heard; int(got) != n {
		t.Errorf("%d of %d bytes", got, n)
	}
}

// A stream from outside comes in packets as large as the interface lets through, and not in some of a few bytes between.
func TestWholeSegments(t *testing.T) {
	s := newInside(t)
	const size = 64 << 20
	addr := serve(t, func(c *net.TCPConn) { _, _ = c.Write(make([]byte, size)) })
	c := s.mustDial(addr)
	time.Sleep(200 * time.Millisecond) // so that there is always more to read than is read at once
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	bytes, packets := s.received()
	t.Logf("%d bytes in %d packets", bytes, packets)
	if packets == 0 || bytes/packets < 55_000 {
		t.Errorf("%d bytes came in %d packets", bytes, packets)
	}
}

// What init is told before the network is attached are its addresses.
func TestKnownLink(t *testing.T) {
	l := network.BuiltinLink(true)
	if want := []spec.Prefix{{IP: guest4.Addr().AsSlice(), Bits: guest4.Bits()}, {IP: guest6.Addr().AsSlice(), Bits: guest6.Bits()}}; !reflect.DeepEqual(l.Addresses, want) {
		t.Errorf("addresses %v, want %v", l.Addresses, want)
	}
	if want := []spec.IP{dns4.AsSlice(), dns6.AsSlice()}; !reflect.DeepEqual(l.DNS, want) {
		t.Errorf("name servers %v, want %v", l.DNS, want)
	}
	if l := network.BuiltinLink(false); len(l.Addresses) != 1 || len(l.DNS) != 1 {
		t.Errorf("without IPv6: %+v", l)
	}
}

// received is how many bytes and packets have come in by the interface (proc_pid_net(5), net/dev).
func (s *inside) received() (bytes, packets int) {
	var text []byte
	s.do(func() { text, _ = os.ReadFile("/proc/thread-self/net/dev") })
	for line := range strings.Lines(string(text)) {
		if name, numbers, _ := strings.Cut(strings.TrimSpace(line), ":"); name == network.BuiltinLink(false).Interface {
			_, _ = fmt.Sscan(numbers, &bytes, &packets)
		}
	}
	return bytes, packets
}

// Five hundred connections of which neither end reads fill a bounded part of this process's memory, and what is in them is whole.
func TestMemory(t *testing.T) {
	s := newInside(t)
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	goOn := make(chan struct{})
	addr := serve(t, func(c *net.TCPConn) {
		_ = c.SetWriteDeadline(time.Now().Add(3 * time.Second))
		var n int
		var err error
		for total := 0; err == nil && total < 2<<20; total += n {
			n, err = c.Write(block)
		}
		<-goOn
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
	})
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) >> 20
	}
	before := heap()
	var conns []*net.TCPConn
	var all sync.WaitGroup
	for range 500 {
		c := s.mustDial(addr)
		conns = append(conns, c)
		all.Go(func() {
			_ = c.SetWriteDeadline(time.Now().Add(3 * time.Second))
			for n, total := 0, 0; total < 2<<20; total += n {
				var err error
				if n, err = c.Write(block); err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	used := heap() - before
	if t.Logf("500 connections hold %d MiB", used); used > 330 {
		t.Error("too much")
	}
	close(goOn)
	for _, c := range []*net.TCPConn{conns[0], conns[100], conns[499]} {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		got := make([]byte, 16<<10)
		if n, err := io.ReadFull(c, got); err != nil || !bytes.HasPrefix(block, got) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

// Two thousand connections at once, and thousands one after the other: neither descriptors nor goroutines are left.
func TestManyConnections(t *testing.T) {
	s := newInside(t)
	addr := serve(t, sayBack)
	echo := func(c *net.TCPConn) error {
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 5))
		return err
	}
	if err := echo(s.mustDial(addr)); err != nil {
		t.Fatal(err)
	}
	fds, routines := settledDescriptors(t), runtime.NumGoroutine()
	settled := func() bool { return descriptors(t) <= fds && runtime.NumGoroutine() <= routines+4 }
	conns := make([]*net.TCPConn, 2000)
	var all sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range conns {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			c, err := s.dial(addr)
			if err == nil {
				err = echo(c)
			}
			if conns[i] = c; err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	all.Wait()
	for _, c := range conns {
		if c != nil {
			if err := echo(c); err != nil {
				t.Error(err)
			}
			c.Close()
		}
	}
	eventually(t, "the 2000 are gone", settled)
	for i := range 3000 {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			c, err := s.dial(addr)
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
				return
			}
			switch i % 4 { // closed from here, reset, half, and without a word
			case 0:
				_ = echo(c)
			case 1:
				_ = c.SetLinger(0)
			case 2:
				_ = c.CloseWrite()
				_, _ = io.ReadAll(c)
			}
			c.Close()
		})
	}
	all.Wait()
	eventually(t, "the 3000 are gone", settled)
}

// Whoever is inside and gone without a word, as a machine that lost its power, holds nothing here for ever.
func TestKeepAlive(t *testing.T) {
	s := newInside(t, func(n *Network) { n.keepIdle, n.keepEvery = time.Second, time.Second })
	heard := make(chan error, 1)
	addr := serve(t, func(c *net.TCPConn) {
		_, _ = io.ReadAll(c) // its end, and then nothing is said: the connection is half open
		_ = c.SetDeadline(time.Now().Add(15 * time.Second))
		for {
			if err := peerGone(c); err != nil {
				heard <- err
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	c := s.mustDial(addr)
	var fd int
	raw, _ := c.SyscallConn()
	_ = raw.Control(func(f uintptr) { fd = int(f) })
	// How long the kernel inside keeps what nobody holds any more (tcp(7)).
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_LINGER2, 1); err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case err := <-heard:
		if !errors.Is(err, syscall.EPIPE) { // a reset, where all had been read (tcp_reset)
			t.Error(err)
		}
	case <-time.After(12 * time.Second):
		t.Error("the connection outside was still there")
	}
}

// peerGone looks for an error without sending.
func peerGone(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	code := 0
	_ = raw.Control(func(fd uintptr) { code, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) })
	if code != 0 {
		return syscall.Errno(code)
	}
	return err
}

// A flow carries datagrams of every size both ways, empty ones too, each as it was.
func TestUDP(t *testing.T) {
	s := newInside(t)
	l, err := net.ListenPacket("udp4", www+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(buf[:n], from)
		}
	}()
	c := s.udp(l.LocalAddr().String())
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for _, size := range []int{1, 0, 1472, 1473, 9000, 65000, 3} {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 65535)
		n, err := c.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], sent) {
			t.Errorf("%d bytes: got %d, %v", size, n, err)
		}
	}
}

// The end comes at once in the middle of everything: connections that carry, that are being made, that are half open, flows, echo
// requests and questions without an answer.
func TestCloseInTheMiddle(t *testing.T) {
	s := newInside(t)
	fds := settledDescriptors(t)
	broken := make(chan error, 1)
	addr := serve(t, func(c *net.TCPConn) {
		var err error
		for err == nil {
			_, err = c.Write(make([]byte, 32<<10))
		}
		broken <- err
	})
	c := s.mustDial(addr)
	if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := s.dial(nowhere + ":80")
		waiting <- err
	}()
	flow := s.udp(nowhere + ":9")
	_, _ = flow.Write([]byte("x"))
	s.ping(nowhere, 1)
	s.ping(www, 2)
	question := s.udp("10.0.2.3:53")
	_, _ = question.Write([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04slow\x07example\x00\x00\x01\x00\x01"))
	eventually(t, "all is under way", func() bool { return descriptors(t) >= fds+8 && len(s.net.asking) == 1 && len(s.net.echoes) == 1 })
	start := time.Now()
	s.close()
	if took := time.Since(start); took > time.Second {
		t.Errorf("the end took %v", took)
	}
	if err := <-broken; err == nil {
		t.Error("the server was not told")
	}
	<-s.net.Done()
	if err := s.net.Close(); err != nil {
		t.Error("a second time:", err)
	}
}

// ping sends an echo request from inside, and does not wait.
func (s *inside) ping(to string, seq uint16) {
	s.t.Helper()
	fd, err := s.socket(unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err != nil {
		s.t.Fatal(err)
	}
	defer unix.Close(fd)
	m := make([]byte, 16)
	m[0] = byte(header.ICMPv4Echo)
	binary.BigEndian.PutUint16(m[6:], seq)
	binary.BigEndian.PutUint16(m[2:], ^checksum.Checksum(m, 0))
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(to).As4()}); err != nil {
		s.t.Fatal(err)
	}
}

// A connection that ends as the network ends is in the log before Close returns: whoever reads it then has read all.
func TestNoLogBehindTheEnd(t *testing.T) {
	for range 20 {
		s := newInside(t)
		addr := serve(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
		for range 8 {
			c := s.mustDial(addr)
			_, _ = c.Write([]byte("x"))
		}
		for range 8 {
			go func() { _, _ = s.dial(nowhere + ":80") }()
		}
		time.Sleep(20 * time.Millisecond)
		s.close()
		s.mu.Lock()
		n := len(s.log)
		s.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
		s.mu.Lock()
		if len(s.log) != n || n < 8 {
			t.Errorf("%d decisions were logged, and %d behind the end", n, len(s.log)-n)
		}
		s.mu.Unlock()
	}
}

// This machine's own addresses are closed in every form in which a packet can reach them.
func TestOwnAddresses(t *testing.T) {
	n, err := New(Options{Egress: spec.Egress{}})
	if err != nil {
		t.Fatal(err)
	}
	// All of the loopback interface's network is this machine, and so is a broadcast on another's.
	for _, a := range []string{"203.0.113.77", "64:ff9b::203.0.113.77", "198.51.100.255", www, "::ffff:" + www, "64:ff9b::" + www, "2002:cb00:710a::1", "127.0.0.1", "10.0.2.2", "64:ff9b::10.0.2.2", "fd00::2"} {
		if v := n.policy.Connect("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 80)); v.OK || v.Reason != egress.Closed {
			t.Errorf("%s: %+v", a, v)
		}
	}
	if v := n.policy.Connect("tcp", netip.MustParseAddrPort("[64:ff9b::192.0.2.1]:80")); !v.OK {
		t.Errorf("somebody else's: %+v", v)
	}
}

// A process that may have few descriptors keeps some for itself.
func TestConnectionsBound(t *testing.T) {
	for files, want := range map[uint64]int{1: 1, 256: 96, 1024: 384, 4096: 2304, 1 << 20: maxConnections, 1 << 63: maxConnections} {
		if got := connectionsOf(files); got != want {
			t.Errorf("%d descriptors: %d connections, want %d", files, got, want)
		}
		in, flows := publishedOf(files)
		if left := int(min(files, 1<<40)) - want - in*filesOfPublished - flows; files > 64 && (left < int(min(files/2, spareFiles)) || in < 1 || flows < 1) {
			t.Errorf("%d descriptors: %d connections and %d flows through published ports leave %d", files, in, flows, left)
		}
	}
}

// What a client says is logged, and bounded.
func TestLongName(t *testing.T) {
	if got := shortName(strings.Repeat("a", 70000)); len(got) > 256 {
		t.Errorf("%d bytes", len(got))
	}
	if got := shortName("example.com"); got != "example.com" {
		t.Error(got)
	}
}

// FuzzPackets: whatever packets come, where nothing is allowed nothing is reached, nothing panics, and the end comes.
func FuzzPackets(f *testing.F) {
	to := netip.MustParseAddrPort(www + ":80")
	f.Add(syn(netip.MustParseAddr("10.0.2.100"), to, 1025))
	f.Add(datagram(netip.MustParseAddr("10.0.2.100"), to, 1025, []byte("x")))
	f.Add(datagram(netip.MustParseAddr("10.0.2.100"), netip.MustParseAddrPort("10.0.2.3:53"), 1025, []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01")))
	f.Add([]byte{0x60, 0, 0, 0, 0, 0, 58, 64})
	f.Fuzz(func(t *testing.T, packet []byte) {
		n, err := New(Options{Egress: spec.Egress{Listed: true}, Log: func(d network.Decision) {
			if d.Allowed {
				t.Errorf("%+v", d)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[1])
		if err := n.Serve(os.NewFile(uintptr(pair[0]), "packets")); err != nil {
			t.Fatal(err)
		}
		if len(packet) > maxPacket {
			packet = packet[:maxPacket]
		}
		_, _ = unix.Write(pair[1], append(make([]byte, vnetHeader), packet...))
		_, _ = unix.Write(pair[1], append(make([]byte, vnetHeader), packet...))
		done := make(chan struct{})
		go func() { n.Close(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("Close hangs")
		}
	})
}
