package driver

import (
	"net/netip"

	"cove/sandbox/network/egress"
	"cove/sandbox/network/outside"
	"cove/sandbox/spec"
)

// closedBesides is what a filter inside closes besides what is closed everywhere: ways to write an IPv4 address as an IPv6
// one, which it does not see through (NAT64, 6to4); and the addresses of the stack itself. They lie in closed ranges; as
// prefixes of their own they come before the route that a router advertisement could add.
var closedBesides = []string{"64:ff9b::/96", "2002::/16", "10.0.2.0/24", "fd00::/64"}

// closed is all that is closed inside, as texts: in every sandbox, and what this host has.
func closed(h *outside.Host) []string {
	var out []string
	for _, p := range append(egress.ClosedPrefixes(), h.Own()...) {
		out = append(out, p.String())
	}
	return append(out, closedBesides...)
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
