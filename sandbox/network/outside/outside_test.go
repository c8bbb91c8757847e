package driver

import (
	"net/netip"
	"slices"
	"testing"
)

func TestHasDefault6(t *testing.T) {
	zeros := "00000000000000000000000000000000"
	line := func(dst, bits, flags, dev string) string {
		return dst + " " + bits + " " + zeros + " 00 " + zeros + " 00000400 00000001 00000000 " + flags + " " + dev + "\n"
	}
	for name, c := range map[string]struct {
		table string
		want  bool
	}{
		"none":     {"", false},
		"a route":  {line(zeros, "00", "00000003", "eth0"), true},
		"refusing": {line(zeros, "00", "00200200", "eth0"), false},
		"kernel's": {line(zeros, "00", "00200200", "lo"), false},
		"narrower": {line(zeros, "80", "00000001", "eth0") + line("20010db8000100000000000000000000", "40", "00000001", "eth0"), false},
		"broken":   {"what is this\n" + line(zeros, "00", "zz", "eth0"), false},
	} {
		if got := hasDefault6(c.table); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNameServers(t *testing.T) {
	for conf, want := range map[string][2]bool{
		"":                           {false, false},
		"nameserver 127.0.0.53\n":    {true, false},
		"nameserver fe80::1%eth0\n":  {false, true},
		"# nameserver ::1\nsearch x": {false, false},
		"nameserver ::1\nnameserver\t10.0.0.1 # mine": {true, true},
		"nameserver here": {false, false},
	} {
		if v4, v6 := nameServers(conf); v4 != want[0] || v6 != want[1] {
			t.Errorf("%q: %v, %v", conf, v4, v6)
		}
	}
}

func TestClosedHoldsTheHost(t *testing.T) {
	h := &outside{addresses: []netip.Prefix{
		netip.MustParsePrefix("203.0.113.7/24"), netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("2001:db8:5:6:7::8/48"), netip.MustParsePrefix("2001:db8:9::1/128"),
	}}
	closed := h.closed()
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
