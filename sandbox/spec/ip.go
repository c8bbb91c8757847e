package spec

import (
	"errors"
	"fmt"
)

// IP is an address as it is on the wire: 4 or 16 bytes. It stands here in place of netip.Addr, which the
// init stage would pay for: package unique below it is initialised after much that only commands need.
type IP []byte

// Is6 tells IPv6 from IPv4.
func (ip IP) Is6() bool { return len(ip) == 16 }

// String is for messages to people, and for IPv6 not in its shortest form.
func (ip IP) String() string {
	if len(ip) == 4 {
		return fmt.Sprintf("%d.%d.%d.%d", ip[0], ip[1], ip[2], ip[3])
	}
	text := ""
	for i := 0; i+1 < len(ip); i += 2 {
		text += fmt.Sprintf(":%x", uint(ip[i])<<8|uint(ip[i+1]))
	}
	if text != "" {
		text = text[1:]
	}
	return text
}

// Prefix is a network, or an address and the network it is in.
type Prefix struct {
	IP   IP  `json:"ip"`
	Bits int `json:"bits"`
}

// Check returns an error for what is no prefix.
func (p Prefix) Check() error {
	if err := p.IP.Check(); err != nil {
		return err
	}
	if p.Bits < 0 || p.Bits > 8*len(p.IP) {
		return fmt.Errorf("%s: too many bits", p)
	}
	return nil
}

// Check returns an error for what is no address.
func (ip IP) Check() error {
	if len(ip) != 4 && len(ip) != 16 {
		return errors.New("an address has 4 or 16 bytes")
	}
	return nil
}

// Masked is the network's first address.
func (p Prefix) Masked() IP {
	out := make(IP, len(p.IP))
	for i := range min(p.Bits, 8*len(p.IP)) {
		out[i/8] |= p.IP[i/8] & (0x80 >> (i % 8))
	}
	return out
}

func (p Prefix) String() string { return fmt.Sprintf("%s/%d", p.IP, p.Bits) }
