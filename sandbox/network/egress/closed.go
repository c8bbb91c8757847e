package egress

import (
	"net/netip"
	"slices"
)

// closed is what no sandbox reaches unless an entry names it: what is the host, what is near the host, and
// what else is not a machine somewhere in the world.
var closed = prefixes(
	"0.0.0.0/8", // "this network": Linux takes 0.0.0.0 for the host itself
	"127.0.0.0/8",
	"::/128", "::1/128",
	// Private, shared and link-local networks; 169.254.169.254 is the cloud's metadata, fd00:ec2::254 and
	// fd20:ce::254 are its IPv6 ones.
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
	"100.64.0.0/10",  // RFC 6598
	"169.254.0.0/16", // RFC 3927
	"fe80::/10", "fec0::/10", "fc00::/7",
	// Protocol assignments, benchmarking, reserved, broadcast.
	"192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
	// Everyone on the link.
	"224.0.0.0/4", "ff00::/8",
	// IPv4 inside IPv6 in ways that no router of today takes to the IPv4 address: compatible, mapped, SIIT,
	// Teredo; and a NAT64 of somebody's own, of which nobody else knows where it leads (RFC 8215).
	"::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "2001::/32", "64:ff9b:1::/48",
)

// Ways in which an IPv4 address is reached as an IPv6 one: what is closed is closed by them too.
var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052, at the end
	sixToIV = netip.MustParsePrefix("2002::/16")    // RFC 3056, behind the prefix
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// ClosedPrefixes are what is closed wherever cove runs, but for what IsClosed sees through.
func ClosedPrefixes() []netip.Prefix { return slices.Clone(closed) }

// IsClosed tells what is closed wherever cove runs. What the machine's own addresses are is for the caller to add.
func IsClosed(addr netip.Addr) bool {
	addr = bare(addr)
	for _, p := range closed {
		if p.Contains(addr) {
			return true
		}
	}
	if inner, ok := Embedded(addr); ok {
		return IsClosed(inner)
	}
	return false
}

// Embedded is the IPv4 address that an IPv6 address leads to.
func Embedded(addr netip.Addr) (netip.Addr, bool) {
	switch {
	case nat64.Contains(addr):
		b := addr.As16()
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToIV.Contains(addr):
		b := addr.As16()
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
