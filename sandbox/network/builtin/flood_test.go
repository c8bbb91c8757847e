package builtin

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cove/sandbox/clitest"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Peers that begin a connection and never finish it take no more than slots, and do not keep the network from ending.
func TestHalfOpen(t *testing.T) {
	s := newInside(t)
	var taken atomic.Int64
	addr := serve(t, func(c *net.TCPConn) {
		taken.Add(1)
		sayBack(c)
	})
	fd, err := s.socket(unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := netip.MustParseAddrPort(addr)
	const many = 1500
	for port := range many {
		if port%50 == 0 { // the interface's queue has 500, and nobody sends these again
			eventually(t, "those before are dialed", func() bool { return int(taken.Load()) >= port-200 })
		}
		// From an address that the kernel inside does not have, it resets nothing.
		packet := syn(netip.MustParseAddr("10.0.2.200"), to, uint16(1024+port))
		for unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()}) == unix.EAGAIN {
			time.Sleep(time.Millisecond)
		}
	}
	eventually(t, "the half-open ones are dialed", func() bool { return taken.Load() > many*9/10 })
	c := s.mustDial(addr)
	_, _ = c.Write([]byte("still"))
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Error("beside half-open ones:", err)
	}
	routines := runtime.NumGoroutine()
	s.close()
	eventually(t, "their goroutines are gone", func() bool { return runtime.NumGoroutine() < routines-many*3/4 })
}

// The end comes while connections are being made, each at another step of it.
func TestCloseWhileConnecting(t *testing.T) {
	addr := serve(t, sayBack)
	to := netip.MustParseAddrPort(addr)
	for i := range 60 {
		s := newInside(t)
		fd, err := s.socket(unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			t.Fatal(err)
		}
		for port := range 100 {
			// From an address that the kernel inside does not have: nobody answers the stack's handshake.
			packet := syn(netip.MustParseAddr("10.0.2.200"), to, uint16(1024+port))
			_ = unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
		}
		unix.Close(fd)
		time.Sleep(time.Duration(i) * 200 * time.Microsecond)
		s.close()
	}
}

func syn(from netip.Addr, to netip.AddrPort, port uint16) []byte {
	p := make([]byte, header.IPv4MinimumSize+header.TCPMinimumSize)
	ip, tcp := header.IPv4(p), header.TCP(p[header.IPv4MinimumSize:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(p)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: address(from), DstAddr: address(to.Addr())})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp.Encode(&header.TCPFields{SrcPort: port, DstPort: to.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 1000})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, address(from), address(to.Addr()), header.TCPMinimumSize)
	tcp.SetChecksum(^checksum.Checksum(tcp, sum))
	return p
}

// A flood of datagrams from ever new ports takes a bounded part of this process's descriptors, and TCP goes on beside it.
func TestUDPFlood(t *testing.T) {
	s := newInside(t)
	addr := serve(t, sayBack)
	fds := settledDescriptors(t)
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	before := mem.HeapAlloc
	fd, err := s.socket(unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for port := range 3 * maxFlows {
		packet := datagram(netip.MustParseAddr("10.0.2.100"), netip.MustParseAddrPort(www+":9"), uint16(1024+port), []byte("x"))
		for unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: [4]byte{203, 0, 113, 10}}) == unix.EAGAIN {
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(200 * time.Millisecond)
	if n := descriptors(t) - fds; n < 100 || n > maxFlows+16 {
		t.Errorf("%d descriptors for flows", n)
	}
	runtime.GC()
	runtime.ReadMemStats(&mem)
	if used := int64(mem.HeapAlloc-before) >> 20; used > 128 {
		t.Errorf("%d MiB for %d flows", used, maxFlows)
	}
	c := s.mustDial(addr)
	_, _ = c.Write([]byte("still"))
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Error("beside the flood:", err)
	}
	s.close()
	eventually(t, "the flows' descriptors are closed", func() bool { return descriptors(t) <= fds+4 })
}

func datagram(from netip.Addr, to netip.AddrPort, port uint16, data []byte) []byte {
	p := make([]byte, header.IPv4MinimumSize+header.UDPMinimumSize, 64)
	p = append(p, data...)
	ip, udp := header.IPv4(p), header.UDP(p[header.IPv4MinimumSize:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(p)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: address(from), DstAddr: address(to.Addr())})
	ip.SetChecksum(^ip.CalculateChecksum())
	udp.Encode(&header.UDPFields{SrcPort: port, DstPort: to.Port(), Length: uint16(header.UDPMinimumSize + len(data))})
	return p
}

// A flood of what is refused takes a bounded part of this process's time, whatever it is that is refused; the log hears of every one that
// was answered, and afterwards the network is as it was.
func TestRefusedFlood(t *testing.T) {
	closed := netip.MustParseAddr("192.0.2.1")
	question := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02no\x07example\x00\x00\x01\x00\x01"
	stray := syn(netip.MustParseAddr("10.0.2.200"), netip.AddrPortFrom(closed, 80), 1024)
	stray[header.IPv4MinimumSize+13] = byte(header.TCPFlagAck)
	for what, packet := range map[string][]byte{
		"connections":                  syn(netip.MustParseAddr("10.0.2.200"), netip.AddrPortFrom(closed, 80), 1024),
		"packets without a connection": stray,
		"datagrams":                    datagram(netip.MustParseAddr("10.0.2.200"), netip.AddrPortFrom(closed, 9), 1024, []byte("x")),
		"questions":                    datagram(netip.MustParseAddr("10.0.2.100"), netip.MustParseAddrPort("10.0.2.3:53"), 1024, []byte(question)),
	} {
		t.Run(what, func(t *testing.T) {
			s := newInside(t)
			addr := serve(t, sayBack)
			raw, err := s.socket(unix.SOCK_RAW, unix.IPPROTO_RAW)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(raw)
			const flood = time.Second
			to := &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])}
			var sent int
			var inside, all time.Duration
			s.do(func() {
				began, beganInside, beganAll := time.Now(), used(unix.RUSAGE_THREAD), used(unix.RUSAGE_SELF)
				for time.Since(began) < flood {
					if unix.Sendto(raw, packet, 0, to) == nil {
						sent++
					}
				}
				inside, all = used(unix.RUSAGE_THREAD)-beganInside, used(unix.RUSAGE_SELF)-beganAll
			})
			logged := s.logged()
			t.Logf("%d packets in %v took %v of this process's time beside %v of the sender's; %d were decided on", sent, flood, all-inside, inside, logged)
			if sent < 10_000 {
				t.Errorf("%d packets are no flood", sent)
			}
			if most := int((refusalCredit + flood + maxOwed) / refusalTime); logged > most*11/10 {
				t.Errorf("%d were decided on, want at most %d", logged, most)
			}
			if all-inside > flood/2 && !clitest.Race { // with the race detector each packet takes ten times as long
				t.Errorf("it took %v of this process's time", all-inside)
			}
			start := time.Now()
			c := s.mustDial(addr)
			_, _ = c.Write([]byte("after"))
			if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("a connection afterwards took %v", took)
			}
		})
	}
}

func (s *inside) logged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.log)
}

// used is the processor time of the thread, or of the process.
func used(who int) time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What an ordinary program is refused in a second costs it no time.
func TestRefusalsAreQuick(t *testing.T) {
	s := newInside(t)
	start := time.Now()
	for range 500 {
		if _, err := s.dial("192.0.2.1:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("500 refusals took %v", took)
	}
	// Each was told before it was answered.
	if n := s.logged(); n != 500 {
		t.Errorf("%d were logged", n)
	}
}
