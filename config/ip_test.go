package config

import (
	"net/netip"
	"testing"
)

// Whatever the text, ip and netip.Addr agree on whether it is an address, on which, and on how it is written.
func FuzzIP(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "0.0.0.0", "::", "::1", "1::", "fd00::1:0:0:2", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
		"::ffff:1.2.3.4", "1::2::3", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:1.2.3.4", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "+1.2.3.4", "::+1", "1:::2",
		":1", "1:", "12345::", "::g", "1.2.3.4::", "fe80::1%eth0", "", ":", ".", "::1.2.3", "0:0:1::", "::1:0:0:0:1", "1:0:0:2::", "::0:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseIP(s)
		want, err := netip.ParseAddr(s)
		valid := err == nil && want.Zone() == ""
		want = want.Unmap()
		switch {
		case ok != valid:
			t.Errorf("%q: %v, netip says %v", s, ok, err)
		case ok && (got.String() != want.String() || got.is4() != want.Is4() || got.unspecified() != want.IsUnspecified()):
			t.Errorf("%q: %s, netip says %s", s, got, want)
		}
	})
}
