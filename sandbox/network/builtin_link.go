package network

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"cove/sandbox/spec"
)

// BuiltinLink is what init makes for the network of cove's own driver: nothing of it is found out by attaching it. The addresses are those of the
// other drivers, so that nothing inside can tell by them.
func BuiltinLink(ipv6 bool) *spec.Link {
	l := &spec.Link{Interface: "tap0", Tun: true, MTU: BuiltinMTU, Addresses: []spec.Prefix{{IP: spec.IP{10, 0, 2, 100}, Bits: 24}}, DNS: []spec.IP{{10, 0, 2, 3}}}
	if ipv6 {
		l.Addresses = append(l.Addresses, spec.Prefix{IP: unique(0x100), Bits: 64})
		l.DNS = append(l.DNS, unique(3))
	}
	return l
}

// BuiltinLinkHere is BuiltinLink with IPv6 where this machine has a way out by it.
func BuiltinLinkHere() (*spec.Link, error) {
	ipv6, err := HasIPv6()
	if err != nil {
		return nil, err
	}
	return BuiltinLink(ipv6), nil
}

// BuiltinMTU is the largest that TCP's segments come in whole with.
const BuiltinMTU = 65520

// unique is the address fd00::n.
func unique(n uint16) spec.IP {
	return spec.IP{0: 0xfd, 14: byte(n >> 8), 15: byte(n)}
}

// HasIPv6 reports whether this machine has an IPv6 default route.
func HasIPv6() (bool, error) {
	routes, err := os.ReadFile("/proc/net/ipv6_route")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return hasDefault6(string(routes)), nil
}

// hasDefault6 reads /proc/net/ipv6_route: destination, its prefix length, source, its length, next
// hop, metric, references, use, flags, interface; all in hexadecimal. The kernel's own
// entry that refuses everything is a default route too, with RTF_REJECT.
func hasDefault6(table string) bool {
	const reject = 0x0200
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) != 10 || strings.Trim(f[0], "0") != "" || f[1] != "00" || f[9] == "lo" {
			continue
		}
		if flags, err := strconv.ParseUint(f[8], 16, 32); err == nil && len(f[8]) == 8 && flags&reject == 0 {
			return true
		}
	}
	return false
}
