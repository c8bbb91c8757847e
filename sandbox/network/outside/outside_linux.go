package driver

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
)

// outside is what a sandbox's network must know of the host's.
type outside struct {
	addresses  []netip.Prefix // every address of every interface, with its prefix
	ipv6       bool           // there is an IPv6 default route
	dns4, dns6 bool           // there is a name server of that family
}

func readHost() (*outside, error) {
	h := &outside{}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			h.addresses = append(h.addresses, netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits()))
		}
	}
	routes, err := os.ReadFile("/proc/net/ipv6_route")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	h.ipv6 = hasDefault6(string(routes))
	conf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	h.dns4, h.dns6 = nameServers(string(conf))
	return h, nil
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
		flags, err := hex.DecodeString(f[8])
		if err == nil && len(flags) == 4 && (uint32(flags[2])<<8|uint32(flags[3]))&reject == 0 {
			return true
		}
	}
	return false
}

// nameServers tells which families resolv.conf(5) has name servers of. Without any, the resolver
// means the one on this machine.
func nameServers(conf string) (v4, v6 bool) {
	s := bufio.NewScanner(strings.NewReader(conf))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			v4 = v4 || a.Unmap().Is4()
			v6 = v6 || !a.Unmap().Is4()
		}
	}
	return v4, v6
}
