package main

import (
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// counter counts packets by destination address, and those to its port 80 apart.
type counter struct {
	mu      sync.Mutex
	n, http map[netip.Addr]int
}

func (c *counter) of(ip net.IP, withHTTP bool) int {
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	c.mu.Lock()
	defer c.mu.Unlock()
	if withHTTP {
		return c.n[a] + c.http[a]
	}
	return c.n[a]
}

// sniff counts every packet that comes in from the host's side, whether or not a server wants it
// (packet(7)).
func sniff() (*counter, error) {
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	c := &counter{n: map[netip.Addr]int{}, http: map[netip.Addr]int{}}
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err == unix.EINTR || err == unix.ENETDOWN {
				continue
			}
			if err != nil {
				log.Fatal(err)
			}
			if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
				c.add(buf[:n])
			}
		}
	}()
	return c, nil
}

// The types of ICMPv6 messages that find neighbours (RFC 4861).
const (
	neighbourSolicit = 135
	neighbourAdvert  = 136
)

func (c *counter) add(p []byte) {
	var a netip.Addr
	var protocol byte
	var ports []byte // of TCP: the source's and the destination's
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		a = netip.AddrFrom4([4]byte(p[16:20]))
		protocol, ports = p[9], p[min(int(p[0]&0xf)*4, len(p)):]
	case len(p) > 40 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_ICMPV6 && (p[40] == neighbourSolicit || p[40] == neighbourAdvert):
		return // the host's own kernel asks for its neighbours when it likes
	case len(p) >= 40 && p[0]>>4 == 6:
		a = netip.AddrFrom16([16]byte(p[24:40]))
		protocol, ports = p[6], p[40:]
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if protocol == unix.IPPROTO_TCP && len(ports) >= 4 && ports[2] == 0 && ports[3] == 80 {
		c.http[a]++
		return
	}
	c.n[a]++
}
