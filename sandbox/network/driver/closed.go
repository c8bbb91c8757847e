package driver

import (
	"net/netip"
	"slices"

	"cove/sandbox/spec"
)

// closedAlways is what no sandbox reaches unless its profile names it: what is the host, what is
// near the host, and what is another way to write either.
var closedAlways = []string{
	// The host, and this network.
	"0.0.0.0/8", // "this network": Linux takes 0.0.0.0 for the host itself
	"127.0.0.0/8",
	"::/128", "::1/128",
	// Private, shared and link-local networks; 169.254.169.254 is the cloud's metadata, fd00:ec2::254
	// and fd20:ce::254 are its IPv6 ones.
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
	"100.64.0.0/10",  // RFC 6598
	"169.254.0.0/16", // RFC 3927
	"fe80::/10", "fec0::/10", "fc00::/7",
	// The addresses of the stack itself. They lie in the ranges above; as prefixes of their own they
	// come before the route that a router advertisement could add.
	"10.0.2.0/24", "fd00::/64",
	// Protocol assignments, benchmarking, reserved, broadcast.
	"192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
	// Everyone on the link.
	"224.0.0.0/4", "ff00::/8",
	// IPv4 addresses inside IPv6 ones: compatible, mapped, translated (NAT64), 6to4, Teredo.
	"::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",
}

// closed adds to closedAlways what this host has: its own addresses, and of IPv6 the whole network on
// its link (at most a /64), since a host takes new addresses there every day (RFC 8981) and calls its
// neighbours by global addresses.
func (h *outside) closed() []string {
	out := slices.Clone(closedAlways)
	for _, p := range h.addresses {
		a, bits := p.Addr(), p.Addr().BitLen()
		if a.Is6() && !a.IsLoopback() {
			bits = max(p.Bits(), 64)
		}
		own := netip.PrefixFrom(a, bits).Masked().String()
		if !slices.Contains(out, own) {
			out = append(out, own)
		}
	}
	return out
}

// prefixes and addrs are texts of ours as the child half wants them.
func prefixes(texts ...string) []spec.Prefix {
	var out []spec.Prefix
	for _, text := range texts {
		p := netip.MustParsePrefix(text)
		out = append(out, spec.Prefix{IP: p.Addr().AsSlice(), Bits: p.Bits()})
	}
	return out
}

func addrs(texts ...string) []spec.IP {
	var out []spec.IP
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text).AsSlice())
	}
	return out
}
