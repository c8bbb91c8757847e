package main

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
)

// names is what the DNS server knows. What it does not know is NXDOMAIN.
var names = map[string][]string{
	"www.example.test":      {"203.0.113.10", "2001:db8::10"},
	"v4.example.test":       {"203.0.113.10"},
	"v6.example.test":       {"2001:db8::10"},
	"rebind.example.test":   {"127.0.0.1", "::1"},
	"private.example.test":  {"10.77.0.2", "fd77::2"},
	"metadata.example.test": {"169.254.169.254"},
	"git.example.test":      {"203.0.113.20"},
	"apt.example.test":      {"203.0.113.21"},
	"proxy.golang.org":      {"203.0.113.22"},
	// Two names on one address.
	"tls-a.example.test": {"203.0.113.30"},
	"tls-b.example.test": {"203.0.113.30"},
}

const (
	typeA, typeAAAA = 1, 28
	rcodeNXDomain   = 3
)

// answerUDP and answerTCP answer one question (RFC 1035 §4).
func answerUDP(_ net.IP, q []byte) []byte { return answer(q) }

func answerTCP(c net.Conn) {
	var size [2]byte
	for {
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		q := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		a := answer(q)
		if a == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
			return
		}
	}
}

func answer(q []byte) []byte {
	if len(q) < 12 || q[2]&0x80 != 0 || binary.BigEndian.Uint16(q[4:]) != 1 {
		return nil
	}
	name, end := question(q)
	if end == 0 {
		return nil
	}
	kind := binary.BigEndian.Uint16(q[end-4:])
	a := append([]byte{}, q[:end]...)
	a[2], a[3] = 0x84|q[2]&1, 0x80 // an answer, authoritative, recursion as asked and available
	for i := 6; i < 12; i++ {
		a[i] = 0
	}
	addrs, known := names[strings.ToLower(name)]
	if !known {
		a[3] |= rcodeNXDomain
		return a
	}
	for _, s := range addrs {
		ip := netip.MustParseAddr(s)
		if ip.Is4() != (kind == typeA) || ip.Is6() != (kind == typeAAAA) {
			continue
		}
		a[7]++
		a = append(a, 0xc0, 12) // the name: a pointer to the question's
		a = binary.BigEndian.AppendUint16(a, kind)
		a = append(a, 0, 1, 0, 0, 0, 60) // class IN, a minute to live
		a = binary.BigEndian.AppendUint16(a, uint16(len(ip.AsSlice())))
		a = append(a, ip.AsSlice()...)
	}
	return a
}

// question reads the one question's name and tells where the question ends; 0 where it is broken.
func question(q []byte) (name string, end int) {
	var labels []string
	i := 12
	for i < len(q) && q[i] != 0 {
		n := int(q[i])
		if n > 63 || i+1+n > len(q) {
			return "", 0
		}
		labels = append(labels, string(q[i+1:i+1+n]))
		i += 1 + n
	}
	if i+5 > len(q) {
		return "", 0
	}
	return strings.Join(labels, "."), i + 5
}
