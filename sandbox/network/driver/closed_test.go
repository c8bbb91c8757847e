package driver

import (
	"net/netip"
	"slices"
	"testing"

	"cove/sandbox/network/outside"
)

func TestClosedHoldsTheHost(t *testing.T) {
	h := &outside.Host{Addresses: []netip.Prefix{
		netip.MustParsePrefix("203.0.113.7/24"), netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("2001:db8:5:6:7::8/48"), netip.MustParsePrefix("2001:db8:9::1/128"),
	}}
	closed := closed(h)
	for _, want := range []string{"203.0.113.7/32", "2001:db8:5:6::/64", "2001:db8:9::1/128"} {
		if !slices.Contains(closed, want) {
			t.Errorf("%s is not closed", want)
		}
	}
	in := func(a string) bool {
		return slices.ContainsFunc(closed, func(c string) bool { return netip.MustParsePrefix(c).Contains(netip.MustParseAddr(a)) })
	}
	for _, a := range []string{"203.0.113.8", "1.1.1.1", "2606:4700::1111", "2001:db8::1", "2001:4860:4860::8888", "9.255.255.255", "172.32.0.1", "100.128.0.1"} {
		if in(a) {
			t.Errorf("%s is closed", a)
		}
	}
	for _, a := range append(slices.Clone(closedSamples), "127.0.0.53", "0.0.0.0", "::", "fe80::1", "255.255.255.255", "224.0.0.1", "ff02::1") {
		// netip takes ::ffff:a.b.c.d for a family of its own; on the wire it is IPv4.
		if !in(a) && !in(netip.MustParseAddr(a).Unmap().String()) && a != "2001:db8:1::1" && a != "2001:db8:1::77" {
			t.Errorf("%s is open", a)
		}
	}
}
